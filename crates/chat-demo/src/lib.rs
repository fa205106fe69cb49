#![doc = include_str!("../README.md")]

mod agent;
pub mod tasks;

pub use agent::DemoAgent;
