//! `docs/errors.md`, written from the table of problems.

use std::fmt::Write;

use crate::problem::{Code, Row};

/// The text before the table.
const HEAD: &str = "# Errors

<!-- Generated from crates/chat-protocol/src/problem.rs by `cargo xtask docs`. Do not edit. -->

Every error is `application/problem+json` (RFC 9457):

```json
{
  \"type\": \"/problems/conversation_not_found\",
  \"title\": \"Conversation not found\",
  \"status\": 404,
  \"detail\": \"The conversation does not exist. Check the id, or omit it to start a new conversation.\",
  \"code\": \"conversation_not_found\",
  \"instance\": \"urn:uuid:01934f5e-7a52-7bd1-a6a0-2c3f60a4f1aa\"
}
```

| member | meaning |
|---|---|
| `code` | the kind of problem, for programs; codes are stable, texts are not |
| `title` | the kind of problem, for people |
| `detail` | what happened this time, and what to do |
| `instance` | the id of the request, as in the header `X-Request-Id` and in the server's log |
| others | named in the table below |

Where the table has seconds, the response has the header `Retry-After`. In a stream, the event
`error` has the same members.

**Errors of a turn.** A turn can end with `agent_…`, `context_too_long`, `step_limit`,
`turn_timeout`, `too_many_attempts` or `internal`. The user's message is stored: send the next
message, or retry the turn.

**Stored messages.** If any other problem names `turn_id`, the message is stored and its turn
continues. Do not send the message again; `detail` says so too. The exceptions are
`conversation_busy`, and `internal` at the end of a turn.

**Requests that are not HTTP.** A request that the HTTP library cannot parse (a malformed request
line, no or two `Host` headers, contradicting lengths, headers over 128 KiB, more than 96 header
lines) gets a bare 400, 408 or 431 without a body, and the connection is closed.

**Unread replies.** If a client does not read its reply for 30 seconds
(`CHAT_STREAM_WRITE_TIMEOUT`), the connection is closed. If the rest of a long reply cannot be
read from the database, the connection is closed before the last chunk, so that the client's HTTP
library reports an error.

";

/// The whole document.
pub fn document() -> String {
    let mut text = String::from(HEAD);
    text.push_str(
        "| status | code | title | what to do | members | `Retry-After` |\n\
         |---|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let Row {
            code,
            status,
            title,
            advice,
            members,
            retry_after,
            ..
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
