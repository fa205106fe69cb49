//! Meaning of PostgreSQL's errors
//! (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).

use chat_domain::Unavailability;
use sqlx::Error;
use sqlx::error::DatabaseError;

/// Why the whole database is unavailable, if an error means that.
pub(crate) fn unavailability(error: &Error) -> Option<Unavailability> {
    match error {
        Error::Database(refusal) => by_code(&code(refusal.as_ref())),
        // The connection broke, or what came was cut off.
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => {
            Some(Unavailability::Unreachable)
        }
        _ => None,
    }
}

fn by_code(code: &str) -> Option<Unavailability> {
    match code {
        "53100" => Some(Unavailability::Full),
        "25006" => Some(Unavailability::ReadOnly),
        // Cancelled by a time limit of the database; no lock within it; a transaction that was idle
        // for too long.
        "57014" | "55P03" | "25P03" => Some(Unavailability::Timeout),
        // A page of a table or of an index.
        "XX001" | "XX002" => Some(Unavailability::Damaged),
        _ => match code.get(..2) {
            // Connections, credentials, resources, an operator's intervention, the system below,
            // its own faults.
            Some("08" | "28" | "53" | "57" | "58" | "XX") => Some(Unavailability::Unreachable),
            _ => None,
        },
    }
}

/// Whether a retry of the same transaction may succeed: it was the victim of another one, in
/// a deadlock, or because both stored the same key and neither saw the other's (two requests with
/// one idempotency key: the second one then finds what the first one stored).
pub(crate) fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Database(refusal) if matches!(code(refusal.as_ref()).as_str(), "40001" | "40P01" | "23505"))
}

/// Whether the transaction was the victim of another one, and nothing is wrong with it.
pub(crate) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Database(refusal) if matches!(code(refusal.as_ref()).as_str(), "40001" | "40P01"))
}

/// Whether something between us and the database lost a statement that was prepared, or mixed it up
/// with another client's.
pub(crate) fn is_poolers(error: &Error) -> bool {
    matches!(error, Error::Database(refusal) if matches!(code(refusal.as_ref()).as_str(), "26000" | "42P05"))
}

fn code(refusal: &dyn DatabaseError) -> String {
    refusal.code().unwrap_or_default().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_is_wrong_with_the_database() {
        assert_eq!(by_code("53100"), Some(Unavailability::Full));
        assert_eq!(by_code("53300"), Some(Unavailability::Unreachable));
        assert_eq!(by_code("57P01"), Some(Unavailability::Unreachable));
        assert_eq!(by_code("08006"), Some(Unavailability::Unreachable));
        assert_eq!(by_code("28P01"), Some(Unavailability::Unreachable));
        assert_eq!(by_code("57014"), Some(Unavailability::Timeout));
        assert_eq!(by_code("25006"), Some(Unavailability::ReadOnly));
        assert_eq!(by_code("XX000"), Some(Unavailability::Unreachable));
        assert_eq!(by_code("XX001"), Some(Unavailability::Damaged));
        assert_eq!(by_code("XX002"), Some(Unavailability::Damaged));
        assert_eq!(by_code("54001"), None);
        assert_eq!(by_code("23505"), None);
        assert_eq!(by_code("42601"), None);
        assert_eq!(by_code(""), None);
    }
}
