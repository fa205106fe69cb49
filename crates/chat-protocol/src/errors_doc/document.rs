//! `docs/errors.md`, written from the table of problems.

use std::fmt::Write;

use crate::problem::{Code, Row};

/// The text before the table.
const HEAD: &str = "# Errors

Written from the table in `crates/chat-protocol/src/problem.rs` by `cargo xtask docs`; a test holds it.

Whatever goes wrong, the answer is `application/problem+json` (RFC 9457):

```json
{
  \"type\": \"/problems/conversation_not_found\",
  \"title\": \"There is no such conversation\",
  \"status\": 404,
  \"detail\": \"There is no such conversation. Check the id, or begin a new conversation by leaving it out.\",
  \"code\": \"conversation_not_found\",
  \"instance\": \"urn:uuid:01934f5e-7a52-7bd1-a6a0-2c3f60a4f1aa\"
}
```

Decide by `code`: codes are stable, texts are not. `detail` says what happened this time and what to do. `instance` is the id of the
request, which is also in the header `X-Request-Id` and in the server's log. Some problems have more members, named below. Where
the table names seconds, the answer has the header `Retry-After`. In a stream of events, the event `error` has the same members.

Problems that a turn can end with (`agent_…`, `context_too_long`, `step_limit`, `turn_timeout`, `too_many_attempts`, `internal`) keep the
user's message: the conversation goes on with the next message, or the turn is retried. Where any other problem than `conversation_busy`,
or an `internal` that is not a turn's end, names `turn_id`, the message is stored and its turn goes on: it should not be sent again, and `detail` says so.

A request that the HTTP library cannot parse (a malformed request line, no or two `Host` headers, contradicting lengths, headers over 128 KiB
in all, more than 96 header lines) is rejected with a bare 400, 408 or 431 without a body, and the connection is closed.

A client that does not read its reply for 30 seconds (`CHAT_STREAM_WRITE_TIMEOUT`) loses its connection. A long reply that cannot be read
from the database to its end is broken off in the middle: the connection closes before the last chunk, so that the client sees an error
of its HTTP library and not a shorter reply.

";

/// The whole document.
pub fn document() -> String {
    let mut text = String::from(HEAD);
    text.push_str("| status | code | what is wrong | what to do | members | `Retry-After` |\n|---|---|---|---|---|---|\n");
    for code in Code::ALL {
        let Row {
            code,
            status,
            title,
            advice,
            members,
            retry_after,
        } = code.row();
        let members: Vec<_> = members.iter().map(|member| format!("`{member}`")).collect();
        let after = retry_after
            .map(|seconds| seconds.to_string())
            .unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {status} | `{code}` | {title} | {advice} | {} | {after} |",
            members.join(", ")
        );
    }
    text
}
