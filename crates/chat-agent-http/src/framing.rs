//! The bytes of a body, cut into the JSON texts that they hold.
//!
//! Servers send events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), JSON
//! lines or one JSON value, and name any content type. So each line says itself what it is: a field
//! of an event, or the beginning of a JSON value, which may go on over several lines. An event is
//! read as soon as its JSON is whole, whether or not an empty line follows.

use std::collections::VecDeque;

/// The most bytes of an event. A server could go on forever, and all of it would be kept.
const MAX_EVENT: usize = 1 << 20;
/// The most bytes of a JSON value that is no event: a whole answer.
const MAX_WHOLE: usize = 8 << 20;
/// The end of a stream
/// (<https://platform.openai.com/docs/api-reference/chat/create#chat_create-stream>).
const END_MARK: &str = "[DONE]";

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// The data of an event, mostly JSON. `is_error` if the server named the event `error`.
    Event { data: String, is_error: bool },
    /// A JSON value that is no event.
    Whole(String),
    /// The mark that nothing follows.
    End,
    /// A line that is neither.
    Unknown,
}

/// Something is longer than allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

/// Cuts a body into frames.
#[derive(Debug, Default)]
pub struct Framing {
    line: Vec<u8>,
    after_cr: bool,
    lines: u64,
    event: String,
    /// The data of the present event.
    data: Value,
    /// A value that is no event.
    bare: Value,
}

impl Framing {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// An event or a value is longer than allowed.
    pub fn push(&mut self, piece: &[u8], frames: &mut VecDeque<Frame>) -> Result<(), TooLong> {
        for part in piece.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            match part.split_last() {
                Some((end @ (b'\n' | b'\r'), line)) => {
                    let is_rest_of_crlf =
                        self.after_cr && *end == b'\n' && line.is_empty() && self.line.is_empty();
                    self.line.extend_from_slice(line);
                    self.after_cr = *end == b'\r';
                    if !is_rest_of_crlf {
                        self.end_line(frames);
                    }
                }
                _ => {
                    self.line.extend_from_slice(part);
                    self.after_cr = false;
                }
            }
            self.check_length()?;
        }
        Ok(())
    }

    /// The body is over. What is not whole was cut off, and is dropped.
    pub fn finish(&mut self, frames: &mut VecDeque<Frame>) {
        let is_markup = self.line.trim_ascii_start().starts_with(b"<");
        // An empty line would end an event that is not whole.
        if !self.line.is_empty() {
            self.end_line(frames);
        }
        if !is_markup && frames.back() == Some(&Frame::Unknown) {
            frames.pop_back();
        }
        if !self.data.is_begun {
            self.end_event(frames);
        }
    }

    fn check_length(&self) -> Result<(), TooLong> {
        let is_bare =
            !self.bare.text.is_empty() || matches!(self.line.trim_ascii_start(), [b'{' | b'[', ..]);
        let (kept, most) = if is_bare {
            (self.bare.text.len(), MAX_WHOLE)
        } else {
            (self.data.text.len(), MAX_EVENT)
        };
        if kept + self.line.len() > most {
            Err(TooLong)
        } else {
            Ok(())
        }
    }

    fn end_line(&mut self, frames: &mut VecDeque<Frame>) {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        self.lines += 1;
        let line = if self.lines == 1 {
            line.trim_start_matches('\u{feff}')
        } else {
            &line
        };
        if !self.bare.text.is_empty() {
            return self.add_bare(line, frames);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (field, line.trim()) {
            (_, "") => self.end_event(frames),
            (_, END_MARK) => frames.push_back(Frame::End),
            ("data", _) => self.add_data(value, frames),
            ("event", _) => value.trim().clone_into(&mut self.event),
            ("" | "id" | "retry", _) => {}
            (_, text) if text.starts_with(['{', '[']) => self.add_bare(line, frames),
            _ => frames.push_back(Frame::Unknown),
        }
    }

    fn add_data(&mut self, value: &str, frames: &mut VecDeque<Frame>) {
        if value.trim() == END_MARK {
            self.end_event(frames);
            return frames.push_back(Frame::End);
        }
        // A server that writes no empty lines: this is the next event.
        if !self.data.is_begun && value.trim_start().starts_with(['{', '[']) {
            self.end_data(frames);
        }
        self.data.add(value);
        if self.data.is_whole() {
            self.end_data(frames);
        }
    }

    fn end_event(&mut self, frames: &mut VecDeque<Frame>) {
        self.end_data(frames);
        self.event.clear();
    }

    fn end_data(&mut self, frames: &mut VecDeque<Frame>) {
        let data = std::mem::take(&mut self.data).text;
        if !data.trim().is_empty() {
            frames.push_back(Frame::Event {
                data,
                is_error: self.event == "error",
            });
        }
    }

    fn add_bare(&mut self, line: &str, frames: &mut VecDeque<Frame>) {
        self.bare.add(line);
        if self.bare.is_whole() {
            frames.push_back(Frame::Whole(std::mem::take(&mut self.bare).text));
        }
    }
}

/// A JSON value as far as it came.
#[derive(Debug, Default)]
struct Value {
    text: String,
    is_begun: bool,
    in_string: bool,
    escaped: bool,
    depth: u32,
}

impl Value {
    fn add(&mut self, line: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(line);
        for byte in line.bytes() {
            match byte {
                b'"' if !self.escaped => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => {
                    self.is_begun = true;
                    self.depth += 1;
                }
                b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.escaped = self.in_string && byte == b'\\' && !self.escaped;
        }
    }

    fn is_whole(&self) -> bool {
        self.is_begun && self.depth == 0 && !self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[&[u8]]) -> Vec<Frame> {
        let (mut framing, mut frames) = (Framing::default(), VecDeque::new());
        for piece in pieces {
            framing.push(piece, &mut frames).expect("not too long");
        }
        framing.finish(&mut frames);
        frames.into()
    }

    fn event(data: &str) -> Frame {
        Frame::Event {
            data: data.to_owned(),
            is_error: false,
        }
    }

    #[test]
    fn events_json_lines_and_whole_values() {
        assert_eq!(
            frames(&[b"\xef\xbb\xbfdata: {}\r\n\r\n: x\r\ndata:{\"a\":\rdata: 1}\n\ndata: [DONE]"]),
            [event("{}"), event("{\"a\":\n1}"), Frame::End]
        );
        assert_eq!(
            frames(&[b"data: {}\ndata: {\"a\":\"}\"}\ndata: ping\ndata: {}\n"]),
            [
                event("{}"),
                event("{\"a\":\"}\"}"),
                event("ping"),
                event("{}")
            ]
        );
        assert_eq!(
            frames(&[b"{\"a\":1}\n{\"b\":\n 2}\n[DONE]\n"]),
            [
                Frame::Whole("{\"a\":1}".to_owned()),
                Frame::Whole("{\"b\":\n 2}".to_owned()),
                Frame::End
            ]
        );
        assert_eq!(
            frames(&[b"event: error\ndata: {}\n\ndata: {}\n\n<html>"]),
            [
                Frame::Event {
                    data: "{}".to_owned(),
                    is_error: true
                },
                event("{}"),
                Frame::Unknown
            ]
        );
        for cut_off in [&b"{\"a\":"[..], b"data: {\"a\":", b"\xef\xbb", b"dat"] {
            assert_eq!(frames(&[cut_off]), []);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_one_by_one() {
        assert_eq!(
            frames(&[b"data: {\"a\":\"x\xff\xc3", b"\xa9\"}\n"]),
            [event("{\"a\":\"x\u{FFFD}é\"}")]
        );
    }
}
