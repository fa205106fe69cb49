//! Suggestions for misspelt names.

/// Names that other APIs use for a parameter, and this API's names in the order of preference.
const OTHER_NAMES: &[(&[&str], &[&str])] = &[
    (
        &[
            "after",
            "cursor",
            "next",
            "nextcursor",
            "offset",
            "page",
            "pagetoken",
            "startingafter",
            "lasteventid",
        ],
        &["cursor", "after"],
    ),
    (
        &[
            "before",
            "endingbefore",
            "previouscursor",
            "prev",
            "previous",
        ],
        &["before", "cursor"],
    ),
    (
        &[
            "count",
            "first",
            "max",
            "maxresults",
            "n",
            "pagesize",
            "perpage",
            "size",
            "take",
            "top",
        ],
        &["limit"],
    ),
];

/// A name without case, underscores, hyphens and a final `s`.
fn folded(name: &str) -> String {
    let mut folded: String = name
        .chars()
        .filter(|letter| !matches!(letter, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect();
    if folded.len() > 1 && folded.ends_with('s') {
        folded.pop();
    }
    folded
}

/// The name among `known` that equals a given one except for case, underscores, a plural or one
/// letter.
pub fn similar_name<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    // No name of this API is longer, and comparing long texts would be slow.
    if given.len() > 64 {
        return None;
    }
    let given = folded(given);
    known.iter().copied().find(|name| {
        let name = folded(name);
        name == given || (name.chars().count() > 3 && is_one_edit_away(&name, &given))
    })
}

/// A similar name among `known`, or the name that other APIs use for it.
pub fn suggested_name<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    similar_name(given, known).or_else(|| {
        let plain: String = given
            .chars()
            .filter(|letter| !matches!(letter, '_' | '-'))
            .flat_map(char::to_lowercase)
            .take(64)
            .collect();
        let (_, ours) = OTHER_NAMES
            .iter()
            .find(|(others, _)| others.contains(&plain.as_str()))?;
        ours.iter()
            .find_map(|name| known.iter().copied().find(|known| known == name))
    })
}

/// Whether one substitution, deletion, insertion or transposition turns one word into the other.
fn is_one_edit_away(one: &str, other: &str) -> bool {
    let (one, other): (Vec<_>, Vec<_>) = (one.chars().collect(), other.chars().collect());
    let start = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let (one, other) = (
        one.get(start..).unwrap_or_default(),
        other.get(start..).unwrap_or_default(),
    );
    match (one, other) {
        ([_, one @ ..], [_, other @ ..]) if one == other => true,
        ([_, one @ ..], other) if one == other => true,
        (one, [_, other @ ..]) if one == other => true,
        ([a, b, one @ ..], [c, d, other @ ..]) => (a, b) == (d, c) && one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_similar_names_are_recognised() {
        let known = ["message", "conversation_id"];
        for (given, expected) in [
            ("conversationId", "conversation_id"),
            ("ConversationID", "conversation_id"),
            ("conversation-id", "conversation_id"),
            ("conversation_ids", "conversation_id"),
            ("conversaton_id", "conversation_id"),
            ("Message", "message"),
            ("messages", "message"),
            ("mesage", "message"),
            ("messsage", "message"),
            ("massage", "message"),
            ("emssage", "message"),
        ] {
            assert_eq!(similar_name(given, &known), Some(expected), "{given}");
        }
        for other in [
            "",
            "m",
            "msg",
            "text",
            "content",
            "metadata",
            "conversation",
            "id",
            "x",
            "message_conversation_id",
            &"m".repeat(100),
        ] {
            assert_eq!(similar_name(other, &known), None, "{other}");
        }
    }

    #[test]
    fn names_of_other_apis_are_mapped_to_ours() {
        assert_eq!(
            suggested_name("after", &["limit", "cursor"]),
            Some("cursor")
        );
        assert_eq!(
            suggested_name("starting_after", &["limit", "before", "after"]),
            Some("after")
        );
        assert_eq!(
            suggested_name("cursor", &["limit", "before", "after"]),
            Some("after")
        );
        assert_eq!(
            suggested_name("pageSize", &["limit", "cursor"]),
            Some("limit")
        );
        assert_eq!(
            suggested_name("before", &["limit", "cursor"]),
            Some("cursor")
        );
        assert_eq!(suggested_name("after", &["busy"]), None);
        assert_eq!(suggested_name("limits", &["limit"]), Some("limit"));
        assert_eq!(suggested_name("nonsense", &["limit"]), None);
    }
}
