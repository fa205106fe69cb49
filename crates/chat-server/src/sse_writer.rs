//! Writes server-sent events at the pace of their reader, independent of HTTP.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chat_domain::{Cursor, TurnEvent, TurnStream};
use chat_protocol::KEEP_ALIVE;
use chat_protocol::{Code, Problem};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::service_runner::into_logged_problem;

/// How many frames may wait for the reader. Few, because later frames for a slow reader are fewer
/// and larger.
const FRAMES_AHEAD: usize = 4;

/// Encodes the events of a turn in one protocol.
pub trait Encoder: Send + 'static {
    /// The frames of an event, after which the reader has come to `cursor`. Empty if the protocol
    /// has no frame for the event.
    fn event(&mut self, cursor: Cursor, event: &TurnEvent) -> String;

    /// The last frame of a stream that ends before its turn.
    fn interrupted(&self, problem: Problem) -> String;
}

/// The times of a stream, and the end of all streams.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// The time between two keep-alive comments in an idle stream.
    pub keep_alive: Duration,
    /// How long the reader may take to make room for the next frame.
    pub write_time: Duration,
    /// Cancelled when streams must end, whatever the status of their turns.
    pub shutdown: CancellationToken,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// All events were sent.
    Completed,
    /// The server interrupted the stream: reading failed, or the server shuts down.
    Interrupted,
    /// The reader dropped the stream, and not because of a shutdown.
    ClientGone,
    /// The reader took too long to read.
    ClientStalled,
}

/// The frames of a stream for one reader. Dropping it stops the writer.
pub struct EventStream {
    frames: Receiver<Bytes>,
    first_read: CancellationToken,
}

impl EventStream {
    /// A complete stream of these frames.
    pub fn of_frames(frames: String) -> Self {
        let (sender, receiver) = channel(1);
        // An empty channel has room for one message.
        let _ = sender.try_send(Bytes::from(frames));
        Self {
            frames: receiver,
            first_read: CancellationToken::new(),
        }
    }
}

impl Stream for EventStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let next = self.frames.poll_recv(context);
        if next.is_ready() {
            self.first_read.cancel();
        }
        next
    }
}

/// Writes the events of a turn to an [`EventStream`].
pub struct SseWriter<E> {
    encoder: E,
    frames: Sender<Bytes>,
    first_read: CancellationToken,
    settings: StreamSettings,
}

impl<E: Encoder> SseWriter<E> {
    /// A writer, and the stream that it fills.
    pub fn new(settings: StreamSettings, encoder: E) -> (Self, EventStream) {
        let (frames, receiver) = channel(FRAMES_AHEAD);
        let first_read = CancellationToken::new();
        let stream = EventStream {
            frames: receiver,
            first_read: first_read.clone(),
        };
        let writer = Self {
            encoder,
            frames,
            first_read,
            settings,
        };
        (writer, stream)
    }

    /// Writes the frames `first` and then all events. Returns when all events are sent, the server
    /// shuts down, or the reader is gone or too slow.
    pub async fn run(&mut self, first: String, mut events: TurnStream) -> StreamEnd {
        let mut written = self.write(first).await;
        while written == StreamEnd::Completed {
            let next = tokio::select! {
                // Known events go first: a client that has waited for the end of a turn gets it,
                // even from a server that shuts down.
                biased;
                next = timeout(self.settings.keep_alive, events.next()) => next,
                () = self.settings.shutdown.cancelled() => {
                    return self.interrupt(Code::ShuttingDown.into()).await;
                }
                () = self.frames.closed() => return StreamEnd::ClientGone,
            };
            let frames = match next {
                Err(_) => KEEP_ALIVE.to_owned(),
                Ok(Some(Ok((cursor, event)))) => self.encoder.event(cursor, &event),
                Ok(Some(Err(error))) => return self.interrupt(into_logged_problem(error)).await,
                Ok(None) => return StreamEnd::Completed,
            };
            written = self.write(frames).await;
        }
        written
    }

    async fn interrupt(&self, problem: Problem) -> StreamEnd {
        self.write(self.encoder.interrupted(problem)).await;
        StreamEnd::Interrupted
    }

    /// Sends frames, if there are any. Returns [`StreamEnd::Completed`] if the stream has taken
    /// them in time.
    pub async fn write(&self, frames: String) -> StreamEnd {
        if frames.is_empty() {
            return StreamEnd::Completed;
        }
        match self
            .frames
            .send_timeout(frames.into(), self.settings.write_time)
            .await
        {
            Ok(()) => StreamEnd::Completed,
            // The server itself may have closed the connection.
            Err(SendTimeoutError::Closed(_)) if self.settings.shutdown.is_cancelled() => {
                StreamEnd::Interrupted
            }
            Err(SendTimeoutError::Closed(_)) => StreamEnd::ClientGone,
            Err(SendTimeoutError::Timeout(_)) => {
                tracing::info!("client does not read its stream, ending the stream");
                StreamEnd::ClientStalled
            }
        }
    }

    /// Waits until the first frames are read, or the reader is gone. Returns whether they were
    /// read.
    pub fn first_read(&self) -> impl Future<Output = bool> + Send + 'static {
        let (first_read, frames) = (self.first_read.clone(), self.frames.clone());
        async move {
            tokio::select! {
                () = first_read.cancelled() => {}
                () = frames.closed() => {}
            }
            first_read.is_cancelled()
        }
    }

    /// Whether the first frames were read.
    pub fn is_read(&self) -> bool {
        self.first_read.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    struct Cursors;

    impl Encoder for Cursors {
        fn event(&mut self, cursor: Cursor, _: &TurnEvent) -> String {
            format!("{}\n", cursor.position.0)
        }

        fn interrupted(&self, problem: Problem) -> String {
            format!("{}\n", problem.code.row().code)
        }
    }

    fn writer(keep_alive: Duration, write_time: Duration) -> (SseWriter<Cursors>, EventStream) {
        let settings = StreamSettings {
            keep_alive,
            write_time,
            shutdown: CancellationToken::new(),
        };
        SseWriter::new(settings, Cursors)
    }

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn keep_alive_comments_must_be_read_too() {
        let (mut writer, events) = writer(Duration::from_secs(1), Duration::from_secs(2));
        let end = writer.run(String::new(), stream::pending().boxed()).await;
        assert_eq!(end, StreamEnd::ClientStalled);
        drop(writer);
        let frames: Vec<_> = events.collect().await;
        assert_eq!(frames, vec![KEEP_ALIVE; FRAMES_AHEAD]);
    }

    #[tokio::test]
    async fn a_dropped_stream_ends_its_writer() {
        let (mut writer, events) = writer(LONG, LONG);
        drop(events);
        let end = writer.run(String::new(), stream::pending().boxed()).await;
        assert_eq!(end, StreamEnd::ClientGone);
        assert!(!writer.first_read().await);
    }

    #[tokio::test]
    async fn a_shutdown_interrupts_the_stream() {
        let (mut writer, events) = writer(LONG, LONG);
        writer.settings.shutdown.cancel();
        let end = writer
            .run("first\n".into(), stream::pending().boxed())
            .await;
        assert_eq!(end, StreamEnd::Interrupted);
        drop(writer);
        let frames: Vec<_> = events.collect().await;
        assert_eq!(frames, ["first\n", "shutting_down\n"]);
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_during_a_shutdown_is_interrupted() {
        let (mut writer, events) = writer(LONG, LONG);
        writer.settings.shutdown.cancel();
        drop(events);
        let end = writer
            .run("first\n".into(), stream::pending().boxed())
            .await;
        assert_eq!(end, StreamEnd::Interrupted);
    }

    #[tokio::test]
    async fn the_first_read_is_noticed() {
        let (writer, mut events) = writer(LONG, LONG);
        let first_read = writer.first_read();
        writer.write("first\n".into()).await;
        assert!(!writer.is_read());
        assert_eq!(events.next().await.as_deref(), Some(b"first\n".as_slice()));
        drop(events);
        assert!(first_read.await && writer.is_read());
    }
}
