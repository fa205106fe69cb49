//! The connection to a server's process: lines of JSON-RPC over its standard input and output.
//!
//! A transport for the library's service. It reads what servers write in practice: what can be
//! mended is mended, and a request whose answer cannot be read fails at once. Each result reaches
//! the caller as raw JSON, to be read part by part.

mod lines;
mod mend;
mod message;
mod outline;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, RequestId, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::notices::Notices;
use lines::{Line, Lines};
use message::Incoming;
pub(crate) use message::into_raw;

/// The longest line that is read, in bytes.
pub(crate) const LONGEST_LINE: usize = 16 << 20;

/// The most replies to unreadable requests that are being written at a time.
const MOST_REJECTIONS: usize = 16;

/// Closes a connection from outside of the library.
pub(crate) struct Closer<W> {
    writer: Arc<Mutex<Option<W>>>,
    closed: CancellationToken,
}

impl<W> Closer<W> {
    /// Ends reading and writing, and drops the writer, so that the server reads the end of its
    /// input. A line that is being written is left without its end.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        drop(self.writer.lock().await.take());
    }
}

/// The transport.
pub(crate) struct Connection<R, W> {
    lines: Lines<R>,
    writer: Arc<Mutex<Option<W>>>,
    closed: CancellationToken,
    /// The request `initialize`, the one whose answer the library reads itself.
    initialize: Option<RequestId>,
    /// Messages of a line that has been read.
    read: VecDeque<ServerJsonRpcMessage>,
    notices: Arc<Notices>,
    /// Bounds the replies to unreadable requests that are being written.
    rejections: Arc<Semaphore>,
}

impl<R: AsyncRead + Unpin + Send, W: AsyncWrite + Unpin + Send + 'static> Connection<R, W> {
    pub(crate) fn new(reader: R, writer: W, notices: Arc<Notices>) -> (Self, Closer<W>) {
        let (writer, closed) = (Arc::new(Mutex::new(Some(writer))), CancellationToken::new());
        let closer = Closer {
            writer: Arc::clone(&writer),
            closed: closed.clone(),
        };
        let lines = Lines::new(reader, LONGEST_LINE);
        (
            Self {
                lines,
                writer,
                closed,
                initialize: None,
                read: VecDeque::new(),
                notices,
                rejections: Arc::new(Semaphore::new(MOST_REJECTIONS)),
            },
            closer,
        )
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Whole(bytes) if bytes.trim_ascii().is_empty() => {}
            Line::Whole(bytes) => match mend::parse(&bytes) {
                Some(value) => self.take_messages(value),
                None => self.fail(&bytes),
            },
            Line::TooLong { answers } => {
                self.notices.warn(
                    "line",
                    &format!("a line of more than {LONGEST_LINE} bytes is dropped"),
                );
                self.read.extend(
                    answers
                        .into_iter()
                        .map(|id| message::failure(id, Failure::TooLarge)),
                );
            }
        }
    }

    fn take_messages(&mut self, value: serde_json::Value) {
        for message in message::read(value, self.initialize.as_ref()) {
            match message {
                Incoming::Message(message) => self.read.push_back(*message),
                Incoming::Rejected(reply) => self.reject(*reply),
                Incoming::Noise => self.noise(),
            }
        }
    }

    /// Sends a reply, unless the server does not read those before it.
    fn reject(&mut self, reply: ClientJsonRpcMessage) {
        if let Ok(permit) = Arc::clone(&self.rejections).try_acquire_owned() {
            let sending = self.send(reply);
            tokio::spawn(async move {
                // A connection that is closed needs no reply.
                let _ = sending.await;
                drop(permit);
            });
        }
    }

    /// Fails the requests that an unreadable line answers.
    fn fail(&mut self, line: &[u8]) {
        let mut outline = outline::Outline::default();
        outline.feed(line);
        let answers = outline.answers();
        if answers.is_empty() {
            return self.noise();
        }
        self.notices.warn(
            "line",
            "a line that answers a request cannot be read: it is not JSON",
        );
        self.read.extend(
            answers
                .into_iter()
                .map(|id| message::failure(id, Failure::Unreadable)),
        );
    }

    fn noise(&self) {
        self.notices.warn(
            "noise",
            "a line on the standard output is no JSON-RPC message and is ignored",
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
            self.take(line);
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.closed.cancel();
        drop(self.writer.lock().await.take());
        Ok(())
    }
}
