//! Wire formats of the chat API: bytes in to commands of [`chat_domain`], its answers and events
//! out to bytes.
//!
//! Knows no HTTP framework and does no input or output. [`native`] is the protocol of our own,
//! [`chatkit`] that of ChatKit's front ends; all protocols share the table
//! of errors ([`problem`]), cursors as text ([`cursor`]), strict JSON ([`json`]), times ([`time`])
//! and the frames of server-sent events ([`sse`]).

pub mod chatkit;
pub mod cursor;
pub mod errors_doc;
pub mod json;
pub mod native;
pub mod page_size;
pub mod problem;
pub mod sse;
pub mod time;
