//! Rows of a statement, read by their columns.

use sea_orm::{QueryResult, TryGetable};
use uuid::Uuid;

use crate::columns::{Column, Columns};
use crate::error::StoreFault;

/// A row of a statement that selects these columns.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    columns: &'static Columns,
    row: &'a QueryResult,
}

impl<'a> Row<'a> {
    /// A row of these columns.
    pub(crate) fn new(columns: &'static Columns, row: &'a QueryResult) -> Self {
        Self { columns, row }
    }

    /// The value of a column.
    pub(crate) fn get<T: TryGetable>(&self, column: Column) -> Result<T, StoreFault> {
        self.row
            .try_get_by(column.place)
            .map_err(|error| self.corrupt(column, &error.to_string()))
    }

    /// A number that is never negative.
    pub(crate) fn count<T: TryFrom<i64>>(&self, column: Column) -> Result<T, StoreFault> {
        let number: i64 = self.get(column)?;
        T::try_from(number).map_err(|_| self.corrupt(column, &format!("{number} is out of range")))
    }

    /// A code, decoded by `decode`.
    pub(crate) fn code<T>(
        &self,
        column: Column,
        decode: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreFault> {
        let code: String = self.get(column)?;
        decode(&code).ok_or_else(|| self.unknown_code(column, &code))
    }

    pub(crate) fn unknown_code(&self, column: Column, code: &str) -> StoreFault {
        self.corrupt(column, &format!("unknown code {code:?}"))
    }

    pub(crate) fn corrupt(&self, column: Column, problem: &str) -> StoreFault {
        let id = self
            .columns
            .id
            .and_then(|place| self.row.try_get_by::<Uuid, _>(place).ok());
        StoreFault::Corrupt {
            table: self.columns.table,
            column: column.name,
            row: id.map_or_else(|| "?".to_owned(), |id| id.to_string()),
            problem: problem.to_owned(),
        }
    }
}
