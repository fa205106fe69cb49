//! The chat server: wiring and actix-web handlers, nothing else.

pub mod app;
pub mod auth;
pub mod config;
pub mod dev;
pub mod environment;
pub mod http;
pub mod logging;
pub mod observer;
pub mod problem;
pub mod tasks;
