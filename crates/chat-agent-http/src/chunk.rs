//! The JSON of an answer: a stream's event (`chat.completion.chunk`), or a whole answer
//! (`chat.completion`), which has the same shape with `message` for `delta`.
//!
//! Servers differ. Text, calls and the finish reason are read in every form that is known, and only
//! they can be wrong; all else is taken if it is there.

use serde_json::value::RawValue;

use crate::agent_data::{CALL_MEMBERS, MESSAGE_MEMBERS, is_reasoning_part};
use crate::json::{Node, Object, Text};

/// What an event says of the answer.
#[derive(Debug, Default)]
pub struct Chunk<'a> {
    pub choices: Vec<Choice<'a>>,
    pub usage: TokensUsed,
}

/// The first choice: only one answer is asked for.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    pub text: Text,
    pub calls: Vec<Fragment>,
    /// A call in the form that came before `tool_calls`.
    pub function_call: Option<Fragment>,
    /// Members of the message that the server wants back.
    pub kept: Vec<(&'static str, &'a RawValue)>,
    /// Parts of the content that are thoughts of the model.
    pub thoughts: Vec<&'a RawValue>,
    /// Lower case; `None` if the answer goes on.
    pub finish: Option<String>,
    /// Whether it is the whole message, as in an answer that is no stream.
    pub is_message: bool,
    /// An error of this choice.
    pub error: Option<&'a RawValue>,
}

/// A part of a tool call, or a whole one.
#[derive(Debug, Default)]
pub struct Fragment {
    pub index: Option<u64>,
    pub id: String,
    pub tool: Text,
    pub arguments: Text,
    /// Members that the server wants back.
    pub kept: Vec<(&'static str, Box<RawValue>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokensUsed {
    pub input: Option<u64>,
    pub output: Option<u64>,
}

/// Which member is in no known form, and what it is instead.
pub type Unreadable = String;

fn unreadable<T>(at: &str, node: &Node<'_>) -> Result<T, Unreadable> {
    Err(format!("{at} is {}", node.kind()))
}

impl<'a> Chunk<'a> {
    /// Reads an event.
    ///
    /// # Errors
    /// Its text or its calls are in no form that is known.
    pub fn read(event: &Object<'a>) -> Result<Self, Unreadable> {
        let mut chunk = Self {
            choices: Vec::new(),
            usage: TokensUsed::default().or(&event.get("usage")),
        };
        let choices = match event.get("choices") {
            Node::List(choices) => choices.into_iter().map(Node::of).collect(),
            node @ Node::Object(_) => vec![node],
            node if node.is_blank() => Vec::new(),
            node => return unreadable("choices", &node),
        };
        for choice in choices {
            match choice {
                Node::Object(choice) => {
                    chunk.usage = chunk.usage.or(&choice.get("usage"));
                    if choice.get("index").number().unwrap_or(0) == 0 {
                        chunk.choices.push(Choice::read(&choice)?);
                    }
                }
                node if node.is_blank() => {}
                node => return unreadable("choices[0]", &node),
            }
        }
        Ok(chunk)
    }
}

impl TokensUsed {
    /// With what is said there in place of what is not known here.
    fn or(self, usage: &Node<'_>) -> Self {
        let Node::Object(usage) = usage else {
            return self;
        };
        let read = |names: [&str; 2]| names.into_iter().find_map(|name| usage.get(name).number());
        Self {
            input: self
                .input
                .or_else(|| read(["prompt_tokens", "input_tokens"])),
            output: self
                .output
                .or_else(|| read(["completion_tokens", "output_tokens"])),
        }
    }
}

impl<'a> Choice<'a> {
    fn read(choice: &Object<'a>) -> Result<Self, Unreadable> {
        let mut read = Self {
            finish: finish(&choice.get("finish_reason")),
            error: choice.raw("error"),
            ..Self::default()
        };
        let (delta, message) = (choice.get("delta"), choice.get("message"));
        read.is_message = delta.is_blank() && matches!(message, Node::Object(_));
        let (at, delta) = if read.is_message {
            ("message", message)
        } else {
            ("delta", delta)
        };
        match delta {
            Node::Object(delta) => read.add_delta(at, &delta)?,
            // Some servers send the text itself.
            Node::Text(text) => read.text.push(&text),
            node if node.is_blank() => {}
            node => return unreadable(at, &node),
        }
        if let Node::Text(text) = choice.get("text") {
            read.text.push(&text);
        }
        Ok(read)
    }

    fn add_delta(&mut self, at: &str, delta: &Object<'a>) -> Result<(), Unreadable> {
        if let Some(content) = delta.raw("content") {
            self.add_content(&format!("{at}.content"), content, 0)?;
        }
        // Words with which the model itself declines
        // (<https://platform.openai.com/docs/guides/structured-outputs#refusals>).
        if let Node::Text(refusal) = delta.get("refusal") {
            self.text.push(&refusal);
        }
        let calls = match delta.get("tool_calls") {
            Node::List(calls) => calls.into_iter().map(Node::of).collect(),
            node @ Node::Object(_) => vec![node],
            node if node.is_blank() => Vec::new(),
            node => return unreadable(&format!("{at}.tool_calls"), &node),
        };
        for call in calls {
            match call {
                Node::Object(call) => self.calls.push(Fragment::read(&call)),
                node if node.is_blank() => {}
                node => return unreadable(&format!("{at}.tool_calls[0]"), &node),
            }
        }
        if let Node::Object(call) = delta.get("function_call") {
            self.function_call = Some(
                Fragment {
                    index: None,
                    ..Fragment::default()
                }
                .with_function(&call),
            );
        }
        let kept = MESSAGE_MEMBERS
            .iter()
            .filter_map(|name| Some((*name, delta.raw(name)?)));
        self.kept
            .extend(kept.filter(|(_, value)| !Node::of(value).is_blank()));
        Ok(())
    }

    /// A string, a list of parts, or one part.
    fn add_content(
        &mut self,
        at: &str,
        content: &'a RawValue,
        depth: usize,
    ) -> Result<(), Unreadable> {
        match Node::of(content) {
            Node::Text(text) => self.text.push(&text),
            Node::Number(number) => self.text.push(&Text::from(number)),
            Node::List(parts) if depth < 2 => parts
                .into_iter()
                .try_for_each(|part| self.add_content(at, part, depth + 1))?,
            Node::Object(part) if is_reasoning_part(&part.word("type")) => {
                self.thoughts.push(content)
            }
            Node::Object(part) => match (part.get("text"), part.get("refusal")) {
                (Node::Text(text), _) | (_, Node::Text(text)) => self.text.push(&text),
                (Node::Object(text), _) if text.has("value") => {
                    self.text.push(&Text::from(text.word("value").as_str()))
                }
                _ => tracing::debug!("a part of the agent's content that is no text is left out"),
            },
            node if node.is_blank() => {}
            node => return unreadable(at, &node),
        }
        Ok(())
    }
}

impl Fragment {
    fn read(call: &Object<'_>) -> Self {
        let id = match call.get("id") {
            Node::Text(id) => id.into_string(),
            Node::Number(id) => id.to_owned(),
            _ => String::new(),
        };
        let kept = CALL_MEMBERS
            .iter()
            .filter_map(|name| Some((*name, call.raw(name)?)));
        let kept = kept
            .filter(|(_, value)| !Node::of(value).is_blank())
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        let fragment = Self {
            index: call.get("index").number(),
            id,
            kept,
            ..Self::default()
        };
        match call.get("function") {
            Node::Object(function) => fragment.with_function(&function),
            // Some servers leave this level out.
            _ => fragment.with_function(call),
        }
    }

    fn with_function(mut self, function: &Object<'_>) -> Self {
        if let Node::Text(name) = function.get("name") {
            self.tool = name;
        }
        self.arguments = match function.get("arguments") {
            Node::Text(arguments) => arguments,
            // An object without members is a placeholder for those that follow as text.
            Node::Object(arguments) if arguments.is_empty() => Text::default(),
            Node::Null => Text::default(),
            _ => function
                .raw("arguments")
                .map(|raw| Text::from(raw.get()))
                .unwrap_or_default(),
        };
        self
    }
}

/// The finish reason in lower case. Some servers have one in each event that means nothing.
fn finish(node: &Node<'_>) -> Option<String> {
    let reason = match node {
        Node::Text(reason) => reason.clone().into_string().trim().to_ascii_lowercase(),
        Node::Object(reason) => reason.word("type").to_ascii_lowercase(),
        node if node.is_blank() => return None,
        node => node.kind().to_owned(),
    };
    (!matches!(
        reason.as_str(),
        "" | "null" | "none" | "finish_reason_unspecified"
    ))
    .then_some(reason)
}
