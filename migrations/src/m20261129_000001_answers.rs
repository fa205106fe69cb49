//! How an agent ended each answer, what it needs back with it, and how many turns it did not read.
//!
//! It only adds columns, and a row that an older version writes meanwhile is as good as a new one.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, text_null};

/// The step.
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

/// `finish_reason`: `complete`, `length` or `content_filter`; null if the agent did not end the
/// answer, or did before this step of the schema. `agent_data` is the agent's own: no statement
/// looks into it.
///
/// One column a statement: SQLite adds no more at a time.
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
