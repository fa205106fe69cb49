//! The port's contract, case by case, on either database.

mod sqlite {
    use std::sync::Arc;

    use chat_domain::ConversationStore;
    use chat_store_seaorm::{OpenOptions, SeaOrmStore};
    use tempfile::TempDir;

    async fn store() -> (TempDir, Arc<dyn ConversationStore>) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("chat.db").display());
        let store = SeaOrmStore::open(&url, OpenOptions::default())
            .await
            .unwrap();
        (folder, Arc::new(store))
    }

    chat_domain::store_contract!(store());
}

mod postgres {
    use std::sync::Arc;

    use chat_domain::ConversationStore;
    use chat_store_seaorm::{OpenOptions, SeaOrmStore};
    use chat_test_postgres::{Database, database};

    async fn store() -> (Database, Arc<dyn ConversationStore>) {
        let database = database();
        let store = SeaOrmStore::open(database.url(), OpenOptions::default())
            .await
            .unwrap();
        (database, Arc::new(store))
    }

    chat_domain::store_contract!(store());
}
