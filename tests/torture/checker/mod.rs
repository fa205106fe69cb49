//! Judges a campaign by its evidence: what clients were told against what is stored, shown, was run
//! and was asked.

mod answers;
mod bounds;
mod log;
mod messages;
mod requests;
mod streams;
#[cfg(test)]
mod tests;
mod tools;
mod transcripts;

use std::fmt;
use std::str::FromStr;

use crate::evidence::{Evidence, Log};

macro_rules! properties {
    ($($name:ident $code:literal $sentence:literal)+) => {
        /// What must hold, whatever happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Property {
            $(#[doc = $sentence] $name),+
        }

        impl Property {
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence),+ }
            }
        }
    };
}

properties! {
    Kept "kept" "Every acknowledged message is stored exactly once, and found by its owner from then on."
    Order "order" "Messages of a conversation have the order in which they were acknowledged."
    Refused "refused" "A message is refused only where it may be, and then it is not stored."
    Unsent "unsent" "Nothing is stored that no client sent and no agent said."
    Idempotency "idempotency" "One idempotency key is one turn, for every request and forever; another request under it is refused."
    Answers "answers" "Every answer that a client was given is the stored one, byte for byte."
    Streams "streams" "Every stream, however often it was cut and resumed, told the stored turn without gap and double."
    Unchanging "unchanging" "What was read once is read ever after; the API shows what the tables hold."
    Cancels "cancels" "A cancel that was heard is kept, and the turn ends."
    Ends "ends" "No turn runs or waits forever."
    Bounded "bounded" "A turn starts as often and runs as long as it may, whatever the store does."
    OneAtATime "one-at-a-time" "Turns of a conversation neither overlap nor interleave."
    Dense "dense" "Positions and ordinals of a conversation are dense."
    Transcripts "transcripts" "Each transcript that the agent was sent is what the log says."
    WriteBeforeRun "write-before-run" "Every tool call that ran was stored before it ran."
    ToolsOnce "tools-once" "A call of a tool that may not be repeated runs at most once."
    ToolResults "tool-results" "Every call ends with the result that its tool gave, or as unknown."
    Isolation "isolation" "Nobody sees or changes what is another's."
    Answered "answered" "No request waits forever."
    Mistakes "mistakes" "No server made a mistake, panicked or ended by itself."
}

impl FromStr for Property {
    type Err = String;

    fn from_str(code: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|property| property.code() == code)
            .ok_or_else(|| format!("there is no property `{code}`"))
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A property that did not hold, and what shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    pub property: Property,
    pub evidence: String,
}

/// What is noticed while checking.
#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, property: Property, evidence: impl Into<String>) {
        self.0.push(Violation {
            property,
            evidence: evidence.into(),
        });
    }

    fn require(&mut self, holds: bool, property: Property, evidence: impl FnOnce() -> String) {
        if !holds {
            self.add(property, evidence());
        }
    }
}

/// All violations.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let log = Log::of(&evidence.tables);
    let mut findings = Findings::default();
    messages::check(evidence, &log, &mut findings);
    answers::check(evidence, &log, &mut findings);
    streams::check(evidence, &log, &mut findings);
    log::check(evidence, &log, &mut findings);
    transcripts::check(evidence, &log, &mut findings);
    tools::check(evidence, &log, &mut findings);
    requests::check(evidence, &log, &mut findings);
    bounds::check(evidence, &log, &mut findings);
    findings.0
}

/// The user a text belongs to: users' messages begin with `name:`, and the agent repeats that.
fn user_of(text: &str) -> Option<&str> {
    let text = match text.strip_prefix('#') {
        Some(said) => said.split_once(' ')?.1,
        None => text,
    };
    text.split_once(':').map(|(user, _)| user)
}

/// A text of any length as it fits into a line.
fn short(text: &str) -> String {
    let end = text.floor_char_boundary(160);
    if end < text.len() {
        format!("{:?}…", &text[..end])
    } else {
        format!("{text:?}")
    }
}
