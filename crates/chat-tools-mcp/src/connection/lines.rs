//! Reads lines in bounded memory.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::id_scanner::IdScanner;

/// A line of a server's output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its end.
    Complete(Vec<u8>),
    /// A line over the limit, which was dropped, and the ids of the requests that it answers.
    TooLong { answered_ids: Vec<i64> },
}

/// Reads the lines of a stream. A line over the limit is reported as soon as the first id that it
/// answers is known.
pub(super) struct LineReader<R> {
    reader: BufReader<R>,
    max_len: usize,
    buffer: Vec<u8>,
    /// Scan of a line over the limit, until its end.
    discarded: Option<Discarded>,
}

#[derive(Default)]
struct Discarded {
    id_scanner: IdScanner,
    is_reported: bool,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(super) fn new(read: R, max_len: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(64 << 10, read),
            max_len,
            buffer: Vec::new(),
            discarded: None,
        }
    }

    /// Returns the next line, or `None` at the end of the stream or after an error. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Line> {
        loop {
            let available = match self.reader.fill_buf().await {
                Ok(available) if !available.is_empty() => available,
                _ => return self.end(),
            };
            let end = available.iter().position(|byte| *byte == b'\n');
            let (piece, consumed) = match end {
                Some(end) => (available.get(..end).unwrap_or_default(), end + 1),
                None => (available, available.len()),
            };
            if self.discarded.is_none() && self.buffer.len() + piece.len() > self.max_len {
                let discarded = self.discarded.insert(Discarded::default());
                discarded.id_scanner.scan(&std::mem::take(&mut self.buffer));
            }
            match &mut self.discarded {
                Some(discarded) => discarded.id_scanner.scan(piece),
                None => self.buffer.extend_from_slice(piece),
            }
            self.reader.consume(consumed);
            if let Some(line) = self.line(end.is_some()) {
                return Some(line);
            }
        }
    }

    fn line(&mut self, is_ended: bool) -> Option<Line> {
        let Some(discarded) = &mut self.discarded else {
            return is_ended.then(|| Line::Complete(std::mem::take(&mut self.buffer)));
        };
        let answered_ids = discarded.id_scanner.answered_ids();
        let report = !discarded.is_reported && (is_ended || !answered_ids.is_empty());
        discarded.is_reported |= report;
        if is_ended {
            self.discarded = None;
        }
        report.then_some(Line::TooLong { answered_ids })
    }

    fn end(&mut self) -> Option<Line> {
        (self.discarded.is_some() || !self.buffer.is_empty())
            .then(|| self.line(true))
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &str, max_len: usize) -> Vec<Line> {
        let mut lines = LineReader::new(text.as_bytes(), max_len);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line);
        }
        all
    }

    fn whole(text: &str) -> Line {
        Line::Complete(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn lines_up_to_the_limit_are_returned() {
        assert_eq!(
            all("a\n\nlast", 100).await,
            [whole("a"), whole(""), whole("last")]
        );
        assert_eq!(
            all("1234\n12345\n", 4).await,
            [
                whole("1234"),
                Line::TooLong {
                    answered_ids: vec![]
                }
            ]
        );
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_reported_once_with_its_id() {
        let long = "x".repeat(300_000);
        let text = format!(
            "{{\"id\":3,\"result\":\"{long}\"}}\n{{\"result\":\"{long}\",\"id\":4}}\nnext\n"
        );
        let expected = [
            Line::TooLong {
                answered_ids: vec![3],
            },
            Line::TooLong {
                answered_ids: vec![4],
            },
            whole("next"),
        ];
        assert_eq!(all(&text, 1_000).await, expected);
    }

    #[tokio::test]
    async fn an_endless_line_is_reported_before_its_end() {
        let (mut writer, reader) = tokio::io::duplex(1 << 20);
        let mut lines = LineReader::new(reader, 1_000);
        let start = format!("{{\"id\":3,\"result\":\"{}", "x".repeat(5_000));
        tokio::io::AsyncWriteExt::write_all(&mut writer, start.as_bytes())
            .await
            .unwrap();
        assert_eq!(
            lines.next().await,
            Some(Line::TooLong {
                answered_ids: vec![3]
            })
        );
        assert!(
            lines.buffer.capacity() < 10_000,
            "a dropped line is not buffered"
        );
    }
}
