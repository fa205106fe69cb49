//! The chat server: wiring and actix-web handlers, nothing else.

mod adapters;
pub mod app;
pub mod auth;
mod command_line;
pub mod config;
mod connection;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dev;
pub mod http;
pub mod logging;
pub mod memory;
pub mod observer;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod run;
pub mod sign_in;
mod signals;
pub mod tasks;

pub use command_line::main;
