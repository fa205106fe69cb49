//! The ChatKit server protocol, as `openai-chatkit` 1.6.5 speaks it. Here, and here only, a
//! conversation is called a thread.
//!
//! One route takes all requests ([`request`]); the answer is one JSON object ([`items`], [`pages`])
//! or a stream of events ([`events`]). Values that are null are left out, lists that are empty are
//! not.

pub mod events;
pub mod ids;
pub mod items;
pub mod pages;
pub mod request;
mod tasks;
