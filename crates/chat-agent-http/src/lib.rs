//! Agents behind HTTP.
//!
//! [`ChatCompletionsAgent`] asks any server that speaks the OpenAI chat completions protocol with
//! streaming: OpenAI itself, Ollama, llama.cpp, vLLM, LM Studio and many others.
//!
//! ```
//! use chat_agent_http::{ChatCompletionsAgent, ChatCompletionsSettings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = ChatCompletionsSettings::new("http://127.0.0.1:11434/v1", "qwen3");
//! settings.instructions = Some("You keep the user's tasks. Be brief.".to_owned());
//! let agent = ChatCompletionsAgent::new(settings)?; // a `chat_domain::Agent`
//! # drop(agent);
//! # Ok(())
//! # }
//! ```
//!
//! # What it does with a bad answer
//!
//! | the server … | the step … |
//! |---|---|
//! | cannot be reached, or breaks the connection before it answers | is tried again, then `Unavailable` |
//! | answers 408 or 5xx | is tried again, then `Unavailable`; `Overloaded` after 503, 529 or with a `Retry-After` |
//! | answers 429 | is tried again, then `Overloaded`; with `insufficient_quota` at once `Misconfigured` |
//! | says `Retry-After` | waits as long before it tries again; fails at once if that is over 60 s or over its own limit |
//! | says `x-should-retry: false` | is not tried again |
//! | answers 401, 402, 403, 404, 405 or a redirect, which is not followed | `Misconfigured` |
//! | says that the context is too long | `ContextTooLong` |
//! | says that its content policy forbids it, before the answer, or so that nothing is left of it | `Refused` |
//! | refuses a part of the request and names it: an optional member, a tool | is asked again without it, and remembered |
//! | refuses the request otherwise | `Misconfigured` |
//! | is silent for longer than a limit of [`Timeouts`] | `TimedOut`, or `Unavailable` if there is not even a connection |
//! | ends its stream without a finish reason and without `[DONE]` | `Unavailable`: the answer was cut off |
//! | ends its stream in whatever way after a finish reason | is complete |
//! | stops at its own limit of length, or because of a content filter | ends with that finish reason; a call cut in the middle has invalid arguments |
//! | ends with the finish reason `error` | `Unavailable` |
//! | answers in JSON or in JSON lines although asked for a stream | is read all the same, whatever the content type |
//! | writes text, calls or finish reasons in another known form | is read all the same |
//! | writes anything odd elsewhere, in the usage say | is read all the same |
//! | answers anything else | `Protocol` |
//!
//! The server's words are in the error's source, without keys and without the conversation.
//!
//! After the first byte of a successful answer nothing is repeated.

mod agent;
mod agent_data;
mod answer;
mod calls;
mod chunk;
mod clock;
mod events;
mod failure;
mod framing;
mod habits;
mod json;
mod mask;
mod post;
mod refusal;
mod request;
mod settings;
mod tool_names;
mod tools;

pub use agent::ChatCompletionsAgent;
pub use settings::{ChatCompletionsSettings, InvalidSettings, Retries, Timeouts};
