//! What a child says beside the protocol.

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest line that is logged whole, in bytes.
const LONGEST_LINE: usize = 2_048;

/// Reads to the end, so that the child never waits for a reader, and logs line by line. The rest of a long line is dropped.
pub(crate) async fn log(server: String, stderr: impl AsyncRead + Unpin) {
    each_line(stderr, |line| tracing::debug!(server, line, "a tool server wrote to stderr")).await;
}

async fn each_line(mut stderr: impl AsyncRead + Unpin, mut tell: impl FnMut(&str)) {
    let mut line: Vec<u8> = Vec::new();
    let mut chunk = [0; 4_096];
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        for &byte in chunk.iter().take(length) {
            if byte == b'\n' {
                tell(String::from_utf8_lossy(&line).trim_end());
                line.clear();
            } else if line.len() < LONGEST_LINE {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        tell(&String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_none_is_lost() {
        let long = "x".repeat(10_000);
        let text = format!("one\r\n\n{long}\n\u{1F600}\nlast");
        let mut told = Vec::new();
        each_line(text.as_bytes(), |line| told.push(line.to_owned())).await;
        assert_eq!(told, ["one", "", &"x".repeat(LONGEST_LINE), "\u{1F600}", "last"]);
    }
}
