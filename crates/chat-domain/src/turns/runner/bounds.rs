//! Bounds on everything that agents and tools send, applied before it is shown or stored, so that
//! every store can keep it and every reader can read it.

use crate::json::MAX_JSON_DEPTH;
use crate::{RawJson, ToolError, ToolErrorKind, ToolOutcome, ToolOutput, without_nul};

/// The longest message of a failure that is kept, in bytes.
const ERROR_BYTES: usize = 4 << 10;
/// The longest name of a tool that is kept, in bytes.
const NAME_BYTES: usize = 256;
/// The largest arguments of a tool call, in bytes of JSON.
const ARGUMENTS_BYTES: usize = 256 << 10;
/// The largest part of unacceptable arguments that is kept, in bytes.
const REFUSED_BYTES: usize = 1 << 10;

/// Truncates a text to `limit` bytes and replaces U+0000.
fn text(text: String, limit: usize) -> String {
    let mut text = without_nul(text);
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// The name of a tool, as an agent sent it.
pub(super) fn name(name: String) -> String {
    text(name, NAME_BYTES)
}

/// The message of a failure of an agent or a tool.
pub(super) fn failure(message: String) -> String {
    text(message, ERROR_BYTES)
}

/// The arguments of a call; or, if they are not acceptable, their beginning as a JSON string, and
/// why the call fails.
pub(super) fn arguments(arguments: RawJson) -> Result<RawJson, (RawJson, ToolError)> {
    let size = arguments.as_str().len();
    let problem = if size > ARGUMENTS_BYTES {
        format!(
            "Not run: the arguments are {size} bytes long, and at most {ARGUMENTS_BYTES} are allowed."
        )
    } else if arguments.depth() > MAX_JSON_DEPTH {
        format!("Not run: the arguments are nested more than {MAX_JSON_DEPTH} levels deep.")
    } else {
        return Ok(arguments.readable());
    };
    let kept = text(arguments.as_str().to_owned(), REFUSED_BYTES);
    Err((
        RawJson::string(&kept),
        ToolError::new(ToolErrorKind::InvalidArguments, problem),
    ))
}

/// The outcome of a call; its answer has at most so many bytes.
pub(super) fn outcome(outcome: ToolOutcome, limit: usize) -> ToolOutcome {
    let too_large =
        |message: String| ToolOutcome::Failed(ToolError::new(ToolErrorKind::TooLarge, message));
    match outcome {
        ToolOutcome::Succeeded(ToolOutput(json)) if json.as_str().len() > limit => {
            let size = json.as_str().len();
            too_large(format!(
                "The tool ran, but its answer of {size} bytes is larger than the {limit} that are allowed."
            ))
        }
        ToolOutcome::Succeeded(ToolOutput(json)) if json.depth() > MAX_JSON_DEPTH => {
            too_large(format!(
                "The tool ran, but its answer is nested more than {MAX_JSON_DEPTH} levels deep."
            ))
        }
        ToolOutcome::Succeeded(ToolOutput(json)) => {
            ToolOutcome::Succeeded(ToolOutput(json.readable()))
        }
        ToolOutcome::Failed(ToolError { kind, message }) => ToolOutcome::Failed(ToolError {
            kind,
            message: failure(message),
        }),
        ToolOutcome::Unknown(cause) => ToolOutcome::Unknown(cause),
    }
}
