//! Reads a server's standard error.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::McpServer;

/// Longest line that is logged in full, in bytes.
const MAX_LOGGED_BYTES: usize = 2_048;
/// How many of the last lines are kept, and how many of their bytes are logged.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: usize = 2_000;
/// How long to wait for the last lines of a process that has exited.
const TAIL_TIMEOUT: Duration = Duration::from_millis(500);

/// The standard error of one process.
pub(crate) struct Stderr {
    last: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
}

impl Stderr {
    /// Reads until the end, so that the process never blocks on a full pipe, and logs each line.
    /// The rest of a long line is dropped.
    pub(crate) fn read(
        settings: &McpServer,
        stderr: impl AsyncRead + Unpin + Send + 'static,
    ) -> Self {
        let last = Arc::<Mutex<VecDeque<String>>>::default();
        let (server, secrets, lines) = (
            settings.name.clone(),
            Secrets::from_settings(settings),
            Arc::clone(&last),
        );
        let reader = tokio::spawn(async move {
            for_each_line(stderr, |line| {
                let line = secrets.redact(line);
                tracing::debug!(server, line, "tool server stderr");
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == TAIL_LINES {
                    lines.pop_front();
                }
                lines.push_back(line);
            })
            .await;
        });
        Self { last, reader }
    }

    /// Returns the last lines of a process that has exited.
    pub(crate) async fn last(self) -> String {
        // A process that left the group may keep the stream open.
        let _ = timeout(TAIL_TIMEOUT, self.reader).await;
        let lines = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let text = lines
            .iter()
            .filter(|line| !line.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(" | ");
        let start = text.ceil_char_boundary(text.len().saturating_sub(TAIL_BYTES));
        text.get(start..).unwrap_or_default().to_owned()
    }
}

/// Values of the settings that may be secrets, the longest first.
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    pub(crate) fn from_settings(settings: &McpServer) -> Self {
        let of_options = settings
            .args
            .iter()
            .zip(std::iter::once("").chain(settings.args.iter().map(String::as_str)));
        let of_options = of_options.filter_map(|(arg, before)| match arg.split_once('=') {
            Some((option, value)) if is_secret_option(option) => Some(value),
            None if before.starts_with('-') && is_secret_option(before) => Some(arg.as_str()),
            _ => None,
        });
        // Shorter values are words such as `true` or `8080`. Removing those would hide the reason
        // of an error.
        let mut values: Vec<String> = settings
            .env
            .values()
            .map(String::as_str)
            .chain(of_options)
            .map(str::trim)
            .filter(|value| value.len() >= 6)
            .map(str::to_owned)
            .collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values)
    }

    /// Replaces secrets in a text.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret) {
                text.replace(secret, "[removed]")
            } else {
                text
            }
        })
    }
}

fn is_secret_option(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    ["key", "token", "secret", "pass", "auth", "credential"]
        .iter()
        .any(|word| option.contains(word))
}

async fn for_each_line(mut stderr: impl AsyncRead + Unpin, mut on_line: impl FnMut(&str)) {
    let mut line: Vec<u8> = Vec::new();
    let mut chunk = [0; 4_096];
    while let Ok(length @ 1..) = stderr.read(&mut chunk).await {
        for &byte in chunk.iter().take(length) {
            if byte == b'\n' {
                on_line(String::from_utf8_lossy(&line).trim_end());
                line.clear();
            } else if line.len() < MAX_LOGGED_BYTES {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        on_line(&String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_truncated_and_none_is_lost() {
        let long = "x".repeat(10_000);
        let text = format!("one\r\n\n{long}\n\u{1F600}\nlast");
        let mut lines = Vec::new();
        for_each_line(text.as_bytes(), |line| lines.push(line.to_owned())).await;
        assert_eq!(
            lines,
            [
                "one",
                "",
                &"x".repeat(MAX_LOGGED_BYTES),
                "\u{1F600}",
                "last"
            ]
        );
    }

    #[tokio::test]
    async fn the_last_lines_are_kept_without_secrets() {
        let mut settings = McpServer::new("one", "tool");
        settings
            .env
            .insert("API_KEY".into(), "hunter2hunter2".into());
        settings.args = [
            "--token=correct-horse",
            "--password",
            "battery-staple",
            "/srv/files",
        ]
        .map(str::to_owned)
        .to_vec();
        let text = format!(
            "{}hunter2hunter2 correct-horse\nbattery-staple /srv/files",
            "\u{e9}\n".repeat(5_000)
        );
        let last = Stderr::read(&settings, std::io::Cursor::new(text))
            .last()
            .await;
        assert!(
            last.ends_with("| [removed] [removed] | [removed] /srv/files"),
            "{last}"
        );
        assert!(last.len() <= TAIL_BYTES);
    }
}
