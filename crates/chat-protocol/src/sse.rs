//! Frames of server-sent events (WHATWG HTML, "Server-sent events").

use std::fmt::Write;

/// A comment that keeps an idle stream alive. Readers ignore it.
pub const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// Encodes one frame. `id` and `event` must not have line breaks. Readers see those of `data` as
/// U+000A.
pub fn frame(id: Option<&str>, event: &str, data: &str) -> String {
    let mut frame = String::with_capacity(data.len() + 64);
    if let Some(id) = id {
        field(&mut frame, "id", id);
    }
    field(&mut frame, "event", event);
    for line in lines(data) {
        field(&mut frame, "data", line);
    }
    frame.push('\n');
    frame
}

/// Encodes a frame of data only, which must not have line breaks.
pub fn data(data: &str) -> String {
    format!("data: {data}\n\n")
}

fn field(frame: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(frame, "{name}: {value}");
}

/// The lines of a text, ended by CRLF, LF or CR.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some((line, tail)) = text.split_once(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let crlf = text
            .get(line.len()..)
            .is_some_and(|end| end.starts_with("\r\n"));
        rest = if crlf { tail.get(1..) } else { Some(tail) };
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_is_written_field_by_field() {
        assert_eq!(
            frame(Some("7"), "text", "{}"),
            "id: 7\nevent: text\ndata: {}\n\n"
        );
        assert_eq!(
            frame(None, "turn", "{\n}"),
            "event: turn\ndata: {\ndata: }\n\n"
        );
        assert_eq!(
            frame(None, "e", "a\r\n\rb"),
            "event: e\ndata: a\ndata: \ndata: b\n\n"
        );
    }

    /// One frame as a reader parses it, by the standard's algorithm.
    fn read(frame: &str) -> (Option<String>, String, String) {
        let (mut id, mut event, mut data) = (None, String::new(), Vec::new());
        let body = frame.strip_suffix("\n\n").unwrap();
        for line in body.split(['\n', '\r']) {
            let (name, value) = line.split_once(": ").unwrap();
            match name {
                "id" => id = Some(value.to_owned()),
                "event" => event = value.to_owned(),
                "data" => data.push(value.to_owned()),
                other => panic!("{other}"),
            }
        }
        (id, event, data.join("\n"))
    }

    proptest! {
        #[test]
        fn a_frame_round_trips(
            data in "(?s:[a-z:\\r\\n \u{2028}é]{0,40})",
            id in proptest::option::of("[a-z0-9.]{1,9}"),
        ) {
            let frame = frame(id.as_deref(), "text", &data);
            let expected = data.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(read(&frame), (id, "text".to_owned(), expected));
        }
    }
}
