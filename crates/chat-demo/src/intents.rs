//! The table of intents, and the match of a message against it.

use std::sync::LazyLock;

use regex_lite::Regex;

use Reply::{Call, List, Say};

/// An agent's reply to an intent.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    /// Gives this answer.
    Say(&'static str),
    /// Lists all tasks.
    List,
    /// Calls a tool. `{task_id}` and `{title}` in the arguments are replaced by those of the
    /// request; in the answer, by those of the tool's result.
    Call {
        tool: &'static str,
        arguments: &'static str,
        answer: &'static str,
    },
}

/// The answer to "What can you do?", with an example of each intent.
pub(crate) const HELP: &str = "I keep your task list. You can say, for example:\n\
     - Add task: Buy groceries\n\
     - What is on my list?\n\
     - Complete the first one\n\
     - Delete task 2";

/// Phrases and replies. The first phrase that matches a message applies.
///
/// A phrase is a regular expression for the whole message, in which `(?<title>…)` is the title of
/// a new task and `(?<task>…)` refers to a task. Case and final punctuation are ignored.
const INTENTS: &[(&str, Reply)] = &[
    ("help|what can you do", Say(HELP)),
    ("(what is|what's|show) (on )?my (list|tasks)|list", List),
    (
        "(add task:|add) (?<title>.+?)",
        Call {
            tool: "add_task",
            arguments: r#"{"title":{title}}"#,
            answer: "Added '{title}' to your tasks.",
        },
    ),
    (
        "complete (?<task>.+?)",
        Call {
            tool: "complete_task",
            arguments: r#"{"task_id":{task_id}}"#,
            answer: "Marked '{title}' as done.",
        },
    ),
    (
        "delete (?<task>.+?)",
        Call {
            tool: "delete_task",
            arguments: r#"{"task_id":{task_id}}"#,
            answer: "Deleted '{title}' from your tasks.",
        },
    ),
];

/// An intent with the parts of the message that it needs.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) reply: &'static Reply,
    /// Refers to a task, such as "the first one". Empty if the intent needs no task.
    pub(crate) task: String,
    /// Title of a new task. Empty if the intent needs no title.
    pub(crate) title: String,
}

/// Finds the intent of a message.
pub(crate) fn recognize(message: &str) -> Option<Request> {
    static PATTERNS: LazyLock<Vec<(Regex, &Reply)>> = LazyLock::new(|| {
        // A test compiles every phrase.
        let compile = |(phrase, reply)| Some((pattern(phrase).ok()?, reply));
        let intents = INTENTS.iter().map(|(phrase, reply)| (*phrase, reply));
        intents.filter_map(compile).collect()
    });
    PATTERNS.iter().find_map(|(pattern, reply)| {
        let captures = pattern.captures(message)?;
        let group = |name| captures.name(name).map_or("", |text| text.as_str());
        Some(Request {
            reply,
            task: group("task").to_lowercase(),
            title: group("title").to_owned(),
        })
    })
}

fn pattern(phrase: &str) -> Result<Regex, regex_lite::Error> {
    let phrase = phrase.replace(' ', r"\s+");
    Regex::new(&format!(r"(?is)^\s*({phrase})[\s.!?]*$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phrase_compiles() {
        for (phrase, _) in INTENTS {
            assert!(pattern(phrase).is_ok(), "{phrase}");
        }
    }

    #[test]
    fn every_example_of_the_help_is_recognized() {
        for example in HELP.lines().filter_map(|line| line.strip_prefix("- ")) {
            let reply = recognize(example).map(|request| request.reply);
            assert!(matches!(reply, Some(List | Call { .. })), "{example}");
        }
    }

    #[test]
    fn titles_and_tasks_are_captured() {
        for (message, task, title) in [
            ("Add task: Buy groceries", "", "Buy groceries"),
            ("  ADD  MILK!", "", "MILK"),
            ("add Buy \"oat\" milk 🥛", "", "Buy \"oat\" milk 🥛"),
            ("Complete the first one.", "the first one", ""),
            ("DELETE Task 2", "task 2", ""),
        ] {
            let request = recognize(message).expect(message);
            assert_eq!(
                (request.task, request.title),
                (task.to_owned(), title.to_owned())
            );
        }
    }

    #[test]
    fn other_messages_are_not_recognized() {
        for message in ["", "add", "Did you delete it?", "tell me a joke", "买牛奶"] {
            assert_eq!(recognize(message), None, "{message}");
        }
    }
}
