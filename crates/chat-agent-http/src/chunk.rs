//! The JSON of an answer: a stream's event (`chat.completion.chunk`), or a whole answer (`chat.completion`), which has the same shape
//! with `message` for `delta`. Everything may be missing or null: servers differ.

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize)]
pub struct Chunk {
    /// There if this is an error instead.
    pub error: Option<IgnoredAny>,
    pub object: Option<String>,
    pub choices: Option<Vec<Choice>>,
    pub usage: Option<TokensUsed>,
}

#[derive(Deserialize)]
pub struct Choice {
    /// Only one answer is asked for, the first.
    pub index: Option<u64>,
    #[serde(alias = "message")]
    pub delta: Option<Delta>,
    pub finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
pub struct Delta {
    pub content: Option<String>,
    /// Words with which the model itself declines (<https://platform.openai.com/docs/guides/structured-outputs#refusals>).
    pub refusal: Option<String>,
    pub tool_calls: Option<Vec<Fragment>>,
}

/// A part of a tool call, or a whole one.
#[derive(Deserialize, Default)]
pub struct Fragment {
    pub index: Option<u64>,
    pub id: Option<String>,
    pub function: Option<FunctionFragment>,
}

#[derive(Deserialize, Default)]
pub struct FunctionFragment {
    pub name: Option<String>,
    pub arguments: Option<String>,
}

#[derive(Deserialize)]
pub struct TokensUsed {
    #[serde(default)]
    pub prompt_tokens: u64,
    #[serde(default)]
    pub completion_tokens: u64,
}
