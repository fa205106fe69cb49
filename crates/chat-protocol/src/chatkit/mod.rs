//! The ChatKit server protocol of `openai-chatkit` 1.6.5. Only here a conversation is called a
//! thread.
//!
//! One route takes all requests ([`request`]). The response is one JSON object ([`Thread`],
//! [`Page`]) or a stream of events ([`events`]). Null values are left out, empty lists are not.

pub mod events;
mod ids;
mod items;
mod pages;
pub mod request;
mod tasks;

pub use ids::{ItemId, ItemKind, ThreadId};
pub use items::{Empty, Page, Thread, ThreadItem, items};
pub use pages::{ItemPageRequest, ThreadPageRequest};
