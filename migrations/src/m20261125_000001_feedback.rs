//! Creates users' feedback on messages, and the index of conversations by creation time.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, pk_uuid, text, uuid};

/// The migration.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(feedback()).await?;
        for (name, table, columns) in INDEXES {
            let mut index = Index::create();
            index.name(name).table(table);
            for column in columns {
                index.col(column);
            }
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_index(
                Index::drop()
                    .name("ix_conversations_owner_id")
                    .table("conversations")
                    .to_owned(),
            )
            .await?;
        manager
            .drop_table(Table::drop().table("feedback").to_owned())
            .await
    }
}

const INDEXES: [(&str, &str, [&str; 2]); 2] = [
    (
        "ix_conversations_owner_id",
        "conversations",
        ["owner", "id"],
    ),
    (
        "ix_feedback_conversation",
        "feedback",
        ["conversation_id", "message_id"],
    ),
];

/// `kind` is `positive` or `negative`.
fn feedback() -> TableCreateStatement {
    let mut of_message = ForeignKey::create();
    of_message
        .name("fk_feedback_message_id")
        .from("feedback", "message_id")
        .to("messages", "id")
        .on_delete(ForeignKeyAction::Cascade);
    Table::create()
        .table("feedback")
        .col(pk_uuid("message_id"))
        .col(uuid("conversation_id"))
        .col(text("kind"))
        .col(big_integer("given_at"))
        .foreign_key(&mut of_message)
        .to_owned()
}
