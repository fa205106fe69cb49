//! The routes, one family per file. Each handler decodes, makes one call and encodes.

mod accept;
mod answer;
mod body;
mod caller;
pub(crate) mod chat;
pub(crate) mod chatkit;
pub(crate) mod conversations;
pub(crate) mod docs;
mod envelope;
mod files;
pub(crate) mod health;
pub(crate) mod page;
mod parameters;
mod reply;
mod request_id;
mod response_body;
mod routes;
mod sse;
pub(crate) mod turns;
mod unread_body;

pub use caller::Caller;
pub(crate) use chatkit::FRAME as CHATKIT_FRAME;
pub use envelope::envelope;
pub use request_id::RequestId;
pub use routes::{Endpoint, configure, endpoints};
