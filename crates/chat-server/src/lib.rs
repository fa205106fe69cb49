#![doc = include_str!("../README.md")]

mod adapters;
mod app;
mod auth;
mod chatkit_streams;
mod command_line;
mod config;
mod connection;
#[cfg(feature = "demo")]
mod demo;
mod dev;
mod http;
mod logging;
mod memory;
mod observer;
mod open_files;
mod openapi;
mod page;
mod problem;
mod run;
mod serve_error;
mod service_runner;
mod sign_in;
mod signals;
mod sse_writer;
mod state;
mod tasks;

pub use command_line::main;

/// Internals for the tests of this crate.
#[doc(hidden)]
pub mod testing {
    pub use crate::app::server;
    pub use crate::auth::{JwtVerifier, TokenVerifier, issue};
    pub use crate::config::{AgentKind, Config, HttpLimits, JwtSecret, reference};
    pub use crate::http::endpoints;
    pub use crate::page::{Page, SignIn};
    pub use crate::sign_in::OneTimeCode;
    pub use crate::state::{AppState, LARGE_TEXTS};
    pub use crate::tasks::Tasks;
}
