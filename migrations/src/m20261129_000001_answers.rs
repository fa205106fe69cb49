//! Adds the finish reason of an answer, the agent data of messages and tool calls, and the number
//! of turns that were left out.
//!
//! The migration only adds columns. Rows that an older version writes later are valid.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, text_null};

/// The migration.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in columns() {
            manager
                .alter_table(Table::alter().table(table).add_column(column).to_owned())
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in columns() {
            manager
                .alter_table(
                    Table::alter()
                        .table(table)
                        .drop_column(column.get_column_name())
                        .to_owned(),
                )
                .await?;
        }
        Ok(())
    }
}

/// `finish_reason` is `complete`, `length` or `content_filter`. It is null if the agent did not
/// finish the answer, or finished before this migration. `agent_data` belongs to the agent; no
/// statement looks into it.
///
/// Each statement adds one column, as SQLite requires.
fn columns() -> [(&'static str, ColumnDef); 6] {
    let none_left_out = || big_integer("turns_left_out").default(0).take();
    [
        ("turns", text_null("finish_reason").take()),
        ("turns", none_left_out()),
        ("messages", text_null("finish_reason").take()),
        ("messages", none_left_out()),
        ("messages", text_null("agent_data").take()),
        ("tool_calls", text_null("agent_data").take()),
    ]
}
