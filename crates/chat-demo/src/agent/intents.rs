//! The table of intents, and the match of a message against it.

use std::sync::LazyLock;

use regex_lite::Regex;

use Reply::{Call, List, Say};

/// The phrases that ask for something, and what the agent does then.
///
/// A phrase is a regular expression for the whole message. Case, courtesy ("please") and
/// punctuation at the end do not matter. [`expand`] lists the placeholders, such as `{task}` and
/// `{title}`.
struct Intent(&'static [&'static str], Reply);

/// What the agent does about an intent.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// Gives this answer.
    Say(&'static str),
    /// Lists the tasks of a status under a heading; `empty` is the answer if there are none.
    List {
        status: &'static str,
        heading: &'static str,
        empty: &'static str,
    },
    /// Calls a tool. The arguments may use `{task_id}` and `{title}` of the request, the answer
    /// those of the tool's result.
    Call {
        tool: &'static str,
        arguments: &'static str,
        answer: &'static str,
    },
}

/// The phrases that the agent advertises.
pub(super) const HELP: &str = "I keep your task list. You can say, for example:\n\
     - Add task: Buy groceries\n\
     - What is on my list?\n\
     - Complete the first one\n\
     - Rename task 2 to Buy oat milk\n\
     - Delete the last one";

/// All intents. The first that matches a message counts.
const INTENTS: &[Intent] = &[
    Intent(
        &["hi|hello|hey|(hi|hello) there|good (morning|afternoon|evening)"],
        Say("Hello! I keep your task list. Tell me what to add, or ask what is on your list."),
    ),
    Intent(
        &["help( me)?|what can (you|i) do|what can i say"],
        Say(HELP),
    ),
    Intent(
        &["(many )?thanks( a lot)?|thank you( very much)?"],
        Say("You are welcome."),
    ),
    Intent(
        &["no|nope|never ?mind|cancel|stop|forget it"],
        Say("All right, I leave everything as it is."),
    ),
    Intent(
        &["(add|new|create)( {a task})?( to {list})?"],
        Say("What should I add? Say, for example: Add task: Buy groceries"),
    ),
    Intent(
        &[
            "((add|new|create)( {a task})?( to {list})?|{a task}):{text}",
            "(add|create|new) {a task} (to|called|named) {title}",
            "(add|put) {title} (to|on) {list}",
            "(add|create|new) {a task} {title}",
            "add {title}",
            "(remind me|remember|don['’]t forget) to {title}",
        ],
        Call {
            tool: "add_task",
            arguments: r#"{"title":{title}}"#,
            answer: "Added '{title}' to your tasks.",
        },
    ),
    Intent(
        &[r"(what|which|show|list)\b.*\b(left|pending|open|next|not done|unfinished|still)\b.*"],
        List {
            status: "pending",
            heading: "This is left to do:",
            empty: "Nothing is left to do.",
        },
    ),
    Intent(
        &[r"(what|which|show|list)\b.*\b(done|completed|finished)\b.*"],
        List {
            status: "completed",
            heading: "This is done:",
            empty: "You have not completed a task yet.",
        },
    ),
    Intent(
        &[
            "list|{list}",
            r"(whats?|which|show|list|see|view|check|how many|do i|anything)\b.*\b{list}\b.*",
            "what do i have( to do)?",
        ],
        List {
            status: "all",
            heading: "Here are your tasks:",
            empty: "You have no tasks yet.",
        },
    ),
    Intent(
        &[
            "(i['’]m |i am )?done with {task}",
            "(complete|finish|done)( {task})?",
            "(check|tick|cross) off {task}",
            "(mark|set|check) {task}( as| to)? (done|completed?|finished|off)",
            "(change|update) {task} to (done|completed?|finished)",
            "i( have|['’]ve)? (finished|completed|done) {task}",
        ],
        Call {
            tool: "complete_task",
            arguments: r#"{"task_id":{task_id}}"#,
            answer: "Marked '{title}' as done.",
        },
    ),
    Intent(
        &["(rename|change|update|edit)( the title of)? {task} to:? {title}"],
        Call {
            tool: "update_task",
            arguments: r#"{"task_id":{task_id},"title":{title}}"#,
            answer: "Renamed task {task_id} to '{title}'.",
        },
    ),
    Intent(
        &[r"(rename|change|update|edit)\b.*"],
        Say("What should the new title be? Say, for example: Rename task 2 to Buy oat milk"),
    ),
    Intent(
        &[
            "(delete|remove|take) {task} (from|off) {list}",
            "(delete|remove|get rid of)( {task})?",
        ],
        Call {
            tool: "delete_task",
            arguments: r#"{"task_id":{task_id}}"#,
            answer: "Deleted '{title}' from your tasks.",
        },
    ),
];

/// An intent with what the message says about it.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) reply: &'static Reply,
    /// The user's words for a task, such as "the first one". Empty if there are none.
    pub(super) task: String,
    /// The title of a task. Empty if there is none.
    pub(super) title: String,
}

/// Finds the intent of a message.
pub(super) fn recognize(message: &str) -> Option<Request> {
    static PHRASES: LazyLock<Vec<(Regex, &Reply)>> = LazyLock::new(|| {
        let pairs = INTENTS
            .iter()
            .flat_map(|Intent(phrases, reply)| phrases.iter().map(move |phrase| (phrase, reply)));
        // A test shows that every phrase compiles.
        pairs
            .filter_map(|(phrase, reply)| Some((expand(phrase).ok()?, reply)))
            .collect()
    });
    PHRASES.iter().find_map(|(phrase, reply)| {
        let found = phrase.captures(message)?;
        let text = |name| found.name(name).map_or("", |text| text.as_str());
        Some(Request {
            reply,
            task: text("task").to_owned(),
            title: without_quotes(text("title")),
        })
    })
}

/// Replaces the placeholders of a phrase and allows for courtesy and punctuation around it.
fn expand(phrase: &str) -> Result<Regex, regex_lite::Error> {
    let phrase = phrase
        .replace("{task}", "(?<task>.+?)")
        // A title ends before courtesy; a text after a colon is taken as it is written.
        .replace("{title}", "(?<title>.+?)")
        .replace("{text}", r"\s*(?<title>.+)")
        .replace(
            "{list}",
            "(my |the )?((task|to-?do|shopping) )?(list|tasks|to-?dos)",
        )
        .replace(
            "{a task}",
            "(an? |the |another )?(new )?(task|to-?do|reminder)",
        )
        .replace(' ', r"\s+");
    let courtesy =
        r"(please|hey|hi|hello|ok|now|and|(can|could|would)\s+you|can\s+i|i\s+want\s+to)";
    Regex::new(&format!(
        r"(?is)^\s*({courtesy}[\s,!.]+)*({phrase})(,?\s+please|,\s+(thanks|thank\s+you))?[\s.,!?]*$"
    ))
}

/// A title without punctuation at its end and without the quotation marks around it.
fn without_quotes(title: &str) -> String {
    const QUOTES: [(char, char); 4] = [('"', '"'), ('\'', '\''), ('“', '”'), ('‘', '’')];
    let title = title.trim().trim_end_matches(['.', ',', ';', '!']);
    let quoted = QUOTES.iter().find_map(|(open, close)| {
        let inner = title.strip_prefix(*open)?.strip_suffix(*close)?;
        // Marks inside belong to several quotations.
        (!inner.contains(*close)).then_some(inner)
    });
    quoted.unwrap_or(title).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tool or status, the task and the title of a message.
    fn request(message: &str) -> (&'static str, String, String) {
        let Some(Request { reply, task, title }) = recognize(message) else {
            return ("", String::new(), String::new());
        };
        let name = match reply {
            Say(answer) => answer,
            List { status, .. } => status,
            Call { tool, .. } => tool,
        };
        (name, task, title)
    }

    #[test]
    fn every_phrase_compiles() {
        for phrase in INTENTS.iter().flat_map(|Intent(phrases, _)| *phrases) {
            assert!(expand(phrase).is_ok(), "{phrase}");
        }
    }

    #[test]
    fn every_example_of_the_help_is_recognized() {
        for example in HELP.lines().filter_map(|line| line.strip_prefix("- ")) {
            let reply = recognize(example).map(|request| request.reply);
            assert!(
                matches!(reply, Some(List { .. } | Call { .. })),
                "{example}"
            );
        }
    }

    #[test]
    fn titles_are_captured() {
        for (message, title) in [
            ("Add task: Buy groceries", "Buy groceries"),
            ("ADD  MILK TO MY LIST!", "MILK"),
            (
                "Could you add a new task called Water the plants, please?",
                "Water the plants",
            ),
            ("please add \"Call mom\" to my to-do list", "Call mom"),
            ("Add to my list: eggs", "eggs"),
            (
                "Remind me to call the dentist at 9:30.",
                "call the dentist at 9:30",
            ),
            ("new task: Delete old files", "Delete old files"),
            ("todo:pay rent", "pay rent"),
            ("Add task: say please", "say please"),
            ("add task: what? why?", "what? why?"),
            ("add \"who is it?\"", "who is it?"),
            ("Add party 🎉, thanks!", "party 🎉"),
            ("Add task: \"Buy 'milk'\" 🥛", "\"Buy 'milk'\" 🥛"),
            (
                "Add task: \"Write report\", \"Send it\"",
                "\"Write report\", \"Send it\"",
            ),
            ("add ‘tea’", "tea"),
            ("add the new keyboard to my list", "the new keyboard"),
        ] {
            assert_eq!(
                request(message),
                ("add_task", String::new(), title.to_owned()),
                "{message}"
            );
        }
    }

    #[test]
    fn tasks_are_captured() {
        for (message, tool, task, title) in [
            (
                "Complete the first one",
                "complete_task",
                "the first one",
                "",
            ),
            (
                "Mark the last one as completed, please.",
                "complete_task",
                "the last one",
                "",
            ),
            ("check off milk", "complete_task", "milk", ""),
            (
                "I'm done with the report",
                "complete_task",
                "the report",
                "",
            ),
            ("change task 2 to done", "complete_task", "task 2", ""),
            ("done with milk", "complete_task", "milk", ""),
            ("done!", "complete_task", "", ""),
            (
                "update task 2 to Get it done",
                "update_task",
                "task 2",
                "Get it done",
            ),
            (
                "Rename task 2 to Buy oat milk",
                "update_task",
                "task 2",
                "Buy oat milk",
            ),
            (
                "change the title of it to \"Go to town\"",
                "update_task",
                "it",
                "Go to town",
            ),
            ("Delete the last one", "delete_task", "the last one", ""),
            (
                "remove the milk from my list",
                "delete_task",
                "the milk",
                "",
            ),
            ("delete", "delete_task", "", ""),
        ] {
            assert_eq!(
                request(message),
                (tool, task.to_owned(), title.to_owned()),
                "{message}"
            );
        }
    }

    #[test]
    fn other_messages_have_a_fixed_answer_or_none() {
        for (message, expected) in [
            ("What is on my list?", "all"),
            ("What’s on my to-do list?", "all"),
            ("Show my tasks", "all"),
            ("list", "all"),
            ("what's left?", "pending"),
            ("Which tasks are done?", "completed"),
            ("What can you do?", HELP),
            ("ok, thanks!", "You are welcome."),
            (
                "Add a task",
                "What should I add? Say, for example: Add task: Buy groceries",
            ),
            (
                "rename the first one",
                "What should the new title be? Say, for example: Rename task 2 to Buy oat milk",
            ),
            ("did you delete it?", ""),
            ("is it done?", ""),
            ("undo", ""),
            ("", ""),
            ("买牛奶", ""),
        ] {
            assert_eq!(request(message).0, expected, "{message}");
        }
    }
}
