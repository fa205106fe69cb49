#![doc = include_str!("../README.md")]

mod answer;
mod arguments;
mod availability;
mod connection;
mod hash;
mod listing;
mod local_error;
pub mod meta;
mod names;
mod process;
mod running_server;
mod server;
mod settings;
mod stderr;
mod supervisor;
mod throttled_log;
mod toolset;

pub use settings::{McpServer, SettingsError};
pub use toolset::McpToolset;
