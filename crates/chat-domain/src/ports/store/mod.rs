//! The storage port: three narrow traits, each with one purpose.

mod conversations;
mod error;
mod turn_log;
mod worker_leases;

pub use conversations::{
    ConversationCursor, ConversationOrder, ConversationPage, Conversations, PageOrder,
    ToolCallPage, ToolCallRecord, TurnPage, TurnRef,
};
pub use error::{StoreError, StoreResult, Unavailability};
pub use turn_log::TurnLog;
pub use worker_leases::{Claim, DraftUpdate, Heartbeat, TurnVersion, WorkerLeases};

/// A store of conversations: the only state of the system.
///
/// # Contract
/// - One method is one transaction: all of it is durable when it returns `Ok`, or nothing of it
///   ever is. The one exception is [`StoreError::Unavailable`]: the outcome may be unknown, and the
///   same call may be repeated, because the caller chooses all ids and the store recognises them.
/// - A future that is dropped leaves its transaction whole: done or not done.
/// - A call that was dropped or ended as `Unavailable` takes effect before the caller's next call,
///   or never. Otherwise a worker could be given a turn after it has asked which ones it may have
///   missed (`docs/MODEL.md`).
/// - Owners are isolated: another owner's id does not exist.
/// - Leases are judged by the store's clock, never by the caller's.
/// - `begin`, `append`, `end` and the reads use a number of statements that does not depend on the
///   length of the conversation.
/// - At most one turn of a conversation runs. While none runs, none is queued.
///
/// The suite [`store_contract!`](crate::store_contract) checks an implementation.
/// [`testing::KeyValueStore`](crate::testing::KeyValueStore) shows how to write one.
pub trait ConversationStore: Conversations + TurnLog + WorkerLeases {}

impl<T: Conversations + TurnLog + WorkerLeases + ?Sized> ConversationStore for T {}
