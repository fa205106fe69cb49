//! Parses the arguments of a call.

use chat_domain::{RawJson, ToolError, ToolErrorKind};
use rmcp::model::JsonObject;

/// Parses arguments as an object.
///
/// # Errors
/// The arguments are not an object, or contain a number that cannot be passed on exactly.
pub(crate) fn parse_object(arguments: &RawJson) -> Result<JsonObject, ToolError> {
    let text = arguments.as_str();
    let reject = |message: String| ToolError::new(ToolErrorKind::InvalidArguments, message);
    let object = serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            reject("The arguments must be a JSON object.".to_owned())
        } else {
            reject(format!("The arguments are not valid JSON: {error}."))
        }
    })?;
    match numbers(text).find(|number| !is_exact(number)) {
        None => Ok(object),
        Some(number) => {
            let number: String = number.chars().take(40).collect();
            Err(reject(format!(
                "The number {number} is too large to be passed on exactly. Pass it as a string."
            )))
        }
    }
}

/// Whether a number keeps its value: an integer must fit into 64 bits, and fractions are doubles in
/// every implementation.
fn is_exact(number: &str) -> bool {
    number.contains(['.', 'e', 'E'])
        || number.parse::<i64>().is_ok()
        || number.parse::<u64>().is_ok()
}

/// Returns the numbers in a valid JSON text.
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

/// Returns the text after a string whose opening quote was removed.
fn after_string(string: &str) -> &str {
    let mut is_escaped = false;
    let end = string.find(|c: char| {
        let closes = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        closes
    });
    end.and_then(|end| string.get(end + 1..))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, ToolError> {
        parse_object(&RawJson::from_valid(text))
            .map(|object| serde_json::to_string(&object).unwrap())
    }

    #[test]
    fn objects_are_passed_on_unchanged() {
        for text in [
            "{}",
            r#"{"a":[1,-2,{"b":null}],"c":"x\"99999999999999999999\\"}"#,
            r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":0.1,"d":1e+100}"#,
        ] {
            assert_eq!(parse(text).unwrap(), text);
        }
    }

    #[test]
    fn other_values_are_rejected() {
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
    fn integers_beyond_64_bits_are_rejected() {
        for text in [
            r#"{"a":18446744073709551616}"#,
            r#"{"a":["\\",-9223372036854775809]}"#,
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains("too large"), "{text}: {error}");
        }
    }
}
