//! The end of a turn by its own row alone, where its items or its conversation cannot be read or
//! written.

use async_trait::async_trait;
use chat_domain::{FailureKind, Refusal, Timestamp, TurnFailure, TurnId, TurnLease, UnknownCause};
use uuid::Uuid;

use crate::codes;
use crate::db::Db;
use crate::error::StoreFault;
use crate::job::{Command, CommandError};
use crate::savepoint;
use crate::sql::{Row, Sql};

/// The failure that the owner of a damaged turn sees.
const DAMAGED: &str = "The server could not read a part of this conversation.";

/// Ends a turn, whatever its items are.
pub(crate) struct ForceEnd {
    pub(crate) lease: TurnLease,
    pub(crate) failure: TurnFailure,
    pub(crate) at: Timestamp,
}

#[async_trait]
impl Command for ForceEnd {
    type Answer = ();

    async fn run(&self, db: &Db) -> Result<(), CommandError> {
        let TurnLease {
            turn,
            worker,
            epoch,
        } = self.lease;
        let by_lease = |open: &'static str| {
            let leased = Sql::new("id = ")
                .bind(turn.0)
                .push(" AND holder = ")
                .bind(worker.0);
            leased
                .push(" AND epoch = ")
                .bind(crate::sql::big(epoch))
                .push(open)
        };
        lock(db, turn).await?;
        if end(
            db,
            by_lease(" AND ended_at IS NULL"),
            &self.failure,
            self.at,
        )
        .await?
        {
            return Ok(settle(db, turn, self.at).await?);
        }
        let ended = Sql::new("SELECT id FROM turns WHERE ")
            .append(by_lease(" AND ended_at IS NOT NULL"))
            .all(db)
            .await?;
        if ended.is_empty() {
            Err(Refusal::LeaseLost.into())
        } else {
            Ok(())
        }
    }
}

/// Ends a turn that this transaction has claimed and cannot load.
pub(crate) async fn end_unloaded(db: &Db, turn: TurnId) -> Result<(), StoreFault> {
    let now = Sql::new("SELECT ").now().all(db).await?;
    let at = Timestamp(
        now.first()
            .map(|row| Row::new("clock", 0, row).get(0, "now"))
            .transpose()?
            .unwrap_or_default(),
    );
    let failure = TurnFailure {
        kind: FailureKind::Internal,
        message: DAMAGED.to_owned(),
    };
    let ended =
        savepoint::attempt(db, end(db, Sql::new("id = ").bind(turn.0), &failure, at)).await?;
    match ended {
        Ok(_) => settle(db, turn, at).await,
        Err(fault) => {
            tracing::error!(turn_id = %turn, error = %fault, "turn cannot be ended");
            Ok(())
        }
    }
}

/// Leaves a running turn to the next claim. No attempt is counted for it yet.
pub(crate) async fn release(db: &Db, turn: TurnId) -> Result<(), StoreFault> {
    let release = Sql::new(
        "UPDATE turns SET holder = NULL, attempt = 0, attempt_started_at = NULL WHERE id = ",
    );
    release.bind(turn.0).execute(db).await.map(drop)
}

/// Locks the turn's conversation, so that no other transaction begins or ends a turn in it.
async fn lock(db: &Db, turn: TurnId) -> Result<(), StoreFault> {
    let conversation = Sql::new("SELECT conversation_id FROM turns WHERE id = ").bind(turn.0);
    Sql::new("SELECT c.id FROM conversations c WHERE c.id")
        .in_array(conversation)
        .for_update("c")
        .all(db)
        .await
        .map(drop)
}

async fn end(db: &Db, turn: Sql, failure: &TurnFailure, at: Timestamp) -> Result<bool, StoreFault> {
    let end = Sql::new("UPDATE turns SET status = '")
        .push(codes::FAILED)
        .push("', failure_kind = ")
        .bind(failure.kind.code());
    let end = end
        .push(", failure_message = ")
        .bind(failure.message.as_str())
        .push(", ended_at = ")
        .bind(at.0);
    let ended = end
        .push(", draft_message_id = NULL, draft_text = NULL WHERE ")
        .append(turn)
        .execute(db)
        .await?;
    Ok(ended > 0)
}

/// Does what belongs to a turn's end, as far as the rows allow it.
async fn settle(db: &Db, turn: TurnId, at: Timestamp) -> Result<(), StoreFault> {
    for (part, done) in [
        (
            "the conversation's time",
            savepoint::attempt(db, touch(db, turn, at)).await?,
        ),
        (
            "open tool calls",
            savepoint::attempt(db, end_calls(db, turn, at)).await?,
        ),
        (
            "the next turn",
            savepoint::attempt(db, begin_next(db, turn)).await?,
        ),
    ] {
        if let Err(fault) = done {
            tracing::error!(turn_id = %turn, part, error = %fault, "turn ended, but a part of its end is missing");
        }
    }
    Ok(())
}

async fn touch(db: &Db, turn: TurnId, at: Timestamp) -> Result<(), StoreFault> {
    let touch = Sql::new("UPDATE conversations SET updated_at = ")
        .bind(at.0)
        .push(" WHERE id = (SELECT conversation_id FROM turns WHERE id = ");
    touch.bind(turn.0).push(")").execute(db).await.map(drop)
}

async fn end_calls(db: &Db, turn: TurnId, at: Timestamp) -> Result<(), StoreFault> {
    let open = Sql::new("SELECT id FROM tool_calls WHERE outcome IS NULL AND turn_id = ")
        .bind(turn.0)
        .push(" ORDER BY position");
    for call in first_ids("tool_calls", open, db).await? {
        let of_call = Sql::new("SELECT conversation_id FROM tool_calls WHERE id = ").bind(call);
        next_position(db, of_call).await?;
        Sql::new("UPDATE tool_calls SET outcome = '")
            .push(codes::UNKNOWN)
            .push("', unknown_cause = '")
            .push(UnknownCause::Interrupted.code())
            .push("', took_us = 0, result_position = (SELECT c.last_position FROM conversations c WHERE c.id = tool_calls.conversation_id)")
            .push(", result_at = ")
            .bind(at.0)
            .push(", started_at = ")
            .bind(at.0)
            .push(" WHERE id = ")
            .bind(call)
            .execute(db)
            .await?;
    }
    Ok(())
}

/// Starts the first queued turn without a holder. If it is to be cancelled, the worker that claims
/// it does so.
async fn begin_next(db: &Db, ended: TurnId) -> Result<(), StoreFault> {
    let waiting = Sql::new("SELECT w.id FROM turns w WHERE w.ended_at IS NULL AND w.status = '")
        .push(codes::QUEUED)
        .push("' AND w.conversation_id = (SELECT e.conversation_id FROM turns e WHERE e.id = ")
        .bind(ended.0)
        .push(") ORDER BY w.ordinal")
        .limit(1);
    let Some(next) = first_ids("turns", waiting, db).await?.pop() else {
        return Ok(());
    };
    next_position(
        db,
        Sql::new("SELECT conversation_id FROM turns WHERE id = ").bind(next),
    )
    .await?;
    Sql::new("UPDATE messages SET position = (SELECT c.last_position FROM conversations c WHERE c.id = messages.conversation_id)")
        .push(" WHERE position IS NULL AND turn_id = ")
        .bind(next)
        .execute(db)
        .await?;
    Sql::new("UPDATE turns SET status = '")
        .push(codes::RUNNING)
        .push("' WHERE id = ")
        .bind(next)
        .execute(db)
        .await?;
    Sql::new("UPDATE turns SET superseded = TRUE WHERE conversation_id = (SELECT n.conversation_id FROM turns n WHERE n.id = ")
        .bind(next)
        .push(") AND ordinal < (SELECT n.ordinal FROM turns n WHERE n.id = ")
        .bind(next)
        .push(") AND ordinal >= (SELECT r.ordinal FROM turns n JOIN turns r ON r.id = n.retry_of WHERE n.id = ")
        .bind(next)
        .push(")")
        .execute(db)
        .await?;
    Ok(())
}

/// Moves the end of a conversation by one item.
async fn next_position(db: &Db, conversation: Sql) -> Result<(), StoreFault> {
    let moved = Sql::new("UPDATE conversations SET last_position = last_position + 1 WHERE id = (");
    moved
        .append(conversation)
        .push(")")
        .execute(db)
        .await
        .map(drop)
}

async fn first_ids(table: &'static str, query: Sql, db: &Db) -> Result<Vec<Uuid>, StoreFault> {
    query
        .all(db)
        .await?
        .iter()
        .map(|row| Row::new(table, 0, row).get(0, "id"))
        .collect()
}
