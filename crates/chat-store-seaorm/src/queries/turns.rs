//! The table `turns`.

use std::time::Duration;

use async_trait::async_trait;
use chat_domain::log::{SupersededTurns, TurnChange, TurnRow};
use chat_domain::{
    ConversationId, Draft, FailureKind, FinishReason, IdempotencyKey, MessageId, Ordinal,
    OriginalMessage, Refusal, Timestamp, Turn, TurnFailure, TurnId, TurnOutcome, TurnStatus, Usage,
    UserId, WorkerId,
};
use uuid::Uuid;

use super::conversations;
use crate::batch::{Command, CommandError};
use crate::codes;
use crate::columns::{Column, HELD, TURN, column};
use crate::connection::Connection;
use crate::error::StoreFault;
use crate::row::Row;
use crate::sql::{Sql, Value, big};

const GET: &str = "SELECT {columns} FROM turns t WHERE t.id = :id AND t.owner = :owner";

const REQUEST_CANCEL: &str = "
    UPDATE turns SET cancel_requested = TRUE
    WHERE ended_at IS NULL AND id = :id AND owner = :owner";

const RELEASE_KEY: &str = "
    UPDATE turns SET idempotency_key = NULL, fingerprint = NULL
    WHERE id = :id AND owner = :owner";

/// The attempt at a turn that runs begins now, by the database's clock.
const INSERT: &str = "
    INSERT INTO turns (id, conversation_id, owner, ordinal, status, holder, epoch, attempt,
        cancel_requested, retry_of, original_message_id, original_at, superseded,
        idempotency_key, fingerprint, input_tokens, output_tokens, created_at, ended_at,
        attempt_started_at)
    WITH v(id, conversation_id, owner, ordinal, status, holder, epoch, attempt,
        cancel_requested, retry_of, original_message_id, original_at, superseded,
        idempotency_key, fingerprint, input_tokens, output_tokens, created_at, ended_at
    ) AS (:rows)
    SELECT id, conversation_id, owner, ordinal, status, holder, epoch, attempt,
        cancel_requested, retry_of, original_message_id, original_at, superseded,
        idempotency_key, fingerprint, input_tokens, output_tokens, created_at, ended_at,
        CASE WHEN status = 'running' THEN {now} END
    FROM v";

/// Each row must be as it was loaded: if another transaction has changed it since, the decisions of
/// the batch would rest on a state that is gone. The first write of an attempt begins it.
const UPDATE: &str = "
    WITH v(id, status, holder, epoch, attempt, cancel_requested, superseded, input_tokens,
        output_tokens, finish_reason, turns_left_out, failure_kind, failure_message, next_id,
        ended_at, keeps_draft, loaded_epoch, loaded_holder) AS (:rows)
    UPDATE turns SET status = v.status, holder = v.holder, epoch = v.epoch, attempt = v.attempt,
        cancel_requested = v.cancel_requested, superseded = v.superseded,
        input_tokens = v.input_tokens, output_tokens = v.output_tokens,
        finish_reason = v.finish_reason, turns_left_out = v.turns_left_out,
        failure_kind = v.failure_kind, failure_message = v.failure_message,
        next_id = v.next_id, ended_at = v.ended_at,
        draft_message_id = CASE WHEN v.keeps_draft THEN turns.draft_message_id END,
        draft_text = CASE WHEN v.keeps_draft THEN turns.draft_text END,
        attempt_started_at = CASE WHEN v.status = 'running'
            THEN COALESCE(turns.attempt_started_at, {now}) ELSE turns.attempt_started_at END
    FROM v WHERE turns.id = v.id AND turns.epoch = v.loaded_epoch
        AND turns.holder IS NOT DISTINCT FROM v.loaded_holder";

const SUPERSEDE: &str = "
    UPDATE turns SET superseded = TRUE
    WHERE conversation_id = :conversation AND ordinal < :end AND ordinal >= :start";

/// The turn in a row that begins with [`TURN`].
pub(crate) fn turn(row: Row<'_>) -> Result<Turn, StoreFault> {
    Ok(Turn {
        id: TurnId(row.get(column!(TURN, "id"))?),
        conversation: ConversationId(row.get(column!(TURN, "conversation_id"))?),
        ordinal: Ordinal(row.count(column!(TURN, "ordinal"))?),
        status: status(row)?,
        cancel_requested: row.get(column!(TURN, "cancel_requested"))?,
        retry_of: row
            .get::<Option<Uuid>>(column!(TURN, "retry_of"))?
            .map(TurnId),
        superseded: row.get(column!(TURN, "superseded"))?,
        created_at: Timestamp(row.get(column!(TURN, "created_at"))?),
        usage: Usage {
            input_tokens: row.count(column!(TURN, "input_tokens"))?,
            output_tokens: row.count(column!(TURN, "output_tokens"))?,
        },
        finish: finish_reason(row, column!(TURN, "finish_reason"))?,
        turns_left_out: row.count(column!(TURN, "turns_left_out"))?,
        original: original(row)?,
    })
}

fn original(row: Row<'_>) -> Result<Option<OriginalMessage>, StoreFault> {
    let id = row.get::<Option<Uuid>>(column!(TURN, "original_message_id"))?;
    let at = row.get::<Option<i64>>(column!(TURN, "original_at"))?;
    Ok(id.zip(at).map(|(id, at)| OriginalMessage {
        id: MessageId(id),
        at: Timestamp(at),
    }))
}

/// The finish reason of a turn or a message.
pub(crate) fn finish_reason(
    row: Row<'_>,
    column: Column,
) -> Result<Option<FinishReason>, StoreFault> {
    let Some(code) = row.get::<Option<String>>(column)? else {
        return Ok(None);
    };
    FinishReason::from_code(&code)
        .map(Some)
        .ok_or_else(|| row.unknown_code(column, &code))
}

fn status(row: Row<'_>) -> Result<TurnStatus, StoreFault> {
    let status = column!(TURN, "status");
    let code = row.get::<String>(status)?;
    let outcome = match code.as_str() {
        codes::QUEUED => return Ok(TurnStatus::Queued),
        codes::RUNNING => return Ok(TurnStatus::Running),
        codes::COMPLETED => TurnOutcome::Completed,
        codes::CANCELLED => TurnOutcome::Cancelled,
        codes::FAILED => TurnOutcome::Failed(TurnFailure {
            kind: row.code(column!(TURN, "failure_kind"), FailureKind::from_code)?,
            message: row.get(column!(TURN, "failure_message"))?,
        }),
        _ => return Err(row.unknown_code(status, &code)),
    };
    Ok(TurnStatus::Ended {
        at: Timestamp(row.get(column!(TURN, "ended_at"))?),
        outcome,
    })
}

/// The draft in a row that begins with [`TURN_WITH_DRAFT`](crate::columns::TURN_WITH_DRAFT).
pub(crate) fn draft(row: Row<'_>) -> Result<Option<Draft>, StoreFault> {
    let Some(message) = row.get::<Option<Uuid>>(column!(TURN, "draft_message_id"))? else {
        return Ok(None);
    };
    Ok(Some(Draft {
        message: MessageId(message),
        text: row.get(column!(TURN, "draft_text"))?,
    }))
}

/// The turn with the store's bookkeeping in a row that begins with [`TURN`] and [`HELD`]. `retried`
/// is the ordinal of the turn that it repeats.
pub(crate) fn turn_row(row: Row<'_>, retried: Option<Ordinal>) -> Result<TurnRow, StoreFault> {
    Ok(TurnRow {
        turn: turn(row)?,
        owner: conversations::owner(row, column!(HELD, "owner"))?,
        holder: row
            .get::<Option<Uuid>>(column!(HELD, "holder"))?
            .map(WorkerId),
        epoch: row.count(column!(HELD, "epoch"))?,
        attempt: row.count(column!(HELD, "attempt"))?,
        spent: Duration::from_micros(row.count(column!(HELD, "spent_us"))?),
        next: row
            .get::<Option<Uuid>>(column!(HELD, "next_id"))?
            .map(TurnId),
        idempotency: idempotency(row)?,
        has_draft: row
            .get::<Option<Uuid>>(column!(TURN, "draft_message_id"))?
            .is_some(),
        retried,
    })
}

fn idempotency(row: Row<'_>) -> Result<Option<IdempotencyKey>, StoreFault> {
    let Some(key) = row.get::<Option<String>>(column!(HELD, "idempotency_key"))? else {
        return Ok(None);
    };
    let column = column!(HELD, "fingerprint");
    let fingerprint = row.get::<Vec<u8>>(column)?;
    let fingerprint = fingerprint
        .try_into()
        .map_err(|_| row.corrupt(column, "it is not 32 bytes long"))?;
    Ok(Some(IdempotencyKey { key, fingerprint }))
}

/// Asks that a turn be cancelled.
pub(crate) struct Cancel {
    pub(crate) owner: UserId,
    pub(crate) id: TurnId,
}

#[async_trait]
impl Command for Cancel {
    type Answer = Turn;

    async fn run(&self, db: &dyn Connection) -> Result<Turn, CommandError> {
        conversations::lock_of_turn(db, &self.owner, self.id).await?;
        Sql::new(REQUEST_CANCEL)
            .bind("id", self.id.0)
            .bind("owner", self.owner.as_str())
            .execute(db)
            .await?;
        let found = Sql::new(GET)
            .text("columns", TURN.text)
            .bind("id", self.id.0)
            .bind("owner", self.owner.as_str())
            .query(db)
            .await?;
        let row = found.first().ok_or(Refusal::NotFound)?;
        Ok(turn(Row::new(&TURN, row))?)
    }
}

/// Forgets the idempotency key of the request that began a turn.
pub(crate) struct ReleaseKey {
    pub(crate) owner: UserId,
    pub(crate) id: TurnId,
}

#[async_trait]
impl Command for ReleaseKey {
    type Answer = ();

    async fn run(&self, db: &dyn Connection) -> Result<(), CommandError> {
        conversations::lock_of_turn(db, &self.owner, self.id).await?;
        let released = Sql::new(RELEASE_KEY)
            .bind("id", self.id.0)
            .bind("owner", self.owner.as_str())
            .execute(db)
            .await?;
        if released == 0 {
            Err(Refusal::NotFound.into())
        } else {
            Ok(())
        }
    }
}

/// Inserts turns.
pub(crate) fn insert(new: &[TurnRow]) -> Sql {
    Sql::new(INSERT).rows("rows", new.iter().map(new_values))
}

/// Updates turns that are as they were loaded.
pub(crate) fn update(changed: &[&TurnChange]) -> Sql {
    Sql::new(UPDATE).rows("rows", changed.iter().map(|change| changed_values(change)))
}

/// Marks turns that a later turn replaces.
pub(crate) fn supersede(
    SupersededTurns {
        conversation,
        ordinals,
    }: &SupersededTurns,
) -> Sql {
    Sql::new(SUPERSEDE)
        .bind("conversation", conversation.0)
        .bind("start", big(ordinals.start.0))
        .bind("end", big(ordinals.end.0))
}

/// The values of a status: `status`, `failure_kind`, `failure_message`, `ended_at`.
fn status_values(status: &TurnStatus) -> [Value; 4] {
    let text = |text: Option<&str>| Value::from(text.map(str::to_owned));
    let (code, failure, ended_at) = match status {
        TurnStatus::Queued => (codes::QUEUED, None, None),
        TurnStatus::Running => (codes::RUNNING, None, None),
        TurnStatus::Ended { at, outcome } => {
            let (code, failure) = match outcome {
                TurnOutcome::Completed => (codes::COMPLETED, None),
                TurnOutcome::Cancelled => (codes::CANCELLED, None),
                TurnOutcome::Failed(failure) => (codes::FAILED, Some(failure)),
            };
            (code, failure, Some(at.0))
        }
    };
    [
        code.into(),
        text(failure.map(|failure| failure.kind.code())),
        text(failure.map(|failure| failure.message.as_str())),
        ended_at.into(),
    ]
}

fn changed_values(change: &TurnChange) -> [Value; 18] {
    let row = &change.row;
    let turn = &row.turn;
    let [status, failure_kind, failure_message, ended_at] = status_values(&turn.status);
    [
        turn.id.0.into(),
        status,
        row.holder.map(|holder| holder.0).into(),
        big(row.epoch),
        row.attempt.into(),
        turn.cancel_requested.into(),
        turn.superseded.into(),
        big(turn.usage.input_tokens),
        big(turn.usage.output_tokens),
        finish_value(turn.finish),
        big(turn.turns_left_out),
        failure_kind,
        failure_message,
        row.next.map(|next| next.0).into(),
        ended_at,
        row.has_draft.into(),
        big(change.loaded_epoch),
        change.loaded_holder.map(|holder| holder.0).into(),
    ]
}

fn new_values(row: &TurnRow) -> [Value; 19] {
    let turn = &row.turn;
    let idempotency = row.idempotency.as_ref();
    let [status, _, _, ended_at] = status_values(&turn.status);
    [
        turn.id.0.into(),
        turn.conversation.0.into(),
        row.owner.as_str().into(),
        big(turn.ordinal.0),
        status,
        row.holder.map(|holder| holder.0).into(),
        big(row.epoch),
        row.attempt.into(),
        turn.cancel_requested.into(),
        turn.retry_of.map(|retried| retried.0).into(),
        turn.original.map(|original| original.id.0).into(),
        turn.original.map(|original| original.at.0).into(),
        turn.superseded.into(),
        idempotency.map(|used| used.key.clone()).into(),
        idempotency.map(|used| used.fingerprint.to_vec()).into(),
        big(turn.usage.input_tokens),
        big(turn.usage.output_tokens),
        turn.created_at.0.into(),
        ended_at,
    ]
}

/// The value of a finish reason.
pub(crate) fn finish_value(reason: Option<FinishReason>) -> Value {
    reason.map(|reason| reason.code().to_owned()).into()
}
