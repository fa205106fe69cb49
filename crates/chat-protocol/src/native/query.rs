//! The parameters of a query.

use chat_domain::BusyPolicy;

use crate::cursor::InvalidCursor;
use crate::json::Quoted;
use crate::native::names::suggested_name;
use crate::problem::{Code, Problem};

/// The parameters of a query string.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the text after the question mark.
    pub fn new(text: &str) -> Self {
        Self(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// Rejects parameters other than `known`, those of the route.
    ///
    /// # Errors
    /// `invalid_request`, with the names of the parameters and a suggestion.
    pub fn check(&self, known: &[&'static str]) -> Result<(), Problem> {
        let Some((given, _)) = self
            .0
            .iter()
            .find(|(name, _)| !known.contains(&name.as_str()))
        else {
            return Ok(());
        };
        let shown = Quoted(given);
        let hint = suggested_name(given, known)
            .map(|name| format!(", use `{name}`"))
            .unwrap_or_default();
        let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
        let parameters = match names.as_slice() {
            [] => "The route has no parameters".to_owned(),
            [name] => format!("The route has the parameter {name}"),
            names => format!("The route has the parameters {}", names.join(", ")),
        };
        let reason = format!("Unknown parameter {shown}{hint}. {parameters}");
        Err(Problem::at_parameter(
            Code::InvalidRequest,
            shown.to_string().trim_matches('"').to_owned(),
            reason,
        ))
    }

    /// The value of a parameter.
    ///
    /// # Errors
    /// `invalid_request` if it is duplicate.
    pub fn get(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values = self
            .0
            .iter()
            .filter(|(given, _)| given == name)
            .map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(invalid_parameter(
                name,
                format!("Duplicate parameter `{name}`"),
            )),
        }
    }

    /// The value of a parameter with a fixed set of words; `otherwise` if it is absent.
    fn word<T: Copy>(
        &self,
        name: &'static str,
        words: &[(&str, T)],
        otherwise: T,
    ) -> Result<T, Problem> {
        let Some(given) = self.get(name)? else {
            return Ok(otherwise);
        };
        words
            .iter()
            .find(|(word, _)| *word == given)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let known: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
                invalid_parameter(
                    name,
                    format!("The parameter `{name}` is not one of {}", known.join(", ")),
                )
            })
    }

    /// `busy`: the policy if a turn of the conversation is running.
    ///
    /// # Errors
    /// `invalid_request` for an unknown word.
    pub fn busy(&self) -> Result<BusyPolicy, Problem> {
        let words = [
            ("enqueue", BusyPolicy::Enqueue),
            ("reject", BusyPolicy::Reject),
            ("interrupt", BusyPolicy::Interrupt),
        ];
        self.word("busy", &words, BusyPolicy::default())
    }

    /// `messages`: how much of the conversation a reply has.
    ///
    /// # Errors
    /// `invalid_request` for an unknown word.
    pub fn reply_scope(&self) -> Result<ReplyScope, Problem> {
        self.word(
            "messages",
            &[
                ("all", ReplyScope::Conversation),
                ("turn", ReplyScope::Turn),
            ],
            ReplyScope::Conversation,
        )
    }

    /// `superseded=include`: whether superseded turns are listed.
    ///
    /// # Errors
    /// `invalid_request` for an unknown word.
    pub fn superseded(&self) -> Result<bool, Problem> {
        self.word(
            "superseded",
            &[("include", true), ("exclude", false)],
            false,
        )
    }

    /// `limit`: the largest number of entries of a page.
    ///
    /// # Errors
    /// `invalid_request` unless it is a number from 1 to `most`.
    pub fn limit(&self, otherwise: u32, most: u32) -> Result<u32, Problem> {
        let Some(given) = self.get("limit")? else {
            return Ok(otherwise);
        };
        let digits = given.bytes().all(|byte| byte.is_ascii_digit());
        match given.parse() {
            Ok(limit) if digits && (1..=most).contains(&limit) => Ok(limit),
            _ => Err(invalid_parameter(
                "limit",
                format!("The parameter `limit` is not a number from 1 to {most}"),
            )),
        }
    }

    /// A cursor, decoded by `read`.
    ///
    /// # Errors
    /// `invalid_cursor` if `read` rejects it.
    pub fn cursor<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, InvalidCursor>,
    ) -> Result<Option<T>, Problem> {
        let read = |text| read(text).map_err(|_| invalid_cursor(name));
        self.get(name)?.map(read).transpose()
    }
}

/// How much of the conversation a reply has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyScope {
    /// The conversation up to the turn of the reply.
    Conversation,
    /// Only the turn of the reply.
    Turn,
}

/// The problem of a parameter that is not a cursor of its route.
pub fn invalid_cursor(parameter: &'static str) -> Problem {
    Problem::at_parameter(
        Code::InvalidCursor,
        parameter,
        format!("`{parameter}` is not a cursor of this route"),
    )
}

pub(crate) fn invalid_parameter(parameter: &'static str, what: String) -> Problem {
    Problem::at_parameter(Code::InvalidRequest, parameter, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::new(text)
    }

    #[test]
    fn words_and_numbers_are_parsed() {
        assert_eq!(query("").busy().unwrap(), BusyPolicy::Enqueue);
        assert_eq!(
            query("x=1&busy=interrupt").busy().unwrap(),
            BusyPolicy::Interrupt
        );
        assert_eq!(
            query("messages=turn").reply_scope().unwrap(),
            ReplyScope::Turn
        );
        assert!(query("superseded=include").superseded().unwrap());
        assert_eq!(query("").limit(20, 100).unwrap(), 20);
        assert_eq!(query("limit=%31%30%30").limit(20, 100).unwrap(), 100);
    }

    #[test]
    fn other_values_are_rejected_by_name() {
        let refused = |problem: Problem| {
            (
                problem.code,
                problem.members.parameter.as_deref().map(str::to_owned),
            )
        };
        for text in [
            "limit=",
            "limit=0",
            "limit=101",
            "limit=-1",
            "limit=+1",
            "limit=1.0",
            "limit=ten",
            "limit=99999999999",
            "limit=1&limit=1",
        ] {
            assert_eq!(
                refused(query(text).limit(20, 100).unwrap_err()),
                (Code::InvalidRequest, Some("limit".to_owned())),
                "{text}"
            );
        }
        for text in [
            "busy=",
            "busy=ENQUEUE",
            "busy=wait",
            "busy=reject&busy=reject",
        ] {
            assert_eq!(
                refused(query(text).busy().unwrap_err()),
                (Code::InvalidRequest, Some("busy".to_owned())),
                "{text}"
            );
        }
        let cursor = query("after=7").cursor("after", crate::cursor::read_conversation);
        assert_eq!(
            refused(cursor.unwrap_err()),
            (Code::InvalidCursor, Some("after".to_owned()))
        );
    }

    #[test]
    fn unknown_parameters_are_rejected_with_the_known_ones() {
        let refused = |text: &str, known: &[&'static str]| {
            let problem = query(text).check(known).unwrap_err();
            (
                problem.members.parameter.as_deref().unwrap().to_owned(),
                problem.detail(),
            )
        };
        assert!(
            query("limit=5&cursor=x")
                .check(&["limit", "cursor"])
                .is_ok()
        );
        assert!(query("").check(&[]).is_ok());
        let (parameter, detail) = refused("limit=5&after=x", &["limit", "cursor"]);
        assert_eq!(parameter, "after");
        assert!(
            detail.starts_with(
                "Unknown parameter \"after\", use `cursor`. The route has the parameters `limit`, \
                 `cursor`."
            ),
            "{detail}"
        );
        assert!(
            refused("x", &[])
                .1
                .starts_with("Unknown parameter \"x\". The route has no parameters.")
        );
        assert!(
            refused("Busy=reject", &["busy"])
                .1
                .contains("use `busy`. The route has the parameter `busy`")
        );
        assert!(refused(&"x".repeat(5_000), &[]).1.len() < 500);
    }
}
