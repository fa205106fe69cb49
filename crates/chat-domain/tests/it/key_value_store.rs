//! The store that shows how to write one keeps the contract.

use std::sync::Arc;

use chat_domain::ConversationStore;
use chat_domain::testing::KeyValueStore;

chat_domain::store_contract! {
    async { ((), Arc::new(KeyValueStore::default()) as Arc<dyn ConversationStore>) }
}
