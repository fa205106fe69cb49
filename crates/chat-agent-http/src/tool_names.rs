//! Tool names in the form that the protocol allows.
//!
//! The protocol allows letters, digits, `_` and `-`, and at most 64 characters. Tool servers may
//! use other names, and a model may call an unknown tool by a name that its own endpoint rejects in
//! the next request. Such a name is replaced by an allowed one, always the same.

use std::borrow::Cow;
use std::collections::HashMap;

const MAX_NAME_CHARS: usize = 64;

/// Returns the name under which a tool is sent: its own if that is allowed.
pub fn wire_name(name: &str) -> Cow<'_, str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(allowed) {
        return Cow::Borrowed(name);
    }
    // The hash keeps names distinct that are equal after the replacement.
    let hash = format!("_{:016x}", fnv1a(name.as_bytes()));
    let readable = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(MAX_NAME_CHARS - hash.len());
    Cow::Owned(readable.chain(hash.chars()).collect())
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>). Its result is the same in every
/// version and process, so old turns are always sent as the same bytes.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Maps the wire names of a request's tools to their original names.
#[derive(Debug, Default)]
pub struct ToolNames(HashMap<String, String>);

impl ToolNames {
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self(
            names
                .map(|name| (wire_name(name).into_owned(), name.to_owned()))
                .collect(),
        )
    }

    /// Returns the original name of a tool. Some models write more than the name: `functions.add`
    /// (gpt-oss), `functions.add:0` (Kimi), or a suffix of their own. If the text is not a tool's
    /// name but contains one, that tool is returned.
    pub fn original_name(&self, called: String) -> String {
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
    fn allowed_names_are_unchanged() {
        for name in ["add_task", "a-B-9", &"x".repeat(64)] {
            assert_eq!(wire_name(name), name);
        }
    }

    #[test]
    fn other_names_get_a_unique_allowed_name() {
        assert_eq!(wire_name("tasks.add"), "tasks_add_d6046e10c35f8460");
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
            .map(|name| wire_name(name).into_owned())
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
    fn the_hash_matches_published_values() {
        // From the test suite of the specification.
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn wire_names_and_variants_map_to_the_original_name() {
        let tools = ToolNames::new(["tasks.add", "list", "functions.odd", "odd"].into_iter());
        let sent = wire_name("tasks.add").into_owned();
        for called in [
            sent.as_str(),
            "tasks.add",
            "functions.tasks.add",
            &format!("functions.{sent}:12"),
        ] {
            assert_eq!(tools.original_name(called.into()), "tasks.add", "{called}");
        }
        for called in [
            "list",
            " list",
            "functions.list",
            "functions:list",
            "list<|channel|>commentary",
            "functions.list:0",
        ] {
            assert_eq!(tools.original_name(called.into()), "list", "{called}");
        }
        assert_eq!(tools.original_name("functions.odd".into()), "functions.odd");
        for unknown in ["unknown", "functions.unknown", "functions.", "listing"] {
            assert_eq!(tools.original_name(unknown.into()), unknown);
        }
    }
}
