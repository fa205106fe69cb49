//! Checks the evidence of a campaign: the answers that clients got against the stored rows, the
//! API, the tool runs and the agent's requests.

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
        /// A property that must hold in every campaign.
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
    Kept "kept" "Every acknowledged message is stored exactly once, and its owner can read it \
    from then on."
    Order "order" "Messages of a conversation are in the order of their acknowledgement."
    Refused "refused" "A message is rejected only for a permitted reason, and is then not stored."
    Unsent "unsent" "Every stored text was sent by a client or written by the agent."
    Idempotency "idempotency" "One idempotency key is one turn, for every request; a different \
    request with the same key is rejected."
    Answers "answers" "Every answer that a client received equals the stored one byte for byte."
    Streams "streams" "Every stream shows the stored turn without gaps and duplicates, however \
    often it was cut and resumed."
    Unchanging "unchanging" "Items that were read do not change; the API shows what the tables \
    contain."
    Cancels "cancels" "An acknowledged cancellation is kept, and the turn ends."
    Ends "ends" "No turn stays running or queued."
    Bounded "bounded" "The starts and the running time of a turn are bounded, even if the store \
    rejects writes."
    OneAtATime "one-at-a-time" "Turns of a conversation neither overlap nor interleave."
    Dense "dense" "Positions and ordinals of a conversation are dense."
    Transcripts "transcripts" "Each transcript that the agent received equals the log."
    WriteBeforeRun "write-before-run" "Every tool call that ran was stored before it ran."
    ToolsOnce "tools-once" "A call of a tool that is not repeatable runs at most once."
    ToolResults "tool-results" "Every call ends with its tool's result or as unknown."
    Isolation "isolation" "No user sees or changes data of another user."
    Answered "answered" "Every request is answered."
    Mistakes "mistakes" "No server reported an internal error, panicked or exited by itself."
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

/// A violated property, with the evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    pub property: Property,
    pub evidence: String,
}

/// Collects violations.
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

/// Returns all violations.
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

/// Returns the user that a text belongs to: users' messages start with `name:`, and the agent
/// repeats that.
fn user_of(text: &str) -> Option<&str> {
    let text = match text.strip_prefix('#') {
        Some(text) => text.split_once(' ')?.1,
        None => text,
    };
    text.split_once(':').map(|(user, _)| user)
}

/// Shortens a text to fit into a line.
fn short(text: &str) -> String {
    let end = text.floor_char_boundary(160);
    if end < text.len() {
        format!("{:?}…", &text[..end])
    } else {
        format!("{text:?}")
    }
}
