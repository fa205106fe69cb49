#![doc = include_str!("../README.md")]

mod agent;
mod intents;
pub mod tasks;

pub use agent::DemoAgent;
