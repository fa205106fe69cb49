//! Explanations of the codes of problems, and `docs/errors.md`.

use crate::problem::Code;

/// The explanation of one code, for readers who follow a problem's `type`.
pub fn explanation(code: &str) -> Option<String> {
    let row = Code::ALL
        .iter()
        .map(|code| code.row())
        .find(|row| row.code == code)?;
    Some(format!(
        "{} ({}, HTTP status {})\n\n{}. {}\n",
        row.title, row.code, row.status, row.reason, row.advice
    ))
}

/// Writes `docs/errors.md`.
#[cfg(test)]
mod document;

#[cfg(test)]
mod tests {
    use super::document::document;
    use super::*;

    #[test]
    fn the_document_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            kept,
            document(),
            "docs/errors.md is not up to date: run `cargo xtask docs`"
        );
    }

    #[test]
    fn codes_are_unique_and_explained() {
        let mut codes: Vec<_> = Code::ALL.iter().map(|code| code.row().code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Code::ALL.len());
        assert!(explanation("message_empty").unwrap().contains("422"));
        assert_eq!(explanation("nonsense"), None);
    }
}
