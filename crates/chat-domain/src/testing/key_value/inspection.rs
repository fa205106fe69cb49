//! How tests look into the store, and change it behind the back of the service.

use std::collections::BTreeMap;

use super::KeyValueStore;
use crate::ConversationId;
use crate::log::ConversationDocument;

impl KeyValueStore {
    /// Shows the conversations.
    pub fn inspect<T>(
        &self,
        look: impl FnOnce(&BTreeMap<ConversationId, ConversationDocument>) -> T,
    ) -> T {
        look(&self.tables().documents.0)
    }

    /// Deletes all workers, as if their leases had expired.
    pub fn delete_workers(&self) {
        self.tables().workers.clear();
    }
}
