//! The seam between the store and the databases: what each of them implements.

use std::sync::Arc;

use async_trait::async_trait;

use crate::batch::BatchedWrite;
use crate::connection::{Connection, Transaction};
use crate::error::StoreFault;
use crate::options::OpenOptions;

/// An open database.
#[async_trait]
pub(crate) trait Backend: Send + Sync + 'static {
    /// Begins a transaction that will write.
    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreFault>;

    /// A connection that reads. Each statement sees what was committed when it began.
    async fn reader(&self) -> Result<Box<dyn Connection>, StoreFault>;

    /// Starts the tasks that do the store's writes.
    fn start_writer(self: Arc<Self>, options: &OpenOptions) -> Box<dyn Writer>;

    /// Whether no other process can use the database while this one has it open.
    fn is_exclusive(&self) -> bool;

    /// Refuses a database to which nothing can be written durably.
    fn check(&self) -> Result<(), StoreFault> {
        Ok(())
    }

    /// The fault that a caller gets: the one that the database reported, or its cause where that
    /// is known.
    fn explain(&self, fault: StoreFault) -> StoreFault {
        fault
    }

    /// Checks on a [`reader`](Self::reader) that the database answers and takes writes.
    async fn ping(&self, connection: &dyn Connection) -> Result<(), StoreFault>;

    /// Closes all connections and releases the database.
    async fn close(&self);
}

/// Does the store's writes, in batches.
#[async_trait]
pub(crate) trait Writer: Send + Sync {
    /// Queues a write.
    async fn send(&self, write: BatchedWrite) -> Result<(), StoreFault>;

    /// Whether the tasks that do the writes have ended.
    fn is_closed(&self) -> bool;

    /// Refuses further writes; returns when the accepted ones are done.
    async fn close(&self);
}
