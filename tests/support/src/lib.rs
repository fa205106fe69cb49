//! What the tests of several crates share: stub servers and running processes.

pub mod stub_agent;
