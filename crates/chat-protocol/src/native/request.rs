//! Decodes requests into commands of the domain.

use chat_domain::{
    BusyPolicy, ConversationId, Cursor, IdempotencyKey, InvalidInput, RetryTurn, StartTurn, Title,
    TurnId, UserId,
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::cursor;
use crate::json::{self, Quoted};
use crate::native::names::similar_name;
use crate::native::query::{invalid_cursor, invalid_parameter};
use crate::problem::{Code, Problem};

/// The longest idempotency key, in bytes.
const KEY_BYTES: usize = 255;

// For the API's description; `start_turn` decodes the request.
/// A message to send.
#[derive(ToSchema)]
#[schema(as = ChatRequest, example = json!({"message": "Add task: Buy groceries"}))]
pub struct ChatRequest {
    /// The user message: 1 to 5,000 characters (the limit is configurable), not only white space,
    /// without U+0000.
    #[schema(min_length = 1, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub message: String,
    /// The conversation to continue. Absent or `null`: a new conversation.
    pub conversation_id: Option<Uuid>,
}

// For the API's description; `title` decodes the request.
/// A new title for a conversation.
#[derive(ToSchema)]
#[schema(as = RenameRequest, example = json!({"title": "Groceries"}))]
pub struct RenameRequest {
    /// The new title: 1 to 200 characters without control characters.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F][^\u0000-\u001F\u007F-\u009F]*$"
    )]
    pub title: String,
}

// For the API's description; `sign_in_code` decodes the request.
/// A code to sign in with.
#[derive(ToSchema)]
#[schema(as = SignInRequest)]
pub struct SignInRequest {
    /// The code after `#code=` in the address that the server printed.
    pub code: String,
}

/// Decodes a message to send.
///
/// # Errors
/// `invalid_json`, `invalid_request`, `invalid_text`. The domain checks its own rules.
pub fn start_turn(
    owner: UserId,
    body: &[u8],
    busy: BusyPolicy,
    key: Option<String>,
) -> Result<StartTurn, Problem> {
    let members = object(body, &["message", "conversation_id"])?;
    let text = text(&members, "message", "/message")?;
    let conversation = match members.get("conversation_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => {
            Some(ConversationId(uuid(id).ok_or_else(|| {
                member("/conversation_id", "is not a UUID")
            })?))
        }
        Some(_) => return Err(member("/conversation_id", "is not a string")),
    };
    let idempotency = key.map(|key| IdempotencyKey {
        key,
        fingerprint: fingerprint("POST /chat", body),
    });
    Ok(StartTurn {
        owner,
        conversation,
        text,
        busy,
        idempotency,
    })
}

/// The command to retry a turn. The request has no body.
pub fn retry_turn(owner: UserId, turn: TurnId, busy: BusyPolicy, key: Option<String>) -> RetryTurn {
    let idempotency = key.map(|key| IdempotencyKey {
        key,
        fingerprint: fingerprint(&format!("POST /turns/{turn}/retry"), b""),
    });
    RetryTurn {
        owner,
        turn,
        busy,
        idempotency,
    }
}

/// Decodes a new title.
///
/// # Errors
/// `invalid_json`, `invalid_request`, `invalid_text`, `invalid_title`.
pub fn title(body: &[u8]) -> Result<Title, Problem> {
    let text = text(&object(body, &["title"])?, "title", "/title")?;
    Ok(Title::new(&text).map_err(|_| InvalidInput::Title)?)
}

/// Decodes a sign-in code.
///
/// # Errors
/// `invalid_json`, `invalid_request`, `invalid_text`.
pub fn sign_in_code(body: &[u8]) -> Result<String, Problem> {
    text(&object(body, &["code"])?, "code", "/code")
}

/// Decodes a UUID in the path.
///
/// # Errors
/// `invalid_request`.
pub fn path_id(parameter: &'static str, text: &str) -> Result<Uuid, Problem> {
    uuid(text).ok_or_else(|| {
        invalid_parameter(
            parameter,
            format!("`{parameter}` in the path is not a UUID"),
        )
    })
}

/// Decodes the cursor of a reader of a turn, from the header `Last-Event-ID` or else from the
/// parameter `after`. `None` at the start. An empty header counts as absent, because clients send
/// it before they have read the first event.
///
/// # Errors
/// `invalid_cursor`.
pub fn resume(
    turn: TurnId,
    last_event_id: Option<&[u8]>,
    after: Option<&str>,
) -> Result<Option<Cursor>, Problem> {
    let read = |text: &str, parameter| {
        cursor::read_turn(turn, text).map_err(|_| invalid_cursor(parameter))
    };
    match (
        last_event_id
            .map(<[u8]>::trim_ascii)
            .filter(|id| !id.is_empty()),
        after,
    ) {
        (Some(id), _) => {
            read(std::str::from_utf8(id).unwrap_or_default(), "Last-Event-ID").map(Some)
        }
        (None, Some(after)) => read(after, "after").map(Some),
        (None, None) => Ok(None),
    }
}

/// Decodes the header `Idempotency-Key`: a bare value, or a string of RFC 9651 in quotes.
///
/// # Errors
/// `invalid_idempotency_key`.
pub fn idempotency_key(header: &[u8]) -> Result<String, Problem> {
    let refuse = |what| Problem::at_parameter(Code::InvalidIdempotencyKey, "Idempotency-Key", what);
    let text = std::str::from_utf8(header)
        .ok()
        .filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    let text = text
        .ok_or_else(|| refuse("The idempotency key has characters other than printable ASCII"))?
        .trim_matches(' ');
    let key = match text.strip_prefix('"') {
        None => text.to_owned(),
        Some(rest) => unquoted(rest)
            .ok_or_else(|| refuse("The quotes of the idempotency key are unbalanced"))?,
    };
    match key.len() {
        0 => Err(refuse("The idempotency key is empty")),
        1..=KEY_BYTES => Ok(key),
        _ => Err(refuse("The idempotency key is longer than 255 bytes")),
    }
}

/// The text before the closing quote, which is the last character; `\"` and `\\` are escapes.
fn unquoted(rest: &str) -> Option<String> {
    let mut key = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(key),
            '\\' => key.push(
                characters
                    .next()
                    .filter(|escaped| matches!(escaped, '"' | '\\'))?,
            ),
            other => key.push(other),
        }
    }
}

/// A digest of a request: its method, its route with ids, and its body byte for byte.
pub(crate) fn fingerprint(route: &str, body: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(route.as_bytes());
    digest.update([0]);
    digest.update(body);
    digest.finalize().into()
}

/// The members of a body. Members that are not `known` are ignored, unless they are similar to a
/// known one.
fn object(body: &[u8], known: &[&'static str]) -> Result<Map<String, Value>, Problem> {
    let Value::Object(members) = json::read(body)? else {
        return Err(Problem::at_member(
            Code::InvalidRequest,
            "",
            "The body is not a JSON object",
        ));
    };
    let mut unknown = members
        .keys()
        .filter(|name| !known.contains(&name.as_str()));
    let Some((name, similar)) = unknown.find_map(|name| Some((name, similar_name(name, known)?)))
    else {
        return Ok(members);
    };
    // RFC 6901 §3. A name that is similar to a known one is short.
    let path = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    Err(Problem::at_member(
        Code::InvalidRequest,
        path,
        format!("Unknown member {}, use `{similar}`", Quoted(name)),
    ))
}

fn text(members: &Map<String, Value>, name: &str, path: &'static str) -> Result<String, Problem> {
    match members.get(name) {
        Some(Value::String(text)) if text.contains('\0') => Err(Problem::at_member(
            Code::InvalidText,
            path,
            format!("The member `{path}` has the character U+0000"),
        )),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(member(path, "is not a string")),
        None => Err(member(path, "is missing")),
    }
}

fn member(path: &'static str, what: &str) -> Problem {
    Problem::at_member(
        Code::InvalidRequest,
        path,
        format!("The member `{path}` {what}"),
    )
}

/// Parses a UUID in the format of RFC 9562, with hyphens only.
fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> UserId {
        UserId::new("ada").unwrap()
    }

    fn read(body: &str) -> Result<StartTurn, Problem> {
        start_turn(owner(), body.as_bytes(), BusyPolicy::Enqueue, None)
    }

    const ID: &str = "0190a1b2-0000-7000-8000-000000000001";

    #[test]
    fn a_message_is_decoded_and_unknown_members_are_ignored() {
        let turn =
            read(r#"{"message": " Hi\n", "conversation_id": null, "x": {"y": "\u0000"}}"#).unwrap();
        assert_eq!((turn.text.as_str(), turn.conversation), (" Hi\n", None));
        let turn = read(&format!(
            r#"{{"message": "Hi", "conversation_id": "{ID}"}}"#
        ))
        .unwrap();
        assert_eq!(turn.conversation.unwrap().to_string(), ID);
    }

    #[test]
    fn invalid_members_are_named() {
        for (body, code, path) in [
            ("[]", Code::InvalidRequest, ""),
            ("\"Hi\"", Code::InvalidRequest, ""),
            ("{}", Code::InvalidRequest, "/message"),
            (r#"{"message": null}"#, Code::InvalidRequest, "/message"),
            (r#"{"message": 7}"#, Code::InvalidRequest, "/message"),
            (r#"{"message": "a\u0000b"}"#, Code::InvalidText, "/message"),
            (
                r#"{"message": "Hi", "conversation_id": 7}"#,
                Code::InvalidRequest,
                "/conversation_id",
            ),
            (
                r#"{"message": "Hi", "conversation_id": ""}"#,
                Code::InvalidRequest,
                "/conversation_id",
            ),
            (
                r#"{"message": "Hi", "conversation_id": "0190a1b20000700080000000000000001"}"#,
                Code::InvalidRequest,
                "/conversation_id",
            ),
        ] {
            let problem = read(body).unwrap_err();
            assert_eq!(
                (problem.code, problem.members.path.as_deref()),
                (code, Some(path)),
                "{body}"
            );
        }
        assert_eq!(
            title(br#"{"title": " "}"#).unwrap_err().code,
            Code::InvalidTitle
        );
        assert_eq!(
            title(br#"{"title": "a\u0000"}"#).unwrap_err().code,
            Code::InvalidText
        );
        assert_eq!(
            path_id("turn_id", "x")
                .unwrap_err()
                .members
                .parameter
                .as_deref(),
            Some("turn_id")
        );
    }

    #[test]
    fn members_similar_to_a_known_one_are_rejected_with_a_hint() {
        for (body, path, hint) in [
            (
                format!(r#"{{"message": "Hi", "conversationId": "{ID}"}}"#),
                "/conversationId",
                "use `conversation_id`",
            ),
            (
                format!(
                    r#"{{"message": "Hi", "conversation_id": null, "conversation-ids": "{ID}"}}"#
                ),
                "/conversation-ids",
                "use `conversation_id`",
            ),
            (
                r#"{"Message": "Hi"}"#.to_owned(),
                "/Message",
                "use `message`",
            ),
            (
                r#"{"message": "Hi", "messages": []}"#.to_owned(),
                "/messages",
                "use `message`",
            ),
            (r#"{"message": "Hi", "~mess/age": []}"#.to_owned(), "", ""),
        ] {
            let read = read(&body);
            if path.is_empty() {
                assert!(read.is_ok(), "{body}");
                continue;
            }
            let problem = read.unwrap_err();
            assert_eq!(
                (problem.code, problem.members.path.as_deref()),
                (Code::InvalidRequest, Some(path)),
                "{body}"
            );
            assert!(problem.detail().contains(hint), "{}", problem.detail());
        }
        assert_eq!(
            title(br#"{"titel": "x"}"#)
                .unwrap_err()
                .members
                .path
                .as_deref(),
            Some("/titel")
        );
        assert_eq!(
            sign_in_code(br#"{"Code": "x"}"#)
                .unwrap_err()
                .members
                .path
                .as_deref(),
            Some("/Code")
        );
    }

    #[test]
    fn an_empty_last_event_id_counts_as_absent() {
        let turn = TurnId(Uuid::from_u128(7));
        let after = cursor::write_turn(turn, Cursor::START);
        for empty in [b"".as_slice(), b" "] {
            assert_eq!(resume(turn, Some(empty), None).unwrap(), None);
            assert_eq!(
                resume(turn, Some(empty), Some(&after)).unwrap(),
                Some(Cursor::START)
            );
        }
        assert_eq!(
            resume(turn, Some(b"x"), None).unwrap_err().code,
            Code::InvalidCursor
        );
    }

    #[test]
    fn idempotency_keys_are_decoded_with_and_without_quotes() {
        for (header, key) in [
            ("a", "a"),
            ("\"a\"", "a"),
            (r#""a \"b\" \\""#, r#"a "b" \"#),
            (" a b ", "a b"),
            (r"a\", r"a\"),
            ("a\"", "a\""),
        ] {
            assert_eq!(idempotency_key(header.as_bytes()).unwrap(), key);
        }
        assert!(idempotency_key("k".repeat(255).as_bytes()).is_ok());
        for header in [
            "",
            " ",
            "\"\"",
            "\"",
            "\"a",
            "\"a\"b",
            r#""a\"#,
            r#""\a""#,
            "é",
            "a\tb",
            "a\u{7f}",
            &"k".repeat(256),
        ] {
            assert_eq!(
                idempotency_key(header.as_bytes()).unwrap_err().code,
                Code::InvalidIdempotencyKey,
                "{header:?}"
            );
        }
        assert!(idempotency_key(b"\xff").is_err());
    }

    #[test]
    fn fingerprints_distinguish_routes_and_bodies() {
        let all = [
            fingerprint("POST /chat", b"{}"),
            fingerprint("POST /chat", b"{ }"),
            fingerprint("POST /chat", b""),
            fingerprint("POST /turns/1/retry", b""),
            fingerprint("POST /turns/2/retry", b""),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|other| one != other));
        }
        assert_eq!(all[0], fingerprint("POST /chat", b"{}"));
    }
}
