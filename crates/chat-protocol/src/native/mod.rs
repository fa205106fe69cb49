//! The protocol of our own.

pub mod events;
pub mod objects;
pub mod pages;
pub mod query;
pub mod reply;
pub mod request;
