//! The connection to a server's process: JSON-RPC lines over its standard input and output.
//!
//! It is a transport for the MCP library that accepts the output of real servers: invalid JSON is
//! repaired where possible, and a request whose answer cannot be parsed fails at once. Results
//! reach the caller as raw JSON.

mod id_scanner;
mod lines;
mod message;
mod repair;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, RequestId, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::local_error::LocalError;
use crate::throttled_log::ThrottledLog;
use lines::{Line, LineReader};
use message::Incoming;
pub(crate) use message::into_raw;

/// Longest line that is read, in bytes.
pub(crate) const MAX_LINE_BYTES: usize = 16 << 20;

/// Most rejections of invalid requests that are written concurrently.
const MAX_PENDING_REJECTIONS: usize = 16;

/// Closes a connection from outside the MCP library.
pub(crate) struct Closer<W> {
    writer: Arc<Mutex<Option<W>>>,
    closed: CancellationToken,
}

impl<W> Closer<W> {
    /// Stops reading and writing, and drops the writer, so that the server reads the end of its
    /// input. A line that is being written stays incomplete.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        drop(self.writer.lock().await.take());
    }
}

/// The transport of the MCP library.
pub(crate) struct Connection<R, W> {
    lines: LineReader<R>,
    writer: Arc<Mutex<Option<W>>>,
    closed: CancellationToken,
    /// Id of the `initialize` request, whose answer the library parses itself.
    initialize: Option<RequestId>,
    /// Parsed messages that were not returned yet.
    read: VecDeque<ServerJsonRpcMessage>,
    log: Arc<ThrottledLog>,
    /// Limits the concurrent rejections of invalid requests.
    rejections: Arc<Semaphore>,
}

impl<R: AsyncRead + Unpin + Send, W: AsyncWrite + Unpin + Send + 'static> Connection<R, W> {
    pub(crate) fn new(reader: R, writer: W, log: Arc<ThrottledLog>) -> (Self, Closer<W>) {
        let (writer, closed) = (Arc::new(Mutex::new(Some(writer))), CancellationToken::new());
        let closer = Closer {
            writer: Arc::clone(&writer),
            closed: closed.clone(),
        };
        let lines = LineReader::new(reader, MAX_LINE_BYTES);
        (
            Self {
                lines,
                writer,
                closed,
                initialize: None,
                read: VecDeque::new(),
                log,
                rejections: Arc::new(Semaphore::new(MAX_PENDING_REJECTIONS)),
            },
            closer,
        )
    }

    fn handle_line(&mut self, line: Line) {
        match line {
            Line::Complete(bytes) if bytes.trim_ascii().is_empty() => {}
            Line::Complete(bytes) => match repair::parse(&bytes) {
                Some(value) => self.handle_messages(value),
                None => self.fail_answered_requests(&bytes),
            },
            Line::TooLong { answered_ids } => {
                self.log.warn(
                    "line",
                    &format!("line of more than {MAX_LINE_BYTES} bytes dropped"),
                );
                self.read.extend(
                    answered_ids
                        .into_iter()
                        .map(|id| message::error_response(id, LocalError::TooLarge)),
                );
            }
        }
    }

    fn handle_messages(&mut self, value: serde_json::Value) {
        for message in message::parse_messages(value, self.initialize.as_ref()) {
            match message {
                Incoming::Message(message) => self.read.push_back(*message),
                Incoming::Rejected(reply) => self.send_rejection(*reply),
                Incoming::Ignored => self.log_ignored_line(),
            }
        }
    }

    /// Sends a rejection, unless too many earlier ones are not yet read by the server.
    fn send_rejection(&mut self, reply: ClientJsonRpcMessage) {
        if let Ok(permit) = Arc::clone(&self.rejections).try_acquire_owned() {
            let sending = self.send(reply);
            tokio::spawn(async move {
                // A closed connection needs no reply.
                let _ = sending.await;
                drop(permit);
            });
        }
    }

    /// Fails the requests that an invalid line answers.
    fn fail_answered_requests(&mut self, line: &[u8]) {
        let mut id_scanner = id_scanner::IdScanner::default();
        id_scanner.scan(line);
        let answered_ids = id_scanner.answered_ids();
        if answered_ids.is_empty() {
            return self.log_ignored_line();
        }
        self.log
            .warn("line", "line that answers a request is not JSON");
        self.read.extend(
            answered_ids
                .into_iter()
                .map(|id| message::error_response(id, LocalError::Unreadable)),
        );
    }

    fn log_ignored_line(&self) {
        self.log.warn(
            "noise",
            "standard output line that is not a JSON-RPC message ignored",
        );
    }
}

impl<R: AsyncRead + Unpin + Send, W: AsyncWrite + Unpin + Send + 'static> Transport<RoleClient>
    for Connection<R, W>
{
    type Error = io::Error;

    fn send(
        &mut self,
        item: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let ClientJsonRpcMessage::Request(request) = &item
            && matches!(request.request, ClientRequest::InitializeRequest(_))
        {
            self.initialize = Some(request.id.clone());
        }
        let (writer, closed) = (Arc::clone(&self.writer), self.closed.clone());
        async move {
            let mut line = serde_json::to_vec(&item)?;
            line.push(b'\n');
            let write = async {
                let mut writer = writer.lock().await;
                let writer = writer.as_mut().ok_or(io::ErrorKind::NotConnected)?;
                writer.write_all(&line).await?;
                writer.flush().await
            };
            tokio::select! {
                written = write => written,
                () = closed.cancelled() => Err(io::ErrorKind::NotConnected.into()),
            }
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            if let Some(message) = self.read.pop_front() {
                return Some(message);
            }
            let line = tokio::select! {
                () = self.closed.cancelled() => return None,
                line = self.lines.next() => line?,
            };
            self.handle_line(line);
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.closed.cancel();
        drop(self.writer.lock().await.take());
        Ok(())
    }
}
