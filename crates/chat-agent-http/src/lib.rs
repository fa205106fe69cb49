#![doc = include_str!("../README.md")]

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
