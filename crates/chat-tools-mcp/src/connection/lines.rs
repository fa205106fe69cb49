//! Reads lines in bounded memory.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::outline::Outline;

/// One line of a server's output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its end.
    Whole(Vec<u8>),
    /// A line beyond the limit, which is dropped, and the ids that it answers.
    TooLong { answers: Vec<i64> },
}

/// The lines of a stream. A line that is longer than the limit is reported as soon as the id that
/// it answers is known.
pub(super) struct Lines<R> {
    read: BufReader<R>,
    longest: usize,
    buffer: Vec<u8>,
    /// The scan of a line that is too long, until its end.
    discarding: Option<Discarding>,
}

#[derive(Default)]
struct Discarding {
    outline: Outline,
    is_reported: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(read: R, longest: usize) -> Self {
        Self {
            read: BufReader::with_capacity(64 << 10, read),
            longest,
            buffer: Vec::new(),
            discarding: None,
        }
    }

    /// The next line; `None` at the end of the stream or when it cannot be read. A dropped future
    /// loses nothing.
    pub(super) async fn next(&mut self) -> Option<Line> {
        loop {
            let available = match self.read.fill_buf().await {
                Ok(available) if !available.is_empty() => available,
                _ => return self.end(),
            };
            let end = available.iter().position(|byte| *byte == b'\n');
            let (piece, consumed) = match end {
                Some(end) => (available.get(..end).unwrap_or_default(), end + 1),
                None => (available, available.len()),
            };
            if self.discarding.is_none() && self.buffer.len() + piece.len() > self.longest {
                let discarding = self.discarding.insert(Discarding::default());
                discarding.outline.feed(&std::mem::take(&mut self.buffer));
            }
            match &mut self.discarding {
                Some(discarding) => discarding.outline.feed(piece),
                None => self.buffer.extend_from_slice(piece),
            }
            self.read.consume(consumed);
            if let Some(line) = self.line(end.is_some()) {
                return Some(line);
            }
        }
    }

    fn line(&mut self, is_ended: bool) -> Option<Line> {
        let Some(discarding) = &mut self.discarding else {
            return is_ended.then(|| Line::Whole(std::mem::take(&mut self.buffer)));
        };
        let answers = discarding.outline.answers();
        let report = !discarding.is_reported && (is_ended || !answers.is_empty());
        discarding.is_reported |= report;
        if is_ended {
            self.discarding = None;
        }
        report.then_some(Line::TooLong { answers })
    }

    fn end(&mut self) -> Option<Line> {
        (self.discarding.is_some() || !self.buffer.is_empty())
            .then(|| self.line(true))
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &str, longest: usize) -> Vec<Line> {
        let mut lines = Lines::new(text.as_bytes(), longest);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line);
        }
        all
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn lines_are_whole_up_to_the_limit() {
        assert_eq!(
            all("a\n\nlast", 100).await,
            [whole("a"), whole(""), whole("last")]
        );
        assert_eq!(
            all("1234\n12345\n", 4).await,
            [whole("1234"), Line::TooLong { answers: vec![] }]
        );
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_reported_once_with_its_id() {
        let long = "x".repeat(300_000);
        let text = format!(
            "{{\"id\":3,\"result\":\"{long}\"}}\n{{\"result\":\"{long}\",\"id\":4}}\nnext\n"
        );
        let expected = [
            Line::TooLong { answers: vec![3] },
            Line::TooLong { answers: vec![4] },
            whole("next"),
        ];
        assert_eq!(all(&text, 1_000).await, expected);
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_reported_before_its_end() {
        let (mut writer, reader) = tokio::io::duplex(1 << 20);
        let mut lines = Lines::new(reader, 1_000);
        let start = format!("{{\"id\":3,\"result\":\"{}", "x".repeat(5_000));
        tokio::io::AsyncWriteExt::write_all(&mut writer, start.as_bytes())
            .await
            .unwrap();
        assert_eq!(lines.next().await, Some(Line::TooLong { answers: vec![3] }));
        assert!(
            lines.buffer.capacity() < 10_000,
            "a line that is dropped is not kept"
        );
    }
}
