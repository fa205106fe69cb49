//! Codes and texts by which servers report errors. Texts are in lower case.
//!
//! Sources: <https://platform.openai.com/docs/guides/error-codes>, Azure OpenAI's content filter,
//! and the sources or references of Anthropic's compatible endpoint, DeepSeek, Gemini, Groq,
//! LiteLLM, llama.cpp, LM Studio, Mistral, Ollama, OpenRouter, vLLM and xAI.

pub const QUOTA_EXCEEDED: &[&str] = &[
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
];
pub const INVALID_API_KEY: &[&str] = &[
    "invalid_api_key",
    "authentication_error",
    "auth_error",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
];
pub const INVALID_API_KEY_TEXTS: &[&str] = &[
    "api key not valid",
    "invalid api key",
    "incorrect api key",
    "api key expired",
    "authentication error",
    "invalid authentication",
];
pub const MODEL_NOT_FOUND: &[&str] = &["model_not_found", "not_found_error", "invalid_model"];
pub const MODEL_NOT_FOUND_TEXTS: &[&str] = &[
    "invalid model name",
    "invalid model id",
    "is not a valid model",
    "model does not exist",
    "no such model",
    "model not exist",
];
pub const TOOLS_UNSUPPORTED_TEXTS: &[&str] = &[
    "does not support tools",
    "does not support tool",
    "doesn't support tool",
    "tools is not supported",
    "tools are not supported",
    "tool use is not supported",
    "no endpoints found that support tool use",
    "tools param requires --jinja",
];
pub const TOOL_PARSER_MISSING_TEXTS: &[&str] = &["enable-auto-tool-choice", "tool-call-parser"];
pub const OVERLOADED: &[&str] = &[
    "rate_limit_exceeded",
    "rate_limit_error",
    "overloaded_error",
    "server_overloaded",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
];
pub const CONTEXT_TOO_LONG: &[&str] = &[
    "context_length_exceeded",
    "exceed_context_size_error",
    "context_window_exceeded",
    "model_context_window_exceeded",
];
pub const CONTEXT_TOO_LONG_TEXTS: &[&str] = &[
    "maximum context length",
    "maximum prompt length",
    "context length exceeded",
    "context length of only",
    "when context the overflows",
    "context overflow",
    "exceeds the context",
    "exceeds context length",
    "exceed context size",
    "exceeds the available context size",
    "exceeds the maximum number of tokens",
    "exceeds the model's context",
    "context window",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "too many tokens",
    "reduce the length of the messages",
];
pub const CONTENT_POLICY: &[&str] = &[
    "content_filter",
    "content_policy_violation",
    "ResponsibleAIPolicyViolation",
    "data_inspection_failed",
];
pub const CONTENT_POLICY_TEXTS: &[&str] = &[
    "content management policy",
    "content policy",
    "usage policies",
    "flagged",
    "moderation",
];

/// Text before the server's token limit.
const BEFORE_LIMIT: &[&str] = &[
    "maximum context length is ",
    "maximum context length of ",
    "maximum prompt length is ",
    "maximum prompt length of ",
    "context length of only ",
    "context length of ",
    "context length is only ",
    "context length is ",
    "available context size (",
    "context size of ",
    "context size is ",
    "context window of ",
    "context window is ",
    "number of tokens allowed (",
    "n_ctx = ",
    "n_ctx=",
    "n_ctx: ",
    "\"n_ctx\":",
    "cannot exceed ",
    "must be <= ",
];
/// Text after the server's token limit.
const AFTER_LIMIT: &[&str] = &[
    " maximum context length",
    " maximum",
    " token context window",
    " token limit",
];

/// Returns the token limit that an error text states.
pub fn token_limit(message: &str) -> Option<u64> {
    let before = |words: &&str| number(message.split_once(*words)?.1.chars());
    let behind = |words: &&str| {
        let digits: String = message
            .split_once(*words)?
            .0
            .chars()
            .rev()
            .take_while(|char| char.is_ascii_digit() || *char == ',')
            .collect();
        number(digits.chars().rev())
    };
    BEFORE_LIMIT
        .iter()
        .find_map(before)
        .or_else(|| AFTER_LIMIT.iter().find_map(behind))
        .filter(|limit| *limit > 0)
}

fn number(chars: impl Iterator<Item = char>) -> Option<u64> {
    let digits = chars.take_while(|char| char.is_ascii_digit() || matches!(char, ',' | '_'));
    digits
        .filter(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .ok()
}
