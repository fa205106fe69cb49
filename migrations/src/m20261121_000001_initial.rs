//! Creates conversations, turns, messages, tool calls and workers.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, binary_null, boolean, json, json_null, pk_uuid, text, text_null,
    uuid, uuid_null,
};

/// The migration.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            conversations(),
            turns(),
            messages(),
            tool_calls(),
            workers(),
        ] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "workers",
            "tool_calls",
            "messages",
            "turns",
            "conversations",
        ] {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}

fn conversations() -> TableCreateStatement {
    Table::create()
        .table("conversations")
        .col(pk_uuid("id"))
        .col(text("owner"))
        .col(text("title"))
        .col(big_integer("created_at"))
        .col(big_integer("updated_at"))
        .col(big_integer("last_position"))
        .col(big_integer("last_ordinal"))
        .to_owned()
}

/// A turn is open (queued or running) while `ended_at` is null. `next_id` is the turn that started
/// when this one ended.
fn turns() -> TableCreateStatement {
    Table::create()
        .table("turns")
        .col(pk_uuid("id"))
        .col(uuid("conversation_id"))
        .col(text("owner"))
        .col(big_integer("ordinal"))
        .col(text("status"))
        .col(uuid_null("holder"))
        .col(big_integer("epoch"))
        .col(big_integer("attempt"))
        .col(boolean("cancel_requested"))
        .col(uuid_null("retry_of"))
        .col(boolean("superseded"))
        .col(text_null("idempotency_key"))
        .col(binary_null("fingerprint"))
        .col(uuid_null("draft_message_id"))
        .col(text_null("draft_text"))
        .col(big_integer("input_tokens"))
        .col(big_integer("output_tokens"))
        .col(text_null("failure_kind"))
        .col(text_null("failure_message"))
        .col(uuid_null("next_id"))
        .col(big_integer("created_at"))
        .col(big_integer_null("ended_at"))
        .foreign_key(&mut cascade("turns", "conversation_id", "conversations"))
        .to_owned()
}

/// `position` is null while the message's turn is queued.
fn messages() -> TableCreateStatement {
    Table::create()
        .table("messages")
        .col(pk_uuid("id"))
        .col(uuid("conversation_id"))
        .col(uuid("turn_id"))
        .col(big_integer_null("position"))
        .col(text("role"))
        .col(text("text"))
        .col(big_integer("created_at"))
        .foreign_key(&mut cascade("messages", "turn_id", "turns"))
        .to_owned()
}

/// A tool call and its result, which is null until the call has ended. `outcome` is `succeeded`,
/// `unknown`, or the kind of the error.
fn tool_calls() -> TableCreateStatement {
    Table::create()
        .table("tool_calls")
        .col(pk_uuid("id"))
        .col(uuid("conversation_id"))
        .col(uuid("turn_id"))
        .col(uuid("message_id"))
        .col(big_integer("position"))
        .col(text("tool"))
        .col(json("arguments"))
        .col(text("ran_by"))
        .col(big_integer("created_at"))
        .col(big_integer_null("result_position"))
        .col(big_integer_null("result_at"))
        .col(text_null("outcome"))
        .col(json_null("output"))
        .col(text_null("error_message"))
        .col(big_integer_null("started_at"))
        .col(big_integer_null("took_us"))
        .foreign_key(&mut cascade("tool_calls", "turn_id", "turns"))
        .foreign_key(&mut cascade("tool_calls", "message_id", "messages"))
        .to_owned()
}

fn workers() -> TableCreateStatement {
    Table::create()
        .table("workers")
        .col(pk_uuid("id"))
        .col(big_integer("expires_at"))
        .to_owned()
}

fn cascade(
    table: &'static str,
    column: &'static str,
    parent: &'static str,
) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(format!("fk_{table}_{column}"))
        .from(table, column)
        .to(parent, "id")
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}

/// Indexes for queries, and unique indexes for the invariants that the database enforces.
fn indexes() -> Vec<IndexCreateStatement> {
    let named = |name: &'static str, table: &'static str, columns: &[&'static str]| {
        let mut index = Index::create();
        index.name(name).table(table);
        for column in columns {
            index.col(*column);
        }
        index
    };
    vec![
        named(
            "ix_conversations_owner_updated",
            "conversations",
            &["owner", "updated_at", "id"],
        ),
        named(
            "ux_turns_conversation_ordinal",
            "turns",
            &["conversation_id", "ordinal"],
        )
        .unique()
        .to_owned(),
        named("ux_turns_running", "turns", &["conversation_id"])
            .unique()
            .and_where(Expr::col("status").eq("running"))
            .to_owned(),
        // `ended_at` is always null here. It lets SQLite count from the index alone.
        named(
            "ix_turns_open",
            "turns",
            &["conversation_id", "ordinal", "ended_at"],
        )
        .and_where(Expr::col("ended_at").is_null())
        .to_owned(),
        named("ix_turns_running_holder", "turns", &["holder"])
            .and_where(Expr::col("status").eq("running"))
            .to_owned(),
        named("ix_turns_cancelling_holder", "turns", &["holder"])
            .and_where(Expr::col("status").eq("running"))
            .and_where(Expr::col("cancel_requested").eq(true))
            .to_owned(),
        named("ux_turns_owner_key", "turns", &["owner", "idempotency_key"])
            .unique()
            .and_where(Expr::col("idempotency_key").is_not_null())
            .to_owned(),
        named(
            "ux_messages_conversation_position",
            "messages",
            &["conversation_id", "position"],
        )
        .unique()
        .to_owned(),
        named("ix_messages_turn", "messages", &["turn_id"]),
        named(
            "ux_tool_calls_conversation_position",
            "tool_calls",
            &["conversation_id", "position"],
        )
        .unique()
        .to_owned(),
        named("ix_tool_calls_turn", "tool_calls", &["turn_id"]),
        named("ix_tool_calls_message", "tool_calls", &["message_id"]),
    ]
}
