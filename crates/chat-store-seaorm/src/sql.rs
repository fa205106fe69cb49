//! Statements with their values, in the words of either database, and rows read by place.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use sea_orm::{QueryResult, TryGetable};
use uuid::Uuid;

use crate::error::StoreFault;

/// The dialect of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// A value of a statement: one of the types that the tables have.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Bool(bool),
    Number(Option<i64>),
    Text(Option<String>),
    /// Text that is valid JSON.
    Json(Option<String>),
    Uuid(Option<Uuid>),
    Bytes(Option<Vec<u8>>),
}

/// A part of a statement.
enum Part {
    Text(Cow<'static, str>),
    Value(Value),
    List(Vec<Value>),
    Rows(Vec<Vec<Value>>),
    Now,
    /// Text that differs: SQLite's, and PostgreSQL's.
    Words(&'static str, &'static str),
}

/// The value or values for one placeholder.
pub(crate) enum Bound {
    One(Value),
    /// A column of several rows. PostgreSQL alone: one value for each column keeps the text the
    /// same, however many rows there are, and so the statement prepared. One row is sent as its
    /// values: its statements are far cheaper to run.
    Column(Vec<Value>),
}

/// A statement in the making.
#[derive(Default)]
pub(crate) struct Sql {
    parts: Vec<Part>,
}

impl Sql {
    pub(crate) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self::default().push(text)
    }

    /// Adds text.
    pub(crate) fn push(self, text: impl Into<Cow<'static, str>>) -> Self {
        self.with(Part::Text(text.into()))
    }

    /// Adds another statement, values and all.
    pub(crate) fn append(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// Adds a value.
    pub(crate) fn bind(self, value: impl Into<Value>) -> Self {
        self.with(Part::Value(value.into()))
    }

    /// Adds values of one type, as between the parentheses of `IN (…)`.
    pub(crate) fn list(self, values: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        self.with(Part::List(values.into_iter().map(Into::into).collect()))
    }

    /// Adds a query that gives these rows, in columns named `column1`, `column2` and so on.
    pub(crate) fn rows<const N: usize>(self, rows: impl IntoIterator<Item = [Value; N]>) -> Self {
        self.with(Part::Rows(rows.into_iter().map(Vec::from).collect()))
    }

    /// Adds the database's clock, in microseconds since the Unix epoch.
    pub(crate) fn now(self) -> Self {
        self.with(Part::Now)
    }

    /// Adds the time that the current attempts at `turns` have taken, in microseconds: until now,
    /// or until the lease of their holder ran out. A step of the clock backwards counts as no time.
    pub(crate) fn attempt_time(self) -> Self {
        self.push("COALESCE(")
            .with(Part::Words("MAX(0, MIN(", "GREATEST(0, LEAST("))
            .now()
            .push(", COALESCE((SELECT w.expires_at FROM workers w WHERE w.id = turns.holder), ")
            .now()
            .push(")) - attempt_started_at), 0)")
    }

    /// Adds a limit. A number in the text: SQLite prepares a statement again whenever the value of
    /// its limit is bound.
    pub(crate) fn limit(self, limit: u32) -> Self {
        if limit == u32::MAX {
            self
        } else {
            self.push(format!(" LIMIT {limit}"))
        }
    }

    /// Locks the rows that this selects of `tables` until the end of the transaction, waiting for
    /// others. Only on PostgreSQL: on SQLite a writer is alone.
    pub(crate) fn for_update(self, tables: &'static str) -> Self {
        self.with(Part::Words("", " FOR NO KEY UPDATE OF "))
            .with(Part::Words("", tables))
    }

    /// Adds that the column before is among what `query` selects, and selects that once. Where a
    /// row was changed while [`for_update`](Self::for_update) waited for it, PostgreSQL checks it again,
    /// and loses it if it selects a `UNION ALL` again too.
    pub(crate) fn in_array(self, query: Self) -> Self {
        self.with(Part::Words(" IN (", " = ANY(ARRAY("))
            .append(query)
            .with(Part::Words(")", "))"))
    }

    /// The same, leaving out rows that others have locked.
    pub(crate) fn for_update_skip_locked(self, tables: &'static str) -> Self {
        self.for_update(tables)
            .with(Part::Words("", " SKIP LOCKED"))
    }

    fn with(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// The text, and what is bound to each of its placeholders, in order.
    pub(crate) fn render(self, dialect: Dialect) -> (String, Vec<Bound>) {
        let mut text = Rendered {
            dialect,
            text: String::new(),
            bound: Vec::new(),
        };
        self.parts.into_iter().for_each(|part| text.add(part));
        (text.text, text.bound)
    }
}

struct Rendered {
    dialect: Dialect,
    text: String,
    bound: Vec<Bound>,
}

impl Rendered {
    fn add(&mut self, part: Part) {
        match (part, self.dialect) {
            (Part::Text(text), _) => self.text.push_str(&text),
            (Part::Value(value), _) => self.place(Bound::One(value)),
            (Part::List(values), Dialect::Postgres) if values.is_empty() => {
                self.text.push_str("NULL")
            }
            (Part::List(values), dialect) if dialect == Dialect::Sqlite || values.len() == 1 => {
                self.values(values)
            }
            (Part::List(values), _) => {
                self.text.push_str("SELECT unnest(");
                self.place(Bound::Column(values));
                self.text.push(')');
            }
            (Part::Rows(rows), dialect) if dialect == Dialect::Sqlite || rows.len() == 1 => {
                self.text.push_str("VALUES ");
                for (place, row) in rows.into_iter().enumerate() {
                    self.text.push_str(if place > 0 { ", (" } else { "(" });
                    self.values(row);
                    self.text.push(')');
                }
            }
            (Part::Rows(rows), _) => self.columns(rows),
            // It ticks in milliseconds.
            (Part::Now, Dialect::Sqlite) => self
                .text
                .push_str("CAST(unixepoch('subsec') * 1000000 AS INTEGER)"),
            // The clock itself: `now()` does not change while a transaction waits for locks.
            (Part::Now, Dialect::Postgres) => self
                .text
                .push_str("CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"),
            (Part::Words(text, _), Dialect::Sqlite) | (Part::Words(_, text), Dialect::Postgres) => {
                self.text.push_str(text)
            }
        }
    }

    fn values(&mut self, values: Vec<Value>) {
        for (place, value) in values.into_iter().enumerate() {
            if place > 0 {
                self.text.push_str(", ");
            }
            self.place(Bound::One(value));
        }
    }

    fn columns(&mut self, rows: Vec<Vec<Value>>) {
        let mut columns: Vec<Vec<Value>> = Vec::new();
        for row in rows {
            columns.resize_with(row.len(), Vec::new);
            columns
                .iter_mut()
                .zip(row)
                .for_each(|(column, value)| column.push(value));
        }
        // Side by side: as a function in FROM they would all be stored before the first row is
        // given.
        for (place, column) in columns.into_iter().enumerate() {
            self.text.push_str(if place > 0 {
                ", unnest("
            } else {
                "SELECT unnest("
            });
            self.place(Bound::Column(column));
            // Writing to a string cannot fail.
            let _ = write!(self.text, ") AS column{}", place + 1);
        }
    }

    fn place(&mut self, bound: Bound) {
        let json = match &bound {
            Bound::One(Value::Json(_)) => "::json",
            Bound::Column(column) if matches!(column.first(), Some(Value::Json(_))) => "::json[]",
            _ => "",
        };
        self.bound.push(bound);
        match self.dialect {
            // Without numbers: SQLite searches the list of all names for each one that is named.
            Dialect::Sqlite => self.text.push('?'),
            Dialect::Postgres => {
                // Writing to a string cannot fail.
                let _ = write!(self.text, "${}{json}", self.bound.len());
            }
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Number(Some(value.into()))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Self::Uuid(Some(value))
    }
}

impl From<Option<Uuid>> for Value {
    fn from(value: Option<Uuid>) -> Self {
        Self::Uuid(value)
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Bytes(value)
    }
}

/// A row of a table, read by the places of its columns: names would cost a look-up each.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    table: &'static str,
    id: usize,
    row: &'a QueryResult,
}

impl<'a> Row<'a> {
    /// A row of `table` that has its id at place `id`.
    pub(crate) fn new(table: &'static str, id: usize, row: &'a QueryResult) -> Self {
        Self { table, id, row }
    }

    pub(crate) fn get<T: TryGetable>(
        &self,
        place: usize,
        column: &'static str,
    ) -> Result<T, StoreFault> {
        self.row
            .try_get_by(place)
            .map_err(|error| self.corrupt(column, &error.to_string()))
    }

    /// A number that is never negative.
    pub(crate) fn count<T: TryFrom<i64>>(
        &self,
        place: usize,
        column: &'static str,
    ) -> Result<T, StoreFault> {
        let number: i64 = self.get(place, column)?;
        T::try_from(number).map_err(|_| self.corrupt(column, &format!("{number} is out of range")))
    }

    /// A code, read by `meaning`.
    pub(crate) fn code<T>(
        &self,
        place: usize,
        column: &'static str,
        meaning: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreFault> {
        let code: String = self.get(place, column)?;
        meaning(&code).ok_or_else(|| self.corrupt(column, &format!("{code:?} means nothing")))
    }

    pub(crate) fn corrupt(&self, column: &'static str, problem: &str) -> StoreFault {
        let row = self
            .row
            .try_get_by::<Uuid, _>(self.id)
            .map_or_else(|_| "?".to_owned(), |id| id.to_string());
        StoreFault::Corrupt {
            table: self.table,
            column,
            row,
            problem: problem.to_owned(),
        }
    }
}

/// A length of time as databases keep it: in microseconds.
pub(crate) fn micros(time: Duration) -> Value {
    big(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// A count as databases keep it.
pub(crate) fn big(count: u64) -> Value {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(numbers: &[i64]) -> Sql {
        let rows = numbers
            .iter()
            .map(|number| [Value::from(*number), Value::Json(Some("{}".to_owned()))]);
        let named = Sql::new("SELECT id FROM t WHERE id").in_array(
            Sql::new("SELECT id FROM u WHERE id IN (")
                .list(numbers.to_vec())
                .push(")"),
        );
        let named = named
            .push(" AND name = ")
            .bind("ann")
            .for_update_skip_locked("t");
        Sql::new("WITH v(id, json) AS (")
            .rows(rows)
            .push("), n AS (")
            .append(named)
            .push(") DELETE FROM t")
    }

    #[test]
    fn sqlite_gets_a_placeholder_for_each_value_and_no_locks() {
        let (text, bound) = statement(&[1, 2]).render(Dialect::Sqlite);
        assert_eq!(
            text,
            "WITH v(id, json) AS (VALUES (?, ?), (?, ?)), n AS (SELECT id FROM t WHERE id IN (SELECT id FROM u WHERE id IN (?, ?)) \
             AND name = ?) DELETE FROM t"
        );
        assert_eq!(bound.len(), 7);
    }

    #[test]
    fn postgres_gets_the_same_text_for_any_number_of_rows_above_one() {
        for numbers in [[1, 2].as_slice(), &[1, 2, 3]] {
            let (text, bound) = statement(numbers).render(Dialect::Postgres);
            assert_eq!(
                text,
                "WITH v(id, json) AS (SELECT unnest($1) AS column1, unnest($2::json[]) AS column2), n AS (SELECT id FROM t \
                 WHERE id = ANY(ARRAY(SELECT id FROM u WHERE id IN (SELECT unnest($3)))) AND name = $4 FOR NO KEY UPDATE OF t SKIP LOCKED) \
                 DELETE FROM t"
            );
            assert!(matches!(
                bound.as_slice(),
                [
                    Bound::Column(_),
                    Bound::Column(_),
                    Bound::Column(_),
                    Bound::One(_)
                ]
            ));
        }
    }

    #[test]
    fn postgres_gets_one_row_as_its_values() {
        let (text, bound) = statement(&[1]).render(Dialect::Postgres);
        assert_eq!(
            text,
            "WITH v(id, json) AS (VALUES ($1, $2::json)), n AS (SELECT id FROM t WHERE id = ANY(ARRAY(SELECT id FROM u WHERE id IN ($3))) \
             AND name = $4 FOR NO KEY UPDATE OF t SKIP LOCKED) DELETE FROM t"
        );
        assert!(bound.iter().all(|bound| matches!(bound, Bound::One(_))) && bound.len() == 4);
    }
}
