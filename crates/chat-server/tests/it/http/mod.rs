//! The HTTP side over the in-memory store, through real connections.

mod bad_input;
mod faults;
mod harness;
mod openapi;
mod reading;
mod sending;
mod streams;
