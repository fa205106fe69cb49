//! The rules of a conversation's log: what each command may change, and how.
//!
//! Pure and synchronous: a store loads the rows that the commands need, lets the [`Ledger`] decide,
//! and saves what has changed. All stores share these rules. [`ConversationDocument`] also has
//! those of claims, drafts and forced ends, which a store with tables writes as statements.
//!
//! 1. [`LogNeeds`] names the rows that some commands need.
//! 2. The store loads them as [`LoadedRows`], locked against every other writer.
//! 3. [`Ledger::begin`], [`append`](Ledger::append) and [`end`](Ledger::end) decide one command
//!    after another in memory.
//! 4. The store saves [`Ledger::into_changes`] in the same transaction, and only then answers.

mod append;
mod begin;
mod command;
mod document;
mod documents;
mod end;
mod ledger;
mod needs;
mod rows;

pub use command::{
    AppendItems, BeginOutcome, BeginTurn, BusyPolicy, EndTurn, EndedTurn, IdempotencyKey,
    LedgerError, Refusal, RetryOf, Target,
};
pub use document::ConversationDocument;
pub use documents::Documents;
pub use ledger::Ledger;
pub use needs::LogNeeds;
pub use rows::{
    CallRow, Changes, ConversationChange, LoadedConversation, LoadedRows, MessageRow,
    NewConversation, PlacedMessage, ResultRow, SupersededTurns, TurnChange, TurnRow,
};

#[cfg(test)]
mod tests;
