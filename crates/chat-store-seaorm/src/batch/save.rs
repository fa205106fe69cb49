//! Saves what a batch of commands has changed.

use chat_domain::log::{Changes, TurnChange, TurnRow};

use crate::connection::Connection;
use crate::error::StoreFault;
use crate::queries::{conversations, messages, tool_calls, turns};
use crate::sql::Sql;

/// How many rows a statement takes: all databases bound the number of values (SQLite: 32,766).
const ROWS: usize = 1000;

/// Saves the changes by one statement for each kind, whatever the number of commands.
pub(super) async fn save(db: &dyn Connection, changes: &Changes) -> Result<(), StoreFault> {
    let (running, stopped): (Vec<&TurnChange>, Vec<&TurnChange>) = changes
        .turns
        .iter()
        .partition(|change| change.row.is_running());
    let mut writes = Writes::default();
    writes.insert(&changes.new_conversations, conversations::insert);
    writes.update(&stopped, turns::update);
    if !running.is_empty() || changes.new_turns.iter().any(TurnRow::is_running) {
        // Turns that stop running go first: at no moment may two turns of a conversation run.
        writes.run(db).await?;
    }
    writes.update(&running, turns::update);
    writes.insert(&changes.new_turns, turns::insert);
    writes.update(&changes.placed_messages, messages::place);
    writes.insert(&changes.new_messages, messages::insert);
    writes.insert(&changes.new_calls, tool_calls::insert);
    writes.update(&changes.results, tool_calls::set_results);
    writes.update(&changes.conversations, conversations::update);
    writes.run(db).await?;
    for superseded in &changes.superseded {
        turns::supersede(superseded).execute(db).await?;
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
    fn insert<R>(&mut self, rows: &[R], statement: impl Fn(&[R]) -> Sql) {
        self.inserts.extend(rows.chunks(ROWS).map(statement));
    }

    fn update<R>(&mut self, rows: &[R], statement: impl Fn(&[R]) -> Sql) {
        for rows in rows.chunks(ROWS) {
            self.updates.push(statement(rows));
            self.expected.push(rows.len());
        }
    }

    /// Runs the statements that have been added.
    ///
    /// # Errors
    /// An update did not find all its rows, or the database refuses a statement.
    async fn run(&mut self, db: &dyn Connection) -> Result<(), StoreFault> {
        let Self {
            inserts,
            updates,
            expected,
        } = std::mem::take(self);
        let changed = db.execute_all(inserts, updates).await?;
        let changed = changed.iter().map(|rows| usize::try_from(*rows).ok());
        if changed.clone().eq(expected.iter().copied().map(Some)) {
            return Ok(());
        }
        let changed: Vec<_> = changed.collect();
        Err(StoreFault::InvariantViolation(format!(
            "{changed:?} of {expected:?} rows were as they had been read"
        )))
    }
}
