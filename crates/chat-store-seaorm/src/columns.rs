//! The columns that statements select, and their places in a row.
//!
//! A row is read by place, because a look-up by name costs more than the value. The places are
//! computed from the text of the list when the crate is compiled, and a name that is not in the
//! list does not compile.

/// A list of columns as a statement selects it.
#[derive(Debug)]
pub(crate) struct Columns {
    /// The table that the rows come from.
    pub(crate) table: &'static str,
    /// The list.
    pub(crate) text: &'static str,
    /// The place of the first of them.
    first: usize,
    /// The place of the row's id.
    pub(crate) id: Option<usize>,
}

/// A column of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) place: usize,
    pub(crate) name: &'static str,
}

/// The [`Column`] of a list that has this name: `column!(TURN, "ordinal")`.
macro_rules! column {
    ($columns:expr, $name:literal) => {
        const { $columns.column($name) }
    };
}
pub(crate) use column;

impl Columns {
    /// A list that begins the row.
    pub(crate) const fn new(table: &'static str, text: &'static str) -> Self {
        let id = split(text, Some("id"));
        Self {
            table,
            text,
            first: 0,
            id: if id < split(text, None) {
                Some(id)
            } else {
                None
            },
        }
    }

    /// A list that a statement selects behind this one.
    pub(crate) const fn then(&self, text: &'static str) -> Self {
        Self {
            table: self.table,
            text,
            first: self.first + split(self.text, None),
            id: self.id,
        }
    }

    /// The column of this name.
    ///
    /// # Panics
    /// The list has no such column. In a `const` block, that is an error of the compiler.
    #[allow(clippy::panic, reason = "called when the crate is compiled")]
    pub(crate) const fn column(&self, name: &'static str) -> Column {
        let place = split(self.text, Some(name));
        assert!(
            place < split(self.text, None),
            "the list has no column of this name"
        );
        Column {
            place: self.first + place,
            name,
        }
    }
}

/// How many columns a list has, or how many there are before the one of this name: the one whose
/// expression ends with the name.
#[allow(
    clippy::indexing_slicing,
    reason = "slices have no other access when the crate is compiled"
)]
const fn split(list: &str, name: Option<&str>) -> usize {
    let list = list.as_bytes();
    let (mut at, mut begin, mut depth, mut count) = (0, 0, 0, 0);
    while at <= list.len() {
        if at == list.len() || (list[at] == b',' && depth == 0) {
            if let Some(name) = name
                && ends_with(list, begin, at, name.as_bytes())
            {
                return count;
            }
            count += 1;
            begin = at + 1;
        } else if list[at] == b'(' {
            depth += 1;
        } else if list[at] == b')' {
            depth -= 1;
        }
        at += 1;
    }
    count
}

/// Whether `text[begin..end]` ends with this whole name.
#[allow(clippy::indexing_slicing, reason = "see `split`")]
const fn ends_with(text: &[u8], begin: usize, end: usize, name: &[u8]) -> bool {
    if end - begin < name.len() {
        return false;
    }
    let from = end - name.len();
    let mut at = 0;
    while at < name.len() {
        if text[from + at] != name[at] {
            return false;
        }
        at += 1;
    }
    from == begin || matches!(text[from - 1], b'.' | b' ' | b'\n')
}

/// The columns of `conversations`.
pub(crate) const CONVERSATION: Columns =
    Columns::new("conversations", "id, owner, title, created_at, updated_at");

/// The columns of `turns t`.
///
/// Without the text of the draft. Columns of the same place in [`TURN`], [`MESSAGE`] and
/// [`TOOL_CALL`] have the same type, so that one statement can fetch all three.
#[rustfmt::skip]
pub(crate) const TURN: Columns = Columns::new("turns", "\
    0 AS kind, t.id, t.conversation_id, t.ordinal, t.status, t.cancel_requested, \
    t.retry_of, t.superseded, t.created_at, t.input_tokens, t.output_tokens, \
    t.failure_kind, t.failure_message, t.ended_at, t.finish_reason, t.turns_left_out, \
    t.original_at, t.original_message_id, t.draft_message_id, CAST(NULL AS TEXT) AS draft_text, \
    CAST(NULL AS TEXT)");

/// [`TURN`] with the text of the draft, which may be long and only readers of a turn need.
#[rustfmt::skip]
pub(crate) const TURN_WITH_DRAFT: Columns = Columns::new("turns", "\
    0 AS kind, t.id, t.conversation_id, t.ordinal, t.status, t.cancel_requested, \
    t.retry_of, t.superseded, t.created_at, t.input_tokens, t.output_tokens, \
    t.failure_kind, t.failure_message, t.ended_at, t.finish_reason, t.turns_left_out, \
    t.original_at, t.original_message_id, t.draft_message_id, t.draft_text, \
    CAST(NULL AS TEXT)");

/// The columns of `messages m`.
#[rustfmt::skip]
pub(crate) const MESSAGE: Columns = Columns::new("messages", "\
    1 AS kind, m.id, m.turn_id, m.position, m.role, NULL, \
    NULL, NULL, m.created_at, NULL, NULL, \
    NULL, m.text, NULL, m.finish_reason, m.turns_left_out, \
    NULL, NULL, NULL, m.agent_data, \
    NULL");

/// The columns of `tool_calls k`. `result` is the output, the error's message or the cause, by
/// `outcome`.
#[rustfmt::skip]
pub(crate) const TOOL_CALL: Columns = Columns::new("tool_calls", "\
    2 AS kind, k.id, k.turn_id, k.position, k.ran_by, NULL, \
    k.message_id, NULL, k.created_at, k.result_position, k.result_at, \
    k.outcome, k.tool, k.started_at, k.agent_data, NULL, \
    k.took_us, NULL, NULL, CAST(k.arguments AS TEXT) AS arguments, \
    COALESCE(CAST(k.output AS TEXT), k.error_message, k.unknown_cause) AS result");

/// The columns of `turns t` behind [`TURN`] that only the store's own bookkeeping needs.
pub(crate) const HELD: Columns = TURN.then(
    "t.owner, t.holder, t.epoch, t.attempt, t.spent_us, t.next_id, t.idempotency_key, t.fingerprint",
);

/// The columns behind [`MESSAGE`] and [`TOOL_CALL`] in the places of [`HELD`] and the two that a
/// batch loads with it.
pub(crate) const NOT_HELD: &str = "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_its_place_in_the_list() {
        const LIST: Columns = Columns::new("t", "0 AS kind, t.id, COALESCE(a, b) AS c, t.kind_id");
        assert_eq!(LIST.column("kind").place, 0);
        assert_eq!(LIST.column("id").place, 1);
        assert_eq!(LIST.column("c").place, 2);
        assert_eq!(LIST.column("kind_id").place, 3);
        assert_eq!(LIST.then("t.x, t.y").column("y").place, 5);
    }

    #[test]
    #[should_panic = "no column of this name"]
    fn an_unknown_column_is_refused() {
        let _ = TURN.column("rdinal");
    }

    #[test]
    fn rows_of_all_kinds_have_the_same_number_of_columns() {
        for columns in [TURN_WITH_DRAFT, MESSAGE, TOOL_CALL] {
            assert_eq!(split(columns.text, None), split(TURN.text, None));
        }
        let with_draft =
            |text: &str| text.replace("CAST(NULL AS TEXT) AS draft_text", "t.draft_text");
        assert_eq!(with_draft(TURN.text), TURN_WITH_DRAFT.text);
        assert_eq!(split(NOT_HELD, None), split(HELD.text, None) + 2);
    }
}
