//! The end of a turn by its own row alone, where its items or its conversation cannot be read or
//! written.

use async_trait::async_trait;
use chat_domain::{FailureKind, Refusal, Timestamp, TurnFailure, TurnId, TurnLease};
use uuid::Uuid;

use crate::batch::{Command, CommandError};
use crate::columns::{Columns, column};
use crate::connection::Connection;
use crate::error::StoreFault;
use crate::row::Row;
use crate::savepoint;
use crate::sql::{Sql, big};

/// The failure that the owner of a damaged turn sees.
const DAMAGED: &str = "The server could not read a part of this conversation.";

const LOCK_CONVERSATION: &str = "
    SELECT c.id FROM conversations c
    WHERE c.id {in_array} SELECT conversation_id FROM turns WHERE id = :turn {end_array}
    {for_update_of_c}";

const END_LEASED: &str = "
    UPDATE turns SET status = 'failed', failure_kind = :kind, failure_message = :message,
        ended_at = :at, draft_message_id = NULL, draft_text = NULL
    WHERE id = :turn AND holder = :worker AND epoch = :epoch AND ended_at IS NULL";

const END: &str = "
    UPDATE turns SET status = 'failed', failure_kind = :kind, failure_message = :message,
        ended_at = :at, draft_message_id = NULL, draft_text = NULL
    WHERE id = :turn";

const IS_ENDED: &str = "
    SELECT id FROM turns
    WHERE id = :turn AND holder = :worker AND epoch = :epoch AND ended_at IS NOT NULL";

const RELEASE: &str = "
    UPDATE turns SET holder = NULL, attempt = 0, attempt_started_at = NULL WHERE id = :turn";

const TOUCH_CONVERSATION: &str = "
    UPDATE conversations SET updated_at = :at
    WHERE id = (SELECT conversation_id FROM turns WHERE id = :turn)";

const OPEN_CALLS: &str = "
    SELECT id FROM tool_calls WHERE outcome IS NULL AND turn_id = :turn ORDER BY position";

const NEXT_POSITION_FOR_CALL: &str = "
    UPDATE conversations SET last_position = last_position + 1
    WHERE id = (SELECT conversation_id FROM tool_calls WHERE id = :call)";

const END_CALL: &str = "
    UPDATE tool_calls SET outcome = 'unknown', unknown_cause = 'interrupted', took_us = 0,
        result_position = (
            SELECT c.last_position FROM conversations c WHERE c.id = tool_calls.conversation_id
        ),
        result_at = :at, started_at = :at
    WHERE id = :call";

const FIRST_QUEUED: &str = "
    SELECT w.id FROM turns w
    WHERE w.ended_at IS NULL AND w.status = 'queued' AND w.conversation_id = (
        SELECT e.conversation_id FROM turns e WHERE e.id = :turn
    )
    ORDER BY w.ordinal LIMIT 1";

const NEXT_POSITION_FOR_TURN: &str = "
    UPDATE conversations SET last_position = last_position + 1
    WHERE id = (SELECT conversation_id FROM turns WHERE id = :next)";

const PLACE_MESSAGE: &str = "
    UPDATE messages SET position = (
        SELECT c.last_position FROM conversations c WHERE c.id = messages.conversation_id
    )
    WHERE position IS NULL AND turn_id = :next";

const START: &str = "UPDATE turns SET status = 'running' WHERE id = :next";

const SUPERSEDE: &str = "
    UPDATE turns SET superseded = TRUE
    WHERE conversation_id = (SELECT n.conversation_id FROM turns n WHERE n.id = :next)
        AND ordinal < (SELECT n.ordinal FROM turns n WHERE n.id = :next)
        AND ordinal >= (
            SELECT r.ordinal FROM turns n JOIN turns r ON r.id = n.retry_of WHERE n.id = :next
        )";

const TURN_ID: Columns = Columns::new("turns", "id");

const CALL_ID: Columns = Columns::new("tool_calls", "id");

const CLOCK: Columns = Columns::new("clock", "{now} AS now");

/// Ends a turn, whatever its items are.
pub(crate) struct ForceEnd {
    pub(crate) lease: TurnLease,
    pub(crate) failure: TurnFailure,
    pub(crate) at: Timestamp,
}

#[async_trait]
impl Command for ForceEnd {
    type Answer = ();

    async fn run(&self, db: &dyn Connection) -> Result<(), CommandError> {
        let TurnLease {
            turn,
            worker,
            epoch,
        } = self.lease;
        let of_lease = |text: &'static str| {
            let query = Sql::new(text).bind("turn", turn.0);
            query.bind("worker", worker.0).bind("epoch", big(epoch))
        };
        let lock = Sql::new(LOCK_CONVERSATION).bind("turn", turn.0);
        lock.query(db).await?;
        if end(db, of_lease(END_LEASED), &self.failure, self.at).await? {
            return Ok(finish(db, turn, self.at).await?);
        }
        if of_lease(IS_ENDED).query(db).await?.is_empty() {
            Err(Refusal::LeaseLost.into())
        } else {
            Ok(())
        }
    }
}

/// Ends a turn that this transaction has claimed and cannot load.
pub(crate) async fn end_unloaded(db: &dyn Connection, turn: TurnId) -> Result<(), StoreFault> {
    let clock = Sql::new("SELECT {columns}").text("columns", CLOCK.text);
    let now = clock.query(db).await?;
    let now = now
        .first()
        .map(|row| Row::new(&CLOCK, row).get(column!(CLOCK, "now")));
    let at = Timestamp(now.transpose()?.unwrap_or_default());
    let failure = TurnFailure {
        kind: FailureKind::Internal,
        message: DAMAGED.to_owned(),
    };
    let end = end(db, Sql::new(END).bind("turn", turn.0), &failure, at);
    match savepoint::attempt(db, end).await? {
        Ok(_) => finish(db, turn, at).await,
        Err(fault) => {
            tracing::error!(turn_id = %turn, error = %fault, "turn cannot be ended");
            Ok(())
        }
    }
}

/// Leaves a running turn to the next claim. No attempt is counted for it yet.
pub(crate) async fn release(db: &dyn Connection, turn: TurnId) -> Result<(), StoreFault> {
    let release = Sql::new(RELEASE).bind("turn", turn.0);
    release.execute(db).await.map(drop)
}

/// Runs [`END`] or [`END_LEASED`]; returns whether the turn was ended by it.
async fn end(
    db: &dyn Connection,
    end: Sql,
    failure: &TurnFailure,
    at: Timestamp,
) -> Result<bool, StoreFault> {
    let end = end
        .bind("kind", failure.kind.code())
        .bind("message", failure.message.as_str())
        .bind("at", at.0);
    Ok(end.execute(db).await? > 0)
}

/// Does the other parts of a turn's end, as far as the rows allow.
async fn finish(db: &dyn Connection, turn: TurnId, at: Timestamp) -> Result<(), StoreFault> {
    for (part, done) in [
        (
            "the conversation's time",
            savepoint::attempt(db, touch_conversation(db, turn, at)).await?,
        ),
        (
            "open tool calls",
            savepoint::attempt(db, end_calls(db, turn, at)).await?,
        ),
        (
            "the next turn",
            savepoint::attempt(db, start_next(db, turn)).await?,
        ),
    ] {
        if let Err(fault) = done {
            tracing::error!(
                turn_id = %turn, part, error = %fault,
                "turn ended, but a part of its end is missing"
            );
        }
    }
    Ok(())
}

async fn touch_conversation(
    db: &dyn Connection,
    turn: TurnId,
    at: Timestamp,
) -> Result<(), StoreFault> {
    let touch = Sql::new(TOUCH_CONVERSATION).bind("at", at.0);
    touch.bind("turn", turn.0).execute(db).await.map(drop)
}

async fn end_calls(db: &dyn Connection, turn: TurnId, at: Timestamp) -> Result<(), StoreFault> {
    let open = Sql::new(OPEN_CALLS).bind("turn", turn.0).query(db).await?;
    for row in open.iter().map(|row| Row::new(&CALL_ID, row)) {
        let call: Uuid = row.get(column!(CALL_ID, "id"))?;
        let next = Sql::new(NEXT_POSITION_FOR_CALL).bind("call", call);
        next.execute(db).await?;
        let end = Sql::new(END_CALL).bind("at", at.0).bind("call", call);
        end.execute(db).await?;
    }
    Ok(())
}

/// Starts the first queued turn without a holder. If its cancellation was requested, the worker
/// that claims the turn cancels it.
async fn start_next(db: &dyn Connection, ended: TurnId) -> Result<(), StoreFault> {
    let first = Sql::new(FIRST_QUEUED)
        .bind("turn", ended.0)
        .query(db)
        .await?;
    let Some(row) = first.first().map(|row| Row::new(&TURN_ID, row)) else {
        return Ok(());
    };
    let next: Uuid = row.get(column!(TURN_ID, "id"))?;
    for statement in [NEXT_POSITION_FOR_TURN, PLACE_MESSAGE, START, SUPERSEDE] {
        Sql::new(statement).bind("next", next).execute(db).await?;
    }
    Ok(())
}
