//! Test doubles and helpers that several crates share: stub servers, a proxy and waiting.

pub mod proxy;
pub mod stub_agent;
pub mod wait;
