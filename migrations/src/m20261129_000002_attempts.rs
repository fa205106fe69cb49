//! Adds the time limit of a turn and the reason of an unknown tool call outcome.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, text_null};

/// The migration.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column per statement.
        for mut column in [
            big_integer_null("attempt_started_at"),
            big_integer("spent_us").default(0).to_owned(),
        ] {
            manager
                .alter_table(
                    Table::alter()
                        .table("turns")
                        .add_column(&mut column)
                        .to_owned(),
                )
                .await?;
        }
        manager
            .alter_table(
                Table::alter()
                    .table("tool_calls")
                    .add_column(text_null("unknown_cause"))
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in ["spent_us", "attempt_started_at"] {
            manager
                .alter_table(Table::alter().table("turns").drop_column(column).to_owned())
                .await?;
        }
        manager
            .alter_table(
                Table::alter()
                    .table("tool_calls")
                    .drop_column("unknown_cause")
                    .to_owned(),
            )
            .await
    }
}
