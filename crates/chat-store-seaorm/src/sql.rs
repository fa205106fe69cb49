//! Statements with their values, and rows read by place.

use std::time::Duration;

use sea_orm::{ConnectionTrait, QueryResult, Statement, TryGetable, Value};

use crate::fault::Fault;
use crate::sqlite;

/// A statement in the making.
pub(crate) struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    /// Adds text.
    pub(crate) fn push(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Adds another statement, values and all.
    pub(crate) fn append(mut self, other: Self) -> Self {
        self.text.push_str(&other.text);
        self.values.extend(other.values);
        self
    }

    /// Adds a value.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.add(value.into());
        self
    }

    /// Adds values, separated by commas.
    pub(crate) fn list(mut self, values: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        for (place, value) in values.into_iter().enumerate() {
            if place > 0 {
                self.text.push_str(", ");
            }
            self.add(value.into());
        }
        self
    }

    /// Adds rows in parentheses, separated by commas, as after `VALUES`.
    pub(crate) fn rows<const N: usize>(mut self, rows: impl IntoIterator<Item = [Value; N]>) -> Self {
        for (place, row) in rows.into_iter().enumerate() {
            self.text.push_str(if place > 0 { ", (" } else { "(" });
            self = self.list(row);
            self.text.push(')');
        }
        self
    }

    /// Adds a limit. A number in the text: SQLite prepares a statement anew whenever the value of its limit is bound.
    pub(crate) fn limit(self, limit: u32) -> Self {
        if limit == u32::MAX { self } else { self.push(&format!(" LIMIT {limit}")) }
    }

    fn add(&mut self, value: Value) {
        self.values.push(value);
        sqlite::write_placeholder(&mut self.text);
    }

    fn statement(self) -> Statement {
        Statement::from_sql_and_values(sqlite::BACKEND, self.text, self.values)
    }

    /// Runs it; returns how many rows it changed.
    pub(crate) async fn execute(self, db: &impl ConnectionTrait) -> Result<u64, Fault> {
        Ok(db.execute_raw(self.statement()).await?.rows_affected())
    }

    /// Runs it; returns its rows.
    pub(crate) async fn all(self, db: &impl ConnectionTrait) -> Result<Vec<QueryResult>, Fault> {
        Ok(db.query_all_raw(self.statement()).await?)
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

    pub(crate) fn get<T: TryGetable>(&self, place: usize, column: &'static str) -> Result<T, Fault> {
        self.row.try_get_by(place).map_err(|error| self.corrupt(column, &error.to_string()))
    }

    /// A number that is never negative.
    pub(crate) fn count<T: TryFrom<i64>>(&self, place: usize, column: &'static str) -> Result<T, Fault> {
        let number: i64 = self.get(place, column)?;
        T::try_from(number).map_err(|_| self.corrupt(column, &format!("{number} is out of range")))
    }

    /// A text that stands for something.
    pub(crate) fn code<T>(&self, place: usize, column: &'static str, meaning: impl FnOnce(&str) -> Option<T>) -> Result<T, Fault> {
        let code: String = self.get(place, column)?;
        meaning(&code).ok_or_else(|| self.corrupt(column, &format!("{code:?} means nothing")))
    }

    pub(crate) fn corrupt(&self, column: &'static str, problem: &str) -> Fault {
        let row = self.row.try_get_by::<uuid::Uuid, _>(self.id).map_or_else(|_| "?".to_owned(), |id| id.to_string());
        Fault::Corrupt { table: self.table, column, row, problem: problem.to_owned() }
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
