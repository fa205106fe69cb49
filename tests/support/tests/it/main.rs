//! The doubles themselves: a test that relies on them must be able to believe them.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

mod proxy;
mod stub_agent;
