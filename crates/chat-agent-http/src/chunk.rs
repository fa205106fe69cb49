//! The JSON of an answer: an event of a stream (`chat.completion.chunk`), or a whole answer
//! (`chat.completion`), which has the same shape with `message` instead of `delta`.
//!
//! Servers differ. Text, tool calls and finish reasons are read in every known form, and only they
//! can fail to parse; all other members are optional.

use serde_json::value::RawValue;

use crate::agent_data::{CALL_MEMBERS, MESSAGE_MEMBERS, is_reasoning_type};
use crate::json::{Node, Object, Text};

/// The content of one event.
#[derive(Debug, Default)]
pub struct Chunk<'a> {
    pub choices: Vec<Choice<'a>>,
    pub usage: TokensUsed,
}

/// The first choice of an event. Requests ask for one choice only.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    pub text: Text,
    pub calls: Vec<Fragment>,
    /// A call in the deprecated form that `tool_calls` replaced.
    pub function_call: Option<Fragment>,
    /// Message members that the server expects back.
    pub extra_members: Vec<(&'static str, &'a RawValue)>,
    /// Content parts that hold the model's reasoning.
    pub reasoning_parts: Vec<&'a RawValue>,
    /// Finish reason in lower case. `None` while the answer continues.
    pub finish: Option<String>,
    /// Whether this is the whole message, as in an answer that is not a stream.
    pub is_message: bool,
    /// An error that concerns this choice only.
    pub error: Option<&'a RawValue>,
}

/// A part of a tool call, or a whole tool call.
#[derive(Debug, Default)]
pub struct Fragment {
    pub index: Option<u64>,
    pub id: String,
    pub tool: Text,
    pub arguments: Text,
    /// Members that the server expects back.
    pub extra_members: Vec<(&'static str, Box<RawValue>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokensUsed {
    pub input: Option<u64>,
    pub output: Option<u64>,
}

/// The path of a member and the kind of its value, which has no known form.
pub type UnknownForm = String;

fn unknown_form<T>(at: &str, node: &Node<'_>) -> Result<T, UnknownForm> {
    Err(format!("{at} is {}", node.kind()))
}

impl<'a> Chunk<'a> {
    /// Parses an event.
    ///
    /// # Errors
    /// Its text or tool calls have no known form.
    pub fn read(event: &Object<'a>) -> Result<Self, UnknownForm> {
        let mut chunk = Self {
            choices: Vec::new(),
            usage: TokensUsed::default().or_from(&event.get("usage")),
        };
        let choices = match event.get("choices") {
            Node::List(choices) => choices.into_iter().map(Node::parse).collect(),
            node @ Node::Object(_) => vec![node],
            node if node.is_blank() => Vec::new(),
            node => return unknown_form("choices", &node),
        };
        for choice in choices {
            match choice {
                Node::Object(choice) => {
                    chunk.usage = chunk.usage.or_from(&choice.get("usage"));
                    if choice.get("index").to_u64().unwrap_or(0) == 0 {
                        chunk.choices.push(Choice::read(&choice)?);
                    }
                }
                node if node.is_blank() => {}
                node => return unknown_form("choices[0]", &node),
            }
        }
        Ok(chunk)
    }
}

impl TokensUsed {
    /// Returns these counts, completed by those of `usage`.
    fn or_from(self, usage: &Node<'_>) -> Self {
        let Node::Object(usage) = usage else {
            return self;
        };
        let read = |names: [&str; 2]| names.into_iter().find_map(|name| usage.get(name).to_u64());
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
    fn read(choice: &Object<'a>) -> Result<Self, UnknownForm> {
        let mut read = Self {
            finish: finish_reason(&choice.get("finish_reason")),
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
            // Some servers send the text without the object around it.
            Node::Text(text) => read.text.push(&text),
            node if node.is_blank() => {}
            node => return unknown_form(at, &node),
        }
        if let Node::Text(text) = choice.get("text") {
            read.text.push(&text);
        }
        Ok(read)
    }

    fn add_delta(&mut self, at: &str, delta: &Object<'a>) -> Result<(), UnknownForm> {
        if let Some(content) = delta.raw("content") {
            self.add_content(&format!("{at}.content"), content, 0)?;
        }
        // The model's own words for declining
        // (<https://platform.openai.com/docs/guides/structured-outputs#refusals>).
        if let Node::Text(refusal) = delta.get("refusal") {
            self.text.push(&refusal);
        }
        let calls = match delta.get("tool_calls") {
            Node::List(calls) => calls.into_iter().map(Node::parse).collect(),
            node @ Node::Object(_) => vec![node],
            node if node.is_blank() => Vec::new(),
            node => return unknown_form(&format!("{at}.tool_calls"), &node),
        };
        for call in calls {
            match call {
                Node::Object(call) => self.calls.push(Fragment::read(&call)),
                node if node.is_blank() => {}
                node => return unknown_form(&format!("{at}.tool_calls[0]"), &node),
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
        let extra_members = MESSAGE_MEMBERS
            .iter()
            .filter_map(|name| Some((*name, delta.raw(name)?)));
        self.extra_members
            .extend(extra_members.filter(|(_, value)| !Node::parse(value).is_blank()));
        Ok(())
    }

    /// Adds content: a string, an array of parts, or one part.
    fn add_content(
        &mut self,
        at: &str,
        content: &'a RawValue,
        depth: usize,
    ) -> Result<(), UnknownForm> {
        match Node::parse(content) {
            Node::Text(text) => self.text.push(&text),
            Node::Number(number) => self.text.push(&Text::from(number)),
            Node::List(parts) if depth < 2 => parts
                .into_iter()
                .try_for_each(|part| self.add_content(at, part, depth + 1))?,
            Node::Object(part) if is_reasoning_type(&part.trimmed_text("type")) => {
                self.reasoning_parts.push(content)
            }
            Node::Object(part) => match (part.get("text"), part.get("refusal")) {
                (Node::Text(text), _) | (_, Node::Text(text)) => self.text.push(&text),
                (Node::Object(text), _) if text.has("value") => {
                    if let Node::Text(text) = text.get("value") {
                        self.text.push(&text);
                    }
                }
                _ => tracing::debug!("content part without text ignored"),
            },
            node if node.is_blank() => {}
            node => return unknown_form(at, &node),
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
        let extra_members = CALL_MEMBERS
            .iter()
            .filter_map(|name| Some((*name, call.raw(name)?)));
        let extra_members = extra_members
            .filter(|(_, value)| !Node::parse(value).is_blank())
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        let fragment = Self {
            index: call.get("index").to_u64(),
            id,
            extra_members,
            ..Self::default()
        };
        match call.get("function") {
            Node::Object(function) => fragment.with_function(&function),
            // Some servers leave the `function` object out.
            _ => fragment.with_function(call),
        }
    }

    fn with_function(mut self, function: &Object<'_>) -> Self {
        if let Node::Text(name) = function.get("name") {
            self.tool = name;
        }
        self.arguments = match function.get("arguments") {
            Node::Text(arguments) => arguments,
            // An object without members is a placeholder for arguments that follow as text.
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

/// Returns the finish reason in lower case. Some servers send a placeholder in each event.
fn finish_reason(node: &Node<'_>) -> Option<String> {
    let reason = match node {
        Node::Text(reason) => reason.clone().into_string().trim().to_ascii_lowercase(),
        Node::Object(reason) => reason.trimmed_text("type").to_ascii_lowercase(),
        node if node.is_blank() => return None,
        node => node.kind().to_owned(),
    };
    (!matches!(
        reason.as_str(),
        "" | "null" | "none" | "finish_reason_unspecified"
    ))
    .then_some(reason)
}
