//! The server's tests from outside the crate.

mod auth;
mod config;
