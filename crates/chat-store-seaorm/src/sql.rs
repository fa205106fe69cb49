//! Statements: whole texts with named values, rendered in the dialect of either database.
//!
//! A text is SQL with two kinds of placeholders. `:name` takes what is bound under this name: a
//! value, the values of an `IN (…)`, or the rows of a `VALUES`. `{name}` takes text: one of the
//! words in which the databases differ (see [`Dialect::word`]), or what [`Sql::text`] is given.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use uuid::Uuid;

/// The dialect of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// The words in which the databases differ.
    fn word(self, word: &str) -> Option<&'static str> {
        let (sqlite, postgres) = match word {
            // The database's clock, in microseconds since the Unix epoch. SQLite's ticks in
            // milliseconds. PostgreSQL's `now()` does not change while a transaction waits for
            // locks, so it is the clock itself.
            "now" => (
                "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
                "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
            ),
            "least" => ("MIN", "LEAST"),
            "greatest" => ("MAX", "GREATEST"),
            // How long the current attempts at `turns` have taken, in microseconds: until now, or
            // until the lease of their holder ran out. A step of the clock backwards counts as no
            // time.
            "attempt_time" => {
                let time = "COALESCE({greatest}(0, {least}({now}, COALESCE((SELECT w.expires_at \
                    FROM workers w WHERE w.id = turns.holder), {now})) - attempt_started_at), 0)";
                (time, time)
            }
            // Locks the selected rows of the named tables until the end of the transaction. On
            // SQLite a writer is alone.
            "for_update_of_c" => ("", "FOR NO KEY UPDATE OF c"),
            "for_update_of_c_t" => ("", "FOR NO KEY UPDATE OF c, t"),
            "for_update_of_t" => ("", "FOR NO KEY UPDATE OF t"),
            "for_update_of_w" => ("", "FOR NO KEY UPDATE OF w"),
            "skip_locked" => ("", "SKIP LOCKED"),
            // `x {in_array} SELECT … {end_array}`: x is among what the query selects, which is run
            // once. Where a row has changed while its lock was waited for, PostgreSQL checks the
            // condition again, and loses the row if that runs a `UNION ALL` again too.
            "in_array" => ("IN (", "= ANY(ARRAY("),
            "end_array" => (")", "))"),
            _ => return None,
        };
        Some(match self {
            Self::Sqlite => sqlite,
            Self::Postgres => postgres,
        })
    }
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

/// The value of a placeholder.
#[derive(Clone)]
enum Binding {
    Value(Value),
    List(Vec<Value>),
    Rows(Vec<Vec<Value>>),
}

/// The value or values for one placeholder of the rendered text.
pub(crate) enum Bound {
    One(Value),
    /// A column of several rows. PostgreSQL alone: one value for each column keeps the text the
    /// same, however many rows there are, and so the statement prepared. One row is sent as its
    /// values: its statements are far cheaper to run.
    Column(Vec<Value>),
}

/// A part of a statement, with names of its own.
struct Part {
    text: Cow<'static, str>,
    bindings: Vec<(&'static str, Binding)>,
}

/// A statement and its values.
pub(crate) struct Sql {
    parts: Vec<Part>,
}

impl Sql {
    /// A statement of this text.
    pub(crate) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        let part = Part {
            text: text.into(),
            bindings: Vec::new(),
        };
        Self { parts: vec![part] }
    }

    /// Adds another statement behind this one. Names that are bound later are the other's.
    pub(crate) fn append(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// Binds a value to `:name`.
    pub(crate) fn bind(self, name: &'static str, value: impl Into<Value>) -> Self {
        self.with(name, Binding::Value(value.into()))
    }

    /// Binds values of one type to the `:name` of an `IN (:name)`.
    pub(crate) fn list(
        self,
        name: &'static str,
        values: impl IntoIterator<Item = impl Into<Value>>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.with(name, Binding::List(values))
    }

    /// Binds to `:name` a query that gives these rows, in columns named `column1`, `column2` and
    /// so on.
    pub(crate) fn rows<const N: usize>(
        self,
        name: &'static str,
        rows: impl IntoIterator<Item = [Value; N]>,
    ) -> Self {
        let rows = rows.into_iter().map(Vec::from).collect();
        self.with(name, Binding::Rows(rows))
    }

    /// Puts text in the place of `{name}`, placeholders and all.
    pub(crate) fn text(mut self, name: &str, text: &str) -> Self {
        if let Some(part) = self.parts.last_mut() {
            part.text = part.text.replace(&format!("{{{name}}}"), text).into();
        }
        self
    }

    /// Puts a limit in the place of `{limit}`; `u32::MAX` is none. A number in the text: SQLite
    /// prepares a statement again whenever the value of its limit is bound.
    pub(crate) fn limit(self, limit: u32) -> Self {
        let text = match limit {
            u32::MAX => String::new(),
            limit => format!("LIMIT {limit}"),
        };
        self.text("limit", &text)
    }

    fn with(mut self, name: &'static str, binding: Binding) -> Self {
        if let Some(part) = self.parts.last_mut() {
            part.bindings.push((name, binding));
        }
        self
    }

    /// The text, and what is bound to each of its placeholders, in order.
    pub(crate) fn render(self, dialect: Dialect) -> (String, Vec<Bound>) {
        let length = self.parts.iter().map(|part| part.text.len()).sum::<usize>();
        let mut rendered = Rendered {
            dialect,
            text: String::with_capacity(length + 128),
            bound: Vec::new(),
        };
        for mut part in self.parts {
            rendered.add(&part.text, &mut part.bindings);
        }
        (rendered.text, rendered.bound)
    }
}

struct Rendered {
    dialect: Dialect,
    text: String,
    bound: Vec<Bound>,
}

impl Rendered {
    fn add(&mut self, text: &str, bindings: &mut Vec<(&'static str, Binding)>) {
        let mut rest = text;
        while let Some(at) = rest.find([':', '{', '\n']) {
            let (before, behind) = rest.split_at(at);
            self.text.push_str(before);
            rest = if let Some(behind) = behind.strip_prefix('\n') {
                // The indentation of the source is no part of the statement.
                self.text.push(' ');
                behind.trim_start_matches([' ', '\n'])
            } else if let Some(behind) = behind.strip_prefix(':') {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = behind.find(|c| !is_name(c)).unwrap_or(behind.len());
                let (name, rest) = behind.split_at(end);
                self.place(name, take(bindings, name, rest));
                rest
            } else {
                let behind = behind.strip_prefix('{').unwrap_or(behind);
                let (name, rest) = behind.split_once('}').unwrap_or((behind, ""));
                match self.dialect.word(name) {
                    #[cfg(feature = "testing")]
                    Some(_) if name == "now" && crate::clock::now().is_some() => {
                        self.text.push_str("CAST(");
                        self.bind(Bound::One(crate::clock::now().into()));
                        self.text.push_str(" AS BIGINT)");
                    }
                    Some(word) => self.add(word, bindings),
                    // The database names it in its refusal.
                    None => self.text.extend(["{", name, "}"]),
                }
                rest
            };
        }
        self.text.push_str(rest);
    }

    fn place(&mut self, name: &str, binding: Option<Binding>) {
        match binding {
            Some(Binding::Value(value)) => self.bind(Bound::One(value)),
            Some(Binding::List(values)) => self.list(values),
            Some(Binding::Rows(rows)) => self.rows(rows),
            // The database names it in its refusal.
            None => {
                self.text.push(':');
                self.text.push_str(name);
            }
        }
    }

    fn list(&mut self, values: Vec<Value>) {
        match (self.dialect, values.len()) {
            (Dialect::Postgres, 0) => self.text.push_str("NULL"),
            (Dialect::Sqlite, _) | (Dialect::Postgres, 1) => self.values(values),
            (Dialect::Postgres, _) => {
                self.text.push_str("SELECT unnest(");
                self.bind(Bound::Column(values));
                self.text.push(')');
            }
        }
    }

    fn rows(&mut self, rows: Vec<Vec<Value>>) {
        if self.dialect == Dialect::Sqlite || rows.len() == 1 {
            self.text.push_str("VALUES ");
            for (place, row) in rows.into_iter().enumerate() {
                self.text.push_str(if place > 0 { ", (" } else { "(" });
                self.values(row);
                self.text.push(')');
            }
            return;
        }
        let mut columns: Vec<Vec<Value>> = Vec::new();
        for row in rows {
            columns.resize_with(row.len(), Vec::new);
            columns
                .iter_mut()
                .zip(row)
                .for_each(|(column, value)| column.push(value));
        }
        // In the SELECT list: as functions in FROM they would all be stored before the first row
        // is given.
        for (place, column) in columns.into_iter().enumerate() {
            self.text.push_str(if place > 0 {
                ", unnest("
            } else {
                "SELECT unnest("
            });
            self.bind(Bound::Column(column));
            // Writing to a string cannot fail.
            let _ = write!(self.text, ") AS column{}", place + 1);
        }
    }

    fn values(&mut self, values: Vec<Value>) {
        for (place, value) in values.into_iter().enumerate() {
            if place > 0 {
                self.text.push_str(", ");
            }
            self.bind(Bound::One(value));
        }
    }

    fn bind(&mut self, bound: Bound) {
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

/// Takes what is bound to a name; copies it only if the name occurs in the rest of the text.
fn take(bindings: &mut Vec<(&'static str, Binding)>, name: &str, rest: &str) -> Option<Binding> {
    let place = bindings.iter().position(|(bound, _)| *bound == name)?;
    let occurs_again = rest
        .match_indices(name)
        .any(|(at, _)| rest.get(..at).is_some_and(|text| text.ends_with(':')));
    if occurs_again {
        bindings.get(place).map(|(_, binding)| binding.clone())
    } else {
        Some(bindings.swap_remove(place).1)
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
        Sql::new(
            "WITH v(id, json) AS (:rows), n AS (
                SELECT id FROM t
                WHERE id {in_array} SELECT id FROM u WHERE id IN (:numbers) {end_array}
                    AND name = :name {for_update_of_t} {skip_locked}
            )
            DELETE FROM t WHERE name <> :name {limit}",
        )
        .rows("rows", rows)
        .list("numbers", numbers.to_vec())
        .bind("name", "ann")
        .limit(3)
    }

    #[test]
    fn sqlite_gets_a_placeholder_for_each_value_and_no_locks() {
        let (text, bound) = statement(&[1, 2]).render(Dialect::Sqlite);
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>().join(" "),
            "WITH v(id, json) AS (VALUES (?, ?), (?, ?)), n AS ( SELECT id FROM t \
             WHERE id IN ( SELECT id FROM u WHERE id IN (?, ?) ) AND name = ? ) \
             DELETE FROM t WHERE name <> ? LIMIT 3"
        );
        let name =
            |bound: &Bound| matches!(bound, Bound::One(Value::Text(Some(name))) if name == "ann");
        assert_eq!(bound.iter().filter(|bound| name(bound)).count(), 2);
        assert_eq!(bound.len(), 8);
    }

    #[test]
    fn postgres_gets_the_same_text_for_any_number_of_rows_above_one() {
        for numbers in [[1, 2].as_slice(), &[1, 2, 3]] {
            let (text, bound) = statement(numbers).render(Dialect::Postgres);
            assert_eq!(
                text,
                "WITH v(id, json) AS (SELECT unnest($1) AS column1, unnest($2::json[]) AS column2), \
                 n AS ( SELECT id FROM t WHERE id = ANY(ARRAY( SELECT id FROM u \
                 WHERE id IN (SELECT unnest($3)) )) AND name = $4 \
                 FOR NO KEY UPDATE OF t SKIP LOCKED ) DELETE FROM t WHERE name <> $5 LIMIT 3"
            );
            assert!(matches!(
                bound.as_slice(),
                [
                    Bound::Column(_),
                    Bound::Column(_),
                    Bound::Column(_),
                    Bound::One(_),
                    Bound::One(_)
                ]
            ));
        }
    }

    #[test]
    fn postgres_gets_one_row_as_its_values() {
        let (text, bound) = statement(&[1]).render(Dialect::Postgres);
        assert!(
            text.starts_with("WITH v(id, json) AS (VALUES ($1, $2::json)), n AS ("),
            "{text}"
        );
        assert!(text.contains("WHERE id IN ($3)"), "{text}");
        assert!(bound.iter().all(|bound| matches!(bound, Bound::One(_))) && bound.len() == 5);
    }

    #[test]
    fn parts_have_names_of_their_own() {
        let sql = Sql::new("SELECT :id").bind("id", 1_i64);
        let sql = sql.append(Sql::new(" UNION ALL SELECT :id").bind("id", 2_i64));
        let (text, bound) = sql.render(Dialect::Postgres);
        assert_eq!(text, "SELECT $1 UNION ALL SELECT $2");
        assert!(matches!(
            bound.as_slice(),
            [
                Bound::One(Value::Number(Some(1))),
                Bound::One(Value::Number(Some(2)))
            ]
        ));
    }

    #[test]
    fn placeholders_without_a_value_are_left_to_the_database_to_refuse() {
        let (text, _) = Sql::new("SELECT :missing {limit}").render(Dialect::Sqlite);
        assert_eq!(text, "SELECT :missing {limit}");
    }
    #[cfg(feature = "testing")]
    #[test]
    fn the_clock_of_a_thread_is_bound_in_the_place_of_the_databases() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicI64, Ordering};

        let render = || Sql::new("SELECT {now}").render(Dialect::Postgres);
        assert!(render().0.contains("clock_timestamp()"));
        let thread = std::thread::spawn(move || {
            let clock = Arc::<AtomicI64>::default();
            crate::clock::set_clock(Arc::clone(&clock));
            for time in [-1, 5] {
                clock.store(time, Ordering::Relaxed);
                let (text, bound) = render();
                assert_eq!(text, "SELECT CAST($1 AS BIGINT)");
                let is_time = |bound: &Bound| matches!(bound, Bound::One(Value::Number(Some(bound))) if *bound == time);
                assert!(bound.iter().all(is_time) && bound.len() == 1);
            }
        });
        thread.join().unwrap();
    }
}
