//! Agents behind HTTP.
//!
//! [`ChatCompletionsAgent`] asks any server that speaks the OpenAI chat completions protocol with streaming: OpenAI itself, Ollama,
//! llama.cpp, vLLM, LM Studio and many others.
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
//! | says that its content policy forbids it, before or in the answer | `Refused` |
//! | refuses the request otherwise | `Protocol` |
//! | is silent for longer than a limit of [`Timeouts`] | `TimedOut`, or `Unavailable` if there is not even a connection |
//! | ends its stream without a finish reason and without `[DONE]` | `Unavailable`: the answer was cut off |
//! | ends its stream in whatever way after a finish reason | is complete |
//! | stops at its own limit of length | is complete: what there is, is kept; a call cut in the middle has invalid arguments |
//! | answers in JSON although asked for a stream | is read all the same |
//! | answers anything else | `Protocol` |
//!
//! After the first byte of a successful answer nothing is repeated.

mod agent;
mod answer;
mod calls;
mod chunk;
mod clock;
mod events;
mod failure;
mod post;
mod refusal;
mod request;
mod settings;
mod tool_names;

pub use agent::ChatCompletionsAgent;
pub use settings::{ChatCompletionsSettings, InvalidSettings, Retries, Timeouts};
