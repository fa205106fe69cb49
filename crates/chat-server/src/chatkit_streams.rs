//! Streams of ChatKit's events, without HTTP.
//!
//! - The front end repeats a request up to five times if it is answered by 5xx, or by anything but
//!   a stream. Until the first frames are read, the same request of the same frame is a repetition
//!   and leads to the same turn. Then its key is released, and the same text is a new message.
//! - The front end has no request to stop a turn: its button closes the connection. The button is
//!   shown once `stream_options` is read, so a client that disconnects before has not pressed it,
//!   and its turn continues. A turn also continues if the client stops reading, if this server
//!   shuts down, and if it dies.

use std::sync::Arc;
use std::time::Duration;

use chat_domain::{
    BusyPolicy, ChatError, ChatService, Conversation, ConversationId, Cursor, IdempotencyKey,
    MessageId, RetryTurn, StartTurn, StoreError, Turn, TurnEvent, TurnStream, UserId,
};
use chat_protocol::chatkit::events;
use chat_protocol::chatkit::request::StreamingRequest;
use chat_protocol::{Code, Problem};
use futures_util::StreamExt;
use tracing::Instrument;

use crate::service_runner::{ServiceRunner, missing_turn_as_conversation};
use crate::sse_writer::{Encoder, EventStream, SseWriter, StreamEnd, StreamSettings};
use crate::tasks::Tasks;

/// How often cancelling a turn is tried while the store is unavailable, and the pause between.
const CANCEL_ATTEMPTS: u32 = 60;
const CANCEL_PAUSE: Duration = Duration::from_secs(1);

/// Recognises a repeated request.
#[derive(Clone, Debug)]
pub enum RequestKey {
    /// The request is never a repetition.
    None,
    /// A key that the client chose.
    Client(IdempotencyKey),
    /// A key made of the id of the front end's frame, which repeats a request until it is answered.
    Frame(IdempotencyKey),
}

impl RequestKey {
    fn idempotency(&self) -> Option<IdempotencyKey> {
        match self {
            Self::None => None,
            Self::Client(key) | Self::Frame(key) => Some(key.clone()),
        }
    }
}

/// The start of a turn that a request asks for.
enum Start {
    /// A message, in a new thread or in this one.
    Message(Option<ConversationId>, String),
    /// A retry of the turn that answers this message of the thread.
    Retry(ConversationId, MessageId),
}

/// The frames that a stream begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// A new thread and its first message.
    Thread,
    /// A message.
    Message,
    /// None: the thread has the retried message already.
    Retry,
}

/// Starts turns for ChatKit's requests, and streams their events.
pub struct ChatKitStreams {
    /// Runs calls of the use case.
    pub runner: ServiceRunner,
    /// Where the streams' writers run.
    pub readers: Tasks,
    /// The times of a stream.
    pub settings: StreamSettings,
}

impl ChatKitStreams {
    /// Starts the turn that a request asks for, and streams its events. A request that the user can
    /// correct is answered by a stream too: the front end shows no other refusal.
    ///
    /// # Errors
    /// A refusal that the user need not read.
    pub async fn open(
        &self,
        owner: UserId,
        request: StreamingRequest,
        key: RequestKey,
    ) -> Result<EventStream, Problem> {
        let (opening, start) = match request {
            StreamingRequest::Create { text } => (Opening::Thread, Start::Message(None, text)),
            StreamingRequest::AddUserMessage { thread, text } => {
                (Opening::Message, Start::Message(Some(thread), text))
            }
            StreamingRequest::Retry { thread, question } => {
                (Opening::Retry, Start::Retry(thread, question))
            }
            StreamingRequest::Unexpected { thread, reason } => {
                self.runner
                    .call(move |service| async move { service.conversation(&owner, thread).await })
                    .await?;
                return Ok(refusal(&reason));
            }
            StreamingRequest::Refused(problem) => return Ok(refusal(&problem)),
        };
        let turn = match self.start(owner.clone(), start, key.idempotency()).await {
            Ok(turn) => turn,
            Err(problem) if is_for_the_user(problem.code) => return Ok(refusal(&problem)),
            Err(problem) => return Err(problem),
        };
        // The message is stored, so every later failure is an event of a stream: after any other
        // answer the front end would send the message again.
        Ok(match self.read(&owner, &turn, opening).await {
            Ok(reading) => self.follow(owner, turn, key, reading),
            Err(problem) => EventStream::of_frames(events::interrupted(&problem)),
        })
    }

    async fn start(
        &self,
        owner: UserId,
        start: Start,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Turn, Problem> {
        let start = move |service: Arc<ChatService>| async move {
            match start {
                Start::Message(conversation, text) => {
                    let message = StartTurn {
                        owner,
                        conversation,
                        text,
                        busy: BusyPolicy::Enqueue,
                        idempotency,
                    };
                    service.start_turn(message).await
                }
                Start::Retry(thread, question) => {
                    let turn = service.turn_answering(&owner, thread, question).await?.id;
                    let retry = RetryTurn {
                        owner,
                        turn,
                        // The retry supersedes every turn that runs or waits.
                        busy: BusyPolicy::Interrupt,
                        idempotency,
                    };
                    service.retry_turn(retry).await
                }
            }
        };
        self.runner.start_turn(start).await
    }

    async fn read(
        &self,
        owner: &UserId,
        turn: &Turn,
        opening: Opening,
    ) -> Result<Reading, Problem> {
        let (owner, id, conversation) = (owner.clone(), turn.id, turn.conversation);
        let (conversation, items, events) = self
            .runner
            .call(move |service| async move {
                let conversation = service.conversation(&owner, conversation).await?;
                let items = if opening == Opening::Retry {
                    Vec::new()
                } else {
                    service
                        .turn(&owner, id)
                        .await
                        .map_err(missing_turn_as_conversation)?
                        .items
                };
                let events = service
                    .watch_turn(&owner, id, Cursor::START)
                    .await
                    .map_err(missing_turn_as_conversation)?;
                Ok((conversation, items, events))
            })
            .await?;
        let encoder = events::Encoder::new(turn);
        let created = if opening == Opening::Thread {
            events::thread_created(&conversation)
        } else {
            String::new()
        };
        let first = created + &encoder.echo(&items) + &events::stream_options();
        Ok(Reading {
            conversation,
            first,
            encoder,
            events: events
                .map(|event| event.map_err(missing_turn_as_conversation))
                .boxed(),
        })
    }

    /// Streams the events of a turn as they come, and cancels the turn if the client closes the
    /// stream.
    fn follow(&self, owner: UserId, turn: Turn, key: RequestKey, reading: Reading) -> EventStream {
        let Reading {
            conversation,
            first,
            encoder,
            events,
        } = reading;
        let (mut writer, stream) = SseWriter::new(self.settings.clone(), encoder);
        let service = self.runner.service.clone();
        let work = async move {
            let first_read = writer.first_read();
            let release = async {
                if first_read.await && matches!(key, RequestKey::Frame(_)) {
                    release_key(&service, &owner, &turn).await;
                }
            };
            let (end, ()) = tokio::join!(writer.run(first, events), release);
            match end {
                StreamEnd::Completed => {
                    if let Ok(now) = service.conversation(&owner, conversation.id).await
                        && now.title != conversation.title
                    {
                        writer.write(events::thread_updated(&now)).await;
                    }
                }
                StreamEnd::ClientGone if writer.is_read() => {
                    cancel(&service, &owner, &turn).await;
                }
                StreamEnd::ClientGone | StreamEnd::Interrupted | StreamEnd::ClientStalled => {}
            }
        };
        self.readers
            .spawn(work.instrument(tracing::Span::current()));
        stream
    }
}

/// The state at the start of a stream.
struct Reading {
    conversation: Conversation,
    first: String,
    encoder: events::Encoder,
    events: TurnStream,
}

impl Encoder for events::Encoder {
    fn event(&mut self, _: Cursor, event: &TurnEvent) -> String {
        self.event(event)
    }

    fn interrupted(&self, problem: Problem) -> String {
        events::interrupted(&problem)
    }
}

/// Whether a refusal concerns the user, who can do something about it.
fn is_for_the_user(code: Code) -> bool {
    matches!(
        code,
        Code::MessageEmpty
            | Code::MessageTooLong
            | Code::InvalidText
            | Code::TurnSuperseded
            | Code::Unsupported
    )
}

/// A stream that only has a refusal for the user.
fn refusal(problem: &Problem) -> EventStream {
    EventStream::of_frames(events::stream_options() + &events::refused(problem))
}

/// Releases the key of a request that the front end will not repeat any more.
async fn release_key(service: &ChatService, owner: &UserId, turn: &Turn) {
    match service.release_key(owner, turn.id).await {
        // A deleted turn has no key.
        Ok(()) | Err(ChatError::TurnNotFound) => {}
        Err(error) => tracing::warn!(
            turn_id = %turn.id, %error,
            "idempotency key not released, the same text sent again counts as a repetition"
        ),
    }
}

/// Cancels the turn of a stream that the user closed. Retries while the store is unavailable.
async fn cancel(service: &ChatService, owner: &UserId, turn: &Turn) {
    for attempt in 1..=CANCEL_ATTEMPTS {
        match service.cancel_turn(owner, turn.id).await {
            Ok(_) | Err(ChatError::TurnNotFound) => return,
            Err(error @ ChatError::Store(StoreError::Unavailable(..))) => {
                tracing::warn!(turn_id = %turn.id, attempt, %error, "turn not cancelled, retrying");
                tokio::time::sleep(CANCEL_PAUSE).await;
            }
            Err(error) => {
                tracing::error!(turn_id = %turn.id, %error, "turn not cancelled");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chat_domain::testing::{
        FakeTools, FixedEnvironment, Gate, MemoryStore, Script, ScriptedAgent, Signals,
    };
    use chat_domain::{ChatServiceConfig, ConversationPage, TurnLimits, TurnStatus};
    use chat_protocol::chatkit::request::frame_key;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const TEXT: &str = "Buy milk";

    /// Streams of a service whose agent says "One" and then waits for the gate.
    async fn streams(gate: &Gate) -> ChatKitStreams {
        let gate = gate.clone();
        let agent = ScriptedAgent::answering(move |_| {
            vec![
                Script::text("One"),
                Script::Wait(gate.clone()),
                Script::text("Two"),
            ]
        });
        let service = ChatService::open(ChatServiceConfig {
            store: Arc::new(MemoryStore::new()),
            agent: Arc::new(agent),
            tools: Arc::new(FakeTools::new()),
            environment: Arc::new(FixedEnvironment::new()),
            observer: Arc::new(Signals::default()),
            limits: TurnLimits::default(),
        })
        .await
        .unwrap();
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let long = Duration::from_secs(3_600);
        ChatKitStreams {
            runner: ServiceRunner {
                service,
                tasks: tasks.clone(),
            },
            readers: tasks.separate(),
            settings: StreamSettings {
                keep_alive: long,
                write_time: long,
                shutdown: CancellationToken::new(),
            },
        }
    }

    fn ada() -> UserId {
        UserId::new("ada").unwrap()
    }

    fn create(text: &str) -> StreamingRequest {
        StreamingRequest::Create {
            text: text.to_owned(),
        }
    }

    fn of_frame() -> RequestKey {
        RequestKey::Frame(frame_key(b"frame", TEXT.as_bytes()))
    }

    impl ChatKitStreams {
        async fn create(&self, key: RequestKey) -> EventStream {
            self.open(ada(), create(TEXT), key).await.unwrap()
        }

        /// All turns of ada, after every task has ended.
        async fn statuses(&self) -> Vec<&'static str> {
            self.runner.tasks.finished().await;
            self.readers.finished().await;
            let service = &self.runner.service;
            let page = ConversationPage::last_active(None, 10);
            let mut statuses = Vec::new();
            for conversation in service.conversations(&ada(), page).await.unwrap() {
                let page = chat_domain::TurnPage::ALL;
                let turns = service.turns(&ada(), conversation.id, page).await.unwrap();
                statuses.extend(turns.iter().map(|log| status(&log.turn.status)));
            }
            statuses
        }
    }

    fn status(status: &TurnStatus) -> &'static str {
        match status {
            TurnStatus::Queued => "queued",
            TurnStatus::Running => "running",
            TurnStatus::Ended { outcome, .. } => match outcome {
                chat_domain::TurnOutcome::Completed => "completed",
                chat_domain::TurnOutcome::Cancelled => "cancelled",
                chat_domain::TurnOutcome::Failed(_) => "failed",
            },
        }
    }

    async fn read_all(stream: EventStream) -> String {
        let frames: Vec<_> = stream.collect().await;
        String::from_utf8(frames.concat()).unwrap()
    }

    #[tokio::test]
    async fn a_turn_is_streamed_to_its_end() {
        let gate = Gate::default();
        let streams = streams(&gate).await;
        let stream = streams.create(RequestKey::None).await;
        gate.open();
        let frames = read_all(stream).await;
        let mut rest = frames.as_str();
        for mark in [
            "thread.created",
            TEXT,
            "stream_options",
            "One",
            "Two",
            "OneTwo",
        ] {
            let (_, after) = rest
                .split_once(mark)
                .unwrap_or_else(|| panic!("{mark}: {frames}"));
            rest = after;
        }
        assert_eq!(streams.statuses().await, ["completed"]);
    }

    #[tokio::test]
    async fn closing_a_stream_that_was_read_cancels_its_turn() {
        let gate = Gate::default();
        let streams = streams(&gate).await;
        let mut stream = streams.create(RequestKey::None).await;
        assert!(stream.next().await.is_some());
        drop(stream);
        assert_eq!(streams.statuses().await, ["cancelled"]);
    }

    #[tokio::test]
    async fn closing_a_stream_before_it_was_read_stops_nothing() {
        let gate = Gate::default();
        let streams = streams(&gate).await;
        drop(streams.create(RequestKey::None).await);
        gate.reached_by(1).await;
        streams.readers.finished().await;
        gate.open();
        assert_eq!(streams.statuses().await, ["completed"]);
    }

    #[tokio::test]
    async fn closing_a_stream_during_a_shutdown_stops_nothing() {
        let gate = Gate::default();
        let streams = streams(&gate).await;
        let mut stream = streams.create(RequestKey::None).await;
        assert!(stream.next().await.is_some());
        streams.settings.shutdown.cancel();
        drop(stream);
        gate.reached_by(1).await;
        streams.readers.finished().await;
        gate.open();
        assert_eq!(streams.statuses().await, ["completed"]);
    }

    #[tokio::test]
    async fn a_repetition_leads_to_the_same_turn_until_the_first_read() {
        let gate = Gate::default();
        let streams = streams(&gate).await;
        drop(streams.create(of_frame()).await);
        let mut repeated = streams.create(of_frame()).await;
        gate.open();
        assert!(repeated.next().await.is_some());
        let frames = read_all(repeated).await;
        assert!(frames.contains("OneTwo"), "{frames}");
        assert_eq!(streams.statuses().await, ["completed"]);

        let again = read_all(streams.create(of_frame()).await).await;
        assert!(again.contains("OneTwo"), "{again}");
        assert_eq!(streams.statuses().await, ["completed", "completed"]);
    }

    #[tokio::test]
    async fn a_key_of_the_client_is_kept_after_the_first_read() {
        let gate = Gate::default();
        let streams = streams(&gate).await;
        gate.open();
        let key = || RequestKey::Client(frame_key(b"chosen", TEXT.as_bytes()));
        read_all(streams.create(key()).await).await;
        read_all(streams.create(key()).await).await;
        assert_eq!(streams.statuses().await, ["completed"]);
    }

    #[tokio::test]
    async fn refusals_for_the_user_are_streams_and_others_are_errors() {
        let gate = Gate::default();
        let streams = streams(&gate).await;
        let empty = streams.open(ada(), create(" "), RequestKey::None).await;
        let frames = read_all(empty.unwrap()).await;
        assert!(frames.contains(r#""type":"error""#), "{frames}");
        let elsewhere = StreamingRequest::AddUserMessage {
            thread: ConversationId(FixedEnvironment::id(99)),
            text: TEXT.to_owned(),
        };
        let unknown = streams.open(ada(), elsewhere, RequestKey::None).await;
        let code = unknown.err().map(|problem| problem.code);
        assert_eq!(code, Some(Code::ConversationNotFound));
        assert!(streams.statuses().await.is_empty());
    }
}
