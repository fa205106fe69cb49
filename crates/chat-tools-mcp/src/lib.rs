#![doc = include_str!("../README.md")]

mod answer;
mod arguments;
mod child;
mod connection;
mod failure;
mod hash;
mod keeper;
mod listing;
pub mod meta;
mod names;
mod notices;
mod presence;
mod process;
mod server;
mod settings;
mod stderr;
mod toolset;

pub use settings::{McpServer, SettingsError};
pub use toolset::McpToolset;
