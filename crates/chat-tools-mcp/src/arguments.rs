//! A call's arguments, from exact text to JSON values.

use chat_domain::{RawJson, ToolError, ToolErrorKind};
use rmcp::model::JsonObject;

/// The arguments as an object. What cannot be passed on unchanged is refused, so that no tool works
/// with a number nobody wrote.
pub(crate) fn object(arguments: &RawJson) -> Result<JsonObject, ToolError> {
    let text = arguments.as_str();
    let refuse = |message: String| ToolError::new(ToolErrorKind::InvalidArguments, message);
    let object = serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            refuse("The arguments must be a JSON object.".to_owned())
        } else {
            refuse(format!("The arguments cannot be read: {error}."))
        }
    })?;
    match numbers(text).find(|number| !is_exact(number)) {
        None => Ok(object),
        Some(number) => {
            let number: String = number.chars().take(40).collect();
            Err(refuse(format!(
                "The number {number} is too large to be passed on exactly. Pass it as a string."
            )))
        }
    }
}

/// Whether a number comes through: an integer has to fit into 64 bits. Fractions are doubles for
/// everyone.
fn is_exact(number: &str) -> bool {
    number.contains(['.', 'e', 'E'])
        || number.parse::<i64>().is_ok()
        || number.parse::<u64>().is_ok()
}

/// The numbers in a valid JSON text.
fn numbers(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit())?;
            let (_, from) = rest.split_at(start);
            if let Some(string) = from.strip_prefix('"') {
                rest = after_string(string);
                continue;
            }
            let end = from
                .find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9'))
                .unwrap_or(from.len());
            let (number, after) = from.split_at(end);
            rest = after;
            return Some(number);
        }
    })
}

/// What follows a string whose opening quote is gone.
fn after_string(string: &str) -> &str {
    let mut escaped = false;
    let end = string.find(|c: char| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    end.and_then(|end| string.get(end + 1..))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, ToolError> {
        object(&RawJson::from_valid(text)).map(|object| serde_json::to_string(&object).unwrap())
    }

    #[test]
    fn objects_pass_unchanged() {
        for text in [
            "{}",
            r#"{"a":[1,-2,{"b":null}],"c":"x\"99999999999999999999\\"}"#,
            r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":0.1,"d":1e+100}"#,
        ] {
            assert_eq!(parse(text).unwrap(), text);
        }
    }

    #[test]
    fn all_else_is_refused() {
        for text in [
            r#""words""#,
            "[1]",
            "null",
            "7",
            r#"{"a":"#,
            r#"{"a":1e400}"#,
        ] {
            assert_eq!(
                parse(text).unwrap_err().kind,
                ToolErrorKind::InvalidArguments,
                "{text}"
            );
        }
    }

    #[test]
    fn integers_beyond_64_bits_are_refused_rather_than_changed() {
        for text in [
            r#"{"a":18446744073709551616}"#,
            r#"{"a":["\\",-9223372036854775809]}"#,
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains("too large"), "{text}: {error}");
        }
    }
}
