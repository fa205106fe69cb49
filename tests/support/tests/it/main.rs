//! Tests of the test doubles.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may fail")]

mod proxy;
mod stub_agent;
