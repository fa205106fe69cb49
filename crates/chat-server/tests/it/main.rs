//! The server's tests from outside the crate.

mod auth;
mod config;
mod http;
mod process;
