//! Saving what a batch of commands has changed.

use chat_domain::log::{
    CallRow, Changes, MessageRow, NewConversation, ResultRow, SupersededTurns, TurnChange, TurnRow,
};
use chat_domain::{AgentData, FinishReason, ToolOutcome, ToolResult, TurnOutcome, TurnStatus};

use crate::codes;
use crate::db::Db;
use crate::error::StoreFault;
use crate::sql::{Sql, Value, big, micros};

/// How many rows a statement takes: all databases bound the number of values (SQLite: 32,766).
const ROWS: usize = 1000;

/// Saves the changes: one statement for each kind, whatever the number of commands.
pub(super) async fn save(db: &Db, changes: &Changes) -> Result<(), StoreFault> {
    let changed = |running: bool| {
        let turns = changes.turns.iter();
        turns.filter(move |change| change.row.is_running() == running)
    };
    let mut writes = Writes::default();
    writes.insert(
        "conversations (id, owner, title, created_at, updated_at, last_position, last_ordinal)",
        changes.new_conversations.iter().map(new_conversation),
    );
    writes.update_turns(changed(false));
    if changed(true).next().is_some() || changes.new_turns.iter().any(TurnRow::is_running) {
        // Turns that stop running go first: at no moment may two turns of a conversation run.
        writes.flush(db).await?;
    }
    writes.update_turns(changed(true));
    writes.insert_turns(&changes.new_turns);
    writes.update(
        "v(turn_id, position)",
        "messages SET position = v.position FROM v WHERE messages.turn_id = v.turn_id AND messages.position IS NULL",
        changes.placed_messages.iter().map(|placed| [placed.turn.0.into(), big(placed.position.0)]),
    );
    writes.insert(
        "messages (id, conversation_id, turn_id, position, role, text, created_at, finish_reason, turns_left_out, agent_data)",
        changes.new_messages.iter().map(new_message),
    );
    writes.insert(
        "tool_calls (id, conversation_id, turn_id, message_id, position, tool, arguments, ran_by, created_at, agent_data, \
         result_position, result_at, outcome, output, error_message, unknown_cause, started_at, took_us)",
        changes.new_calls.iter().map(new_call),
    );
    writes.update(
        "v(id, result_position, result_at, outcome, output, error_message, unknown_cause, started_at, took_us)",
        "tool_calls SET result_position = v.result_position, result_at = v.result_at, outcome = v.outcome, output = v.output, \
         error_message = v.error_message, unknown_cause = v.unknown_cause, started_at = v.started_at, took_us = v.took_us \
         FROM v WHERE tool_calls.id = v.id",
        changes.results.iter().map(|row| {
            let [position, at, outcome, output, error, cause, started, took] = result_values(Some(row));
            [row.result.call.0.into(), position, at, outcome, output, error, cause, started, took]
        }),
    );
    writes.update(
        "v(id, updated_at, last_position, last_ordinal)",
        "conversations SET updated_at = v.updated_at, last_position = v.last_position, last_ordinal = v.last_ordinal \
         FROM v WHERE conversations.id = v.id",
        changes.conversations.iter().map(|row| {
            [row.id.0.into(), row.updated_at.0.into(), big(row.last_position), big(row.last_ordinal)]
        }),
    );
    writes.flush(db).await?;
    for SupersededTurns {
        conversation,
        ordinals,
    } in &changes.superseded
    {
        Sql::new("UPDATE turns SET superseded = TRUE WHERE conversation_id = ")
            .bind(conversation.0)
            .push(" AND ordinal < ")
            .bind(big(ordinals.end.0))
            .push(" AND ordinal >= ")
            .bind(big(ordinals.start.0))
            .execute(db)
            .await?;
    }
    Ok(())
}

/// Statements that may be run in any order.
#[derive(Default)]
struct Writes {
    /// They store all their rows, or fail.
    inserts: Vec<Sql>,
    updates: Vec<Sql>,
    /// How many rows each update must change.
    expected: Vec<usize>,
}

impl Writes {
    /// Inserts rows, `into` a table and its columns.
    fn insert<const N: usize>(
        &mut self,
        into: &'static str,
        rows: impl Iterator<Item = [Value; N]>,
    ) {
        let rows: Vec<_> = rows.collect();
        let insert = |rows: &[[Value; N]]| {
            Sql::new("INSERT INTO ")
                .push(into)
                .push(" ")
                .rows(rows.iter().cloned())
        };
        self.inserts.extend(rows.chunks(ROWS).map(insert));
    }

    /// Updates rows from the new values `v`, each of which must find its row as it was read:
    /// if another transaction has changed it since, the decisions of this batch would rest on a
    /// state that is gone.
    fn update<const N: usize>(
        &mut self,
        v: &'static str,
        table_set: &'static str,
        rows: impl Iterator<Item = [Value; N]>,
    ) {
        let rows: Vec<_> = rows.collect();
        for rows in rows.chunks(ROWS) {
            let values = Sql::new("WITH ")
                .push(v)
                .push(" AS (")
                .rows(rows.iter().cloned());
            self.updates.push(values.push(") UPDATE ").push(table_set));
            self.expected.push(rows.len());
        }
    }

    /// Inserts turns; the attempt at one that runs begins now, by the database's clock.
    fn insert_turns(&mut self, new: &[TurnRow]) {
        const COLUMNS: &str = "id, conversation_id, owner, ordinal, status, holder, epoch, attempt, cancel_requested, retry_of, original_message_id, original_at, superseded, \
             idempotency_key, fingerprint, input_tokens, output_tokens, created_at, ended_at";
        let rows: Vec<_> = new.iter().map(new_turn).collect();
        for rows in rows.chunks(ROWS) {
            let insert = Sql::new("INSERT INTO turns (")
                .push(COLUMNS)
                .push(", attempt_started_at) WITH v(")
                .push(COLUMNS)
                .push(") AS (");
            let insert = insert
                .rows(rows.iter().cloned())
                .push(") SELECT ")
                .push(COLUMNS)
                .push(", CASE WHEN status = '");
            self.inserts.push(
                insert
                    .push(codes::RUNNING)
                    .push("' THEN ")
                    .now()
                    .push(" END FROM v"),
            );
        }
    }

    fn update_turns<'a>(&mut self, changed: impl Iterator<Item = &'a TurnChange>) {
        let rows: Vec<_> = changed.map(changed_turn).collect();
        for rows in rows.chunks(ROWS) {
            let values = Sql::new(
                "WITH v(id, status, holder, epoch, attempt, cancel_requested, superseded, input_tokens, output_tokens, finish_reason, \
                 turns_left_out, failure_kind, failure_message, next_id, ended_at, keeps_draft, stored_epoch, stored_holder) AS (",
            );
            let update = values.rows(rows.iter().cloned()).push(
                ") UPDATE turns SET status = v.status, holder = v.holder, epoch = v.epoch, attempt = v.attempt, \
                 cancel_requested = v.cancel_requested, superseded = v.superseded, input_tokens = v.input_tokens, \
                 output_tokens = v.output_tokens, finish_reason = v.finish_reason, turns_left_out = v.turns_left_out, \
                 failure_kind = v.failure_kind, failure_message = v.failure_message, next_id = v.next_id, ended_at = v.ended_at, \
                 draft_message_id = CASE WHEN v.keeps_draft THEN turns.draft_message_id END, \
                 draft_text = CASE WHEN v.keeps_draft THEN turns.draft_text END, attempt_started_at = CASE WHEN v.status = '",
            );
            // The first write of an attempt is what begins it.
            let update = update
                .push(codes::RUNNING)
                .push("' THEN COALESCE(turns.attempt_started_at, ")
                .now();
            self.updates.push(update.push(
                ") ELSE turns.attempt_started_at END FROM v WHERE turns.id = v.id AND turns.epoch = v.stored_epoch \
                 AND turns.holder IS NOT DISTINCT FROM v.stored_holder",
            ));
            self.expected.push(rows.len());
        }
    }

    /// Runs what has been gathered.
    async fn flush(&mut self, db: &Db) -> Result<(), StoreFault> {
        let Self {
            inserts,
            updates,
            expected,
        } = std::mem::take(self);
        let changed = db.execute_all(inserts, updates).await?;
        if changed
            .iter()
            .map(|rows| usize::try_from(*rows).ok())
            .eq(expected.iter().copied().map(Some))
        {
            return Ok(());
        }
        Err(StoreFault::InvariantViolation(format!(
            "{changed:?} of {expected:?} rows were as they had been read"
        )))
    }
}

fn new_conversation(row: &NewConversation) -> [Value; 7] {
    [
        row.id.0.into(),
        row.owner.as_str().into(),
        row.title.as_str().into(),
        row.created_at.0.into(),
        row.created_at.0.into(),
        big(row.last_position),
        big(row.last_ordinal),
    ]
}

/// The columns of a turn's status: status, cause and message of its failure, time of its
/// end.
fn status_values(status: &TurnStatus) -> [Value; 4] {
    let ended = |status: &str, at: i64, kind: Option<&str>, message: Option<&str>| {
        [
            status.into(),
            kind.map(str::to_owned).into(),
            message.map(str::to_owned).into(),
            Some(at).into(),
        ]
    };
    let open = |status: &str| {
        [
            status.into(),
            None::<String>.into(),
            None::<String>.into(),
            None::<i64>.into(),
        ]
    };
    match status {
        TurnStatus::Queued => open(codes::QUEUED),
        TurnStatus::Running => open(codes::RUNNING),
        TurnStatus::Ended { at, outcome } => match outcome {
            TurnOutcome::Completed => ended(codes::COMPLETED, at.0, None, None),
            TurnOutcome::Cancelled => ended(codes::CANCELLED, at.0, None, None),
            TurnOutcome::Failed(failure) => ended(
                codes::FAILED,
                at.0,
                Some(failure.kind.code()),
                Some(&failure.message),
            ),
        },
    }
}

fn changed_turn(change: &TurnChange) -> [Value; 18] {
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
        finish(turn.finish),
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

fn new_turn(row: &TurnRow) -> [Value; 19] {
    let turn = &row.turn;
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
        row.idempotency.as_ref().map(|used| used.key.clone()).into(),
        row.idempotency
            .as_ref()
            .map(|used| used.fingerprint.to_vec())
            .into(),
        big(turn.usage.input_tokens),
        big(turn.usage.output_tokens),
        turn.created_at.0.into(),
        ended_at,
    ]
}

fn new_message(row: &MessageRow) -> [Value; 10] {
    let message = &row.message;
    [
        message.id.0.into(),
        row.conversation.0.into(),
        row.turn.0.into(),
        row.position
            .map(|position| i64::try_from(position.0).unwrap_or(i64::MAX))
            .into(),
        codes::role_code(message.role).into(),
        message.text.as_str().into(),
        row.at.0.into(),
        finish(message.finish),
        big(message.turns_left_out),
        agent_data(message.agent_data.as_ref()),
    ]
}

fn new_call(row: &CallRow) -> [Value; 18] {
    let call = &row.call;
    let [
        result_position,
        result_at,
        outcome,
        output,
        error_message,
        unknown_cause,
        started_at,
        took,
    ] = result_values(row.result.as_ref());
    [
        call.id.0.into(),
        row.conversation.0.into(),
        row.turn.0.into(),
        call.message.0.into(),
        big(row.position.0),
        call.tool.as_str().into(),
        json(Some(call.arguments.as_str())),
        codes::executor_code(call.executor).into(),
        row.at.0.into(),
        agent_data(call.agent_data.as_ref()),
        result_position,
        result_at,
        outcome,
        output,
        error_message,
        unknown_cause,
        started_at,
        took,
    ]
}

fn finish(reason: Option<FinishReason>) -> Value {
    reason.map(|reason| reason.code().to_owned()).into()
}

fn agent_data(data: Option<&AgentData>) -> Value {
    data.map(|data| data.as_str().to_owned()).into()
}

fn json(text: Option<&str>) -> Value {
    Value::Json(text.map(str::to_owned))
}

/// The columns of a result: place, time, outcome, output, message of the error, cause if it is
/// unknown, start, microseconds taken.
fn result_values(row: Option<&ResultRow>) -> [Value; 8] {
    let (none, no_number) = (|| Value::from(None::<String>), || Value::from(None::<i64>));
    let Some(ResultRow {
        position,
        at,
        result,
        ..
    }) = row
    else {
        return [
            no_number(),
            no_number(),
            none(),
            json(None),
            none(),
            none(),
            no_number(),
            no_number(),
        ];
    };
    let ToolResult {
        outcome,
        started_at,
        took,
        ..
    } = result;
    let (outcome, output, error, cause) = match outcome {
        ToolOutcome::Succeeded(output) => (
            codes::SUCCEEDED,
            json(Some(output.0.as_str())),
            none(),
            none(),
        ),
        ToolOutcome::Failed(error) => (
            error.kind.code(),
            json(None),
            error.message.as_str().into(),
            none(),
        ),
        ToolOutcome::Unknown(cause) => (codes::UNKNOWN, json(None), none(), cause.code().into()),
    };
    [
        big(position.0),
        at.0.into(),
        outcome.into(),
        output,
        error,
        cause,
        started_at.0.into(),
        micros(*took),
    ]
}
