#![doc = include_str!("../README.md")]

mod agent;
mod agent_data;
mod answer;
mod calls;
mod chunk;
mod clock;
mod endpoint;
mod events;
mod failure;
mod framing;
mod json;
mod mask;
mod request;
mod server_error;
mod settings;
mod tool_names;
mod tools;
mod unsupported;

pub use agent::ChatCompletionsAgent;
pub use settings::{ChatCompletionsSettings, InvalidSettings, RetryPolicy, Timeouts};
