//! What the tests of several crates share: stub servers and running processes.

pub mod proxy;
pub mod stub_agent;
pub mod wait;
