//! Limits on connections: their number, and how long a client may leave a reply unread.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chat_protocol::{Code, Problem};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};
use uuid::Uuid;

/// How many connections over the limit get an answer at the same time. Others over the limit are
/// closed without one.
const REJECTIONS: usize = 64;

/// How long a client over the limit may take to read its rejection.
const REJECTION_TIME: Duration = Duration::from_secs(1);

/// How much a client over the limit may send before its connection is closed, in bytes.
const REJECTION_BYTES: u64 = 64 << 10;

/// The limit of connections.
#[derive(Clone, Debug)]
pub struct ConnectionLimit {
    limit: usize,
    free: Arc<Semaphore>,
    rejections: Arc<Semaphore>,
}

impl ConnectionLimit {
    /// At most `limit` connections.
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            limit,
            free: Arc::new(Semaphore::new(limit)),
            rejections: Arc::new(Semaphore::new(REJECTIONS)),
        }
    }

    /// How many connections may be accepted at the same time, including those that are only
    /// rejected.
    pub fn max_accepted(&self) -> usize {
        self.limit.saturating_add(REJECTIONS)
    }

    /// Admits a connection, or rejects it with `too_many_connections`. [`Connection`] explains
    /// `write_time`.
    pub fn admit(&self, stream: TcpStream, write_time: Duration) -> Option<Connection> {
        if let Ok(permit) = self.free.clone().try_acquire_owned() {
            return Some(Connection {
                stream,
                write_time,
                blocked: None,
                _permit: permit,
            });
        }
        if let Ok(permit) = self.rejections.clone().try_acquire_owned() {
            // May be dropped with the runtime of its thread, which does no harm.
            tokio::spawn(async move {
                let _ = timeout(REJECTION_TIME, reject(stream)).await;
                drop(permit);
            });
        }
        None
    }
}

/// Answers 503 without reading the request. Then reads what the client sends, because closing with
/// unread bytes would reset the connection before the client has read the answer.
async fn reject(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(rejection().as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(REJECTION_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

fn rejection() -> String {
    let mut problem = Problem::from(Code::TooManyConnections);
    let id = Uuid::now_v7();
    problem.instance = Some(id);
    let body = serde_json::to_string(&problem.body()).unwrap_or_default();
    let after = Code::TooManyConnections
        .row()
        .retry_after
        .unwrap_or_default();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {}\r\ncontent-length: {}\r\n\
         retry-after: {after}\r\nx-request-id: {id}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\n\
         connection: close\r\n\r\n{body}",
        Problem::MEDIA_TYPE,
        body.len()
    )
}

/// A connection whose writes fail with [`ErrorKind::TimedOut`] if the client has not read for
/// `write_time`.
///
/// The HTTP library itself waits without limit for a client that does not read.
pub struct Connection {
    stream: TcpStream,
    write_time: Duration,
    /// Runs while a write is blocked.
    blocked: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn limit_write<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let write_time = self.write_time;
        ready!(
            self.blocked
                .get_or_insert_with(|| Box::pin(sleep(write_time)))
                .as_mut()
                .poll(context)
        );
        tracing::info!("client does not read its reply, closing the connection");
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limit_write(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.limit_write(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
