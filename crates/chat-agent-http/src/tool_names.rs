//! Names of tools as the protocol allows them.
//!
//! The protocol takes letters, digits, `_` and `-`, at most 64. Tool servers may have other names, and a model may call a tool that
//! nobody has by a name that its own endpoint would refuse to read again. Such a name is sent under another, always the same.

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
    let readable = name.chars().map(|c| if allowed(c) { c } else { '_' }).take(MAX - hash.len());
    Cow::Owned(readable.chain(hash.chars()).collect())
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same in every version and process, as old turns must be sent
/// in the same bytes for ever.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The tools of a request that are sent under other names.
#[derive(Debug, Default)]
pub struct Renamed(HashMap<String, String>);

impl Renamed {
    pub fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let renamed = |name: &'a str| match sent_as(name) {
            Cow::Borrowed(_) => None,
            Cow::Owned(sent) => Some((sent, name.to_owned())),
        };
        Self(names.filter_map(renamed).collect())
    }

    /// The tool's own name.
    pub fn own(&self, sent: String) -> String {
        self.0.get(&sent).cloned().unwrap_or(sent)
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
        let names = ["", "tasks.add", "tasks/add", "tasks add", "añadir", "aあadir", &long, &"y".repeat(1000)];
        let sent: std::collections::HashSet<String> = names.iter().map(|name| sent_as(name).into_owned()).collect();
        assert_eq!(sent.len(), names.len());
        assert!(sent.iter().all(|name| name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')));
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // From the test suite of the specification.
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn an_answer_gets_the_own_name_back() {
        let renamed = Renamed::of(["tasks.add", "list"].into_iter());
        assert_eq!(renamed.own(sent_as("tasks.add").into_owned()), "tasks.add");
        assert_eq!(renamed.own("list".into()), "list");
        assert_eq!(renamed.own("unknown".into()), "unknown");
    }
}
