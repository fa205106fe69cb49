//! Splits the bytes of a body into JSON texts.
//!
//! Servers send events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), JSON
//! lines or one JSON document, with any content type. So each line is classified by its own
//! content: a field of an event, or the start of a JSON document, which may span several lines. An
//! event is complete when its JSON is, whether or not an empty line follows.

use std::collections::VecDeque;

/// Most bytes of an event. Without a limit, a server could fill the memory.
const MAX_EVENT_BYTES: usize = 1 << 20;
/// Most bytes of a JSON document outside an event, such as a whole answer.
const MAX_DOCUMENT_BYTES: usize = 8 << 20;
/// Marks the end of a stream
/// (<https://platform.openai.com/docs/api-reference/chat/create#chat_create-stream>).
const END_MARK: &str = "[DONE]";

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// The data of an event, usually JSON. `is_error` if the event is named `error`.
    Event { data: String, is_error: bool },
    /// A JSON document outside an event.
    Document(String),
    /// The end mark: nothing follows.
    End,
    /// A line of another form.
    Unknown,
}

/// An event or a document exceeds its size limit.
#[derive(Debug, PartialEq, Eq)]
pub struct FrameTooLong;

/// Splits a body into frames.
#[derive(Debug, Default)]
pub struct FrameParser {
    line: Vec<u8>,
    after_cr: bool,
    lines: u64,
    event: String,
    /// The data of the current event.
    data: PartialJson,
    /// The current JSON document outside an event.
    document: PartialJson,
}

impl FrameParser {
    /// Adds the next bytes of the body.
    ///
    /// # Errors
    /// An event or a document exceeds its size limit.
    pub fn push(&mut self, piece: &[u8], frames: &mut VecDeque<Frame>) -> Result<(), FrameTooLong> {
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

    /// Ends the body. An incomplete frame was truncated and is dropped.
    pub fn finish(&mut self, frames: &mut VecDeque<Frame>) {
        let is_markup = self.line.trim_ascii_start().starts_with(b"<");
        // Ending the line as an empty one would complete a truncated event.
        if !self.line.is_empty() {
            self.end_line(frames);
        }
        if !is_markup && frames.back() == Some(&Frame::Unknown) {
            frames.pop_back();
        }
        if !self.data.has_started {
            self.end_event(frames);
        }
    }

    fn check_length(&self) -> Result<(), FrameTooLong> {
        let is_document = !self.document.text.is_empty()
            || matches!(self.line.trim_ascii_start(), [b'{' | b'[', ..]);
        let (kept, most) = if is_document {
            (self.document.text.len(), MAX_DOCUMENT_BYTES)
        } else {
            (self.data.text.len(), MAX_EVENT_BYTES)
        };
        if kept + self.line.len() > most {
            Err(FrameTooLong)
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
        if !self.document.text.is_empty() {
            return self.add_document_line(line, frames);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (field, line.trim()) {
            (_, "") => self.end_event(frames),
            (_, END_MARK) => frames.push_back(Frame::End),
            ("data", _) => self.add_data(value, frames),
            ("event", _) => value.trim().clone_into(&mut self.event),
            ("" | "id" | "retry", _) => {}
            (_, text) if text.starts_with(['{', '[']) => self.add_document_line(line, frames),
            _ => frames.push_back(Frame::Unknown),
        }
    }

    fn add_data(&mut self, value: &str, frames: &mut VecDeque<Frame>) {
        if value.trim() == END_MARK {
            self.end_event(frames);
            return frames.push_back(Frame::End);
        }
        // Some servers write no empty lines: this line starts the next event.
        if !self.data.has_started && value.trim_start().starts_with(['{', '[']) {
            self.end_data(frames);
        }
        self.data.add(value);
        if self.data.is_complete() {
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

    fn add_document_line(&mut self, line: &str, frames: &mut VecDeque<Frame>) {
        self.document.add(line);
        if self.document.is_complete() {
            frames.push_back(Frame::Document(std::mem::take(&mut self.document).text));
        }
    }
}

/// A JSON value while it is received.
#[derive(Debug, Default)]
struct PartialJson {
    text: String,
    has_started: bool,
    is_in_string: bool,
    is_escaped: bool,
    depth: u32,
}

impl PartialJson {
    fn add(&mut self, line: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(line);
        for byte in line.bytes() {
            match byte {
                b'"' if !self.is_escaped => self.is_in_string = !self.is_in_string,
                b'{' | b'[' if !self.is_in_string => {
                    self.has_started = true;
                    self.depth += 1;
                }
                b'}' | b']' if !self.is_in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.is_escaped = self.is_in_string && byte == b'\\' && !self.is_escaped;
        }
    }

    fn is_complete(&self) -> bool {
        self.has_started && self.depth == 0 && !self.is_in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[&[u8]]) -> Vec<Frame> {
        let (mut framing, mut frames) = (FrameParser::default(), VecDeque::new());
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
    fn events_json_lines_and_documents_are_split() {
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
                Frame::Document("{\"a\":1}".to_owned()),
                Frame::Document("{\"b\":\n 2}".to_owned()),
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
        for truncated in [&b"{\"a\":"[..], b"data: {\"a\":", b"\xef\xbb", b"dat"] {
            assert_eq!(frames(&[truncated]), []);
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
