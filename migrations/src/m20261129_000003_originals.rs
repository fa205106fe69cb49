//! Adds to each retry the original message that it answers.
//!
//! The migration only adds columns. A retry that an older version stores later has no original
//! message, and counts as the first turn with its message.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer_null, uuid_null};

/// The migration.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Follows each retry to the first turn of its chain. The join order is explicit, because SQLite
/// would otherwise read all messages first.
const FILL: &str = "WITH RECURSIVE chain(turn, origin) AS ( \
       SELECT t.id, t.retry_of FROM turns t WHERE t.retry_of IS NOT NULL \
       UNION ALL \
       SELECT c.turn, t.retry_of FROM chain c JOIN turns t ON t.id = c.origin WHERE t.retry_of IS \
       NOT NULL \
     ), originals(turn, message, at) AS ( \
       SELECT c.turn, m.id, m.created_at FROM chain c CROSS JOIN turns t CROSS JOIN messages m \
       WHERE t.id = c.origin AND t.retry_of IS NULL AND m.turn_id = t.id AND m.role = 'user' \
     ) \
     UPDATE turns SET original_message_id = originals.message, original_at = originals.at \
     FROM originals WHERE turns.id = originals.turn";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in columns() {
            let add = Table::alter().table("turns").add_column(column).to_owned();
            manager.alter_table(add).await?;
        }
        let db = manager.get_connection();
        db.execute_unprepared(FILL).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in columns() {
            let name = column.get_column_name();
            let drop = Table::alter().table("turns").drop_column(name).to_owned();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}

/// Each statement adds one column, as SQLite requires.
fn columns() -> [ColumnDef; 2] {
    [
        uuid_null("original_message_id").take(),
        big_integer_null("original_at").take(),
    ]
}
