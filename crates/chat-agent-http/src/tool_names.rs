//! Names of tools as the protocol allows them.
//!
//! The protocol takes letters, digits, `_` and `-`, at most 64. Tool servers may have other names,
//! and a model may call a tool that nobody has by a name that its own endpoint would refuse to read
//! again. Such a name is sent under another, always the same.

use std::borrow::Cow;
use std::collections::HashMap;

const MAX: usize = 64;

/// The name under which a tool is sent: its own if that is allowed.
pub fn sent_as(name: &str) -> Cow<'_, str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=MAX).contains(&name.len()) && name.chars().all(allowed) {
        return Cow::Borrowed(name);
    }
    // The hash keeps names apart that look the same after the change.
    let hash = format!("_{:016x}", fnv1a(name.as_bytes()));
    let readable = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(MAX - hash.len());
    Cow::Owned(readable.chain(hash.chars()).collect())
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same in every version and
/// process, as old turns must be sent in the same bytes forever.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The tools of a request: their own names by those that are sent.
#[derive(Debug, Default)]
pub struct ToolNames(HashMap<String, String>);

impl ToolNames {
    pub fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self(
            names
                .map(|name| (sent_as(name).into_owned(), name.to_owned()))
                .collect(),
        )
    }

    /// The tool's own name. Models write more than the name at times: `functions.add` (gpt-oss),
    /// `functions.add:0` (Kimi), or marks of their own behind it. If what they wrote is no tool,
    /// and the name in it is one, that is meant.
    pub fn own(&self, called: String) -> String {
        let known = |name: &str| {
            self.0
                .get(name)
                .or_else(|| self.0.values().find(|own| *own == name))
                .cloned()
        };
        let trimmed = called.trim();
        let unmarked = trimmed
            .split_once("<|")
            .map_or(trimmed, |(name, _)| name)
            .trim();
        let unnumbered = unmarked
            .rsplit_once(':')
            .filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
        let unnumbered = unnumbered.map_or(unmarked, |(name, _)| name);
        let without_prefix = |name: &'_ str| {
            let name = name
                .strip_prefix("functions")
                .or_else(|| name.strip_prefix("function"))
                .or_else(|| name.strip_prefix("tools"))?;
            name.strip_prefix(['.', ':', '/']).map(str::to_owned)
        };
        let candidates =
            [called.as_str(), trimmed, unmarked, unnumbered].map(|name| Some(name.to_owned()));
        let shorter = [trimmed, unmarked, unnumbered].map(without_prefix);
        candidates
            .into_iter()
            .chain(shorter)
            .flatten()
            .find_map(|name| known(&name))
            .unwrap_or(called)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_names_stay() {
        for name in ["add_task", "a-B-9", &"x".repeat(64)] {
            assert_eq!(sent_as(name), name);
        }
    }

    #[test]
    fn other_names_are_sent_under_an_allowed_one_of_their_own() {
        assert_eq!(sent_as("tasks.add"), "tasks_add_d6046e10c35f8460");
        let long = "x".repeat(65);
        let names = [
            "",
            "tasks.add",
            "tasks/add",
            "tasks add",
            "añadir",
            "aあadir",
            &long,
            &"y".repeat(1000),
        ];
        let sent: std::collections::HashSet<String> = names
            .iter()
            .map(|name| sent_as(name).into_owned())
            .collect();
        assert_eq!(sent.len(), names.len());
        assert!(sent.iter().all(|name| {
            name.len() <= 64
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        }));
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // From the test suite of the specification.
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn an_answer_gets_the_own_name_back() {
        let tools = ToolNames::of(["tasks.add", "list", "functions.odd", "odd"].into_iter());
        let sent = sent_as("tasks.add").into_owned();
        for called in [
            sent.as_str(),
            "tasks.add",
            "functions.tasks.add",
            &format!("functions.{sent}:12"),
        ] {
            assert_eq!(tools.own(called.into()), "tasks.add", "{called}");
        }
        for called in [
            "list",
            " list",
            "functions.list",
            "functions:list",
            "list<|channel|>commentary",
            "functions.list:0",
        ] {
            assert_eq!(tools.own(called.into()), "list", "{called}");
        }
        assert_eq!(tools.own("functions.odd".into()), "functions.odd");
        for unknown in ["unknown", "functions.unknown", "functions.", "listing"] {
            assert_eq!(tools.own(unknown.into()), unknown);
        }
    }
}
