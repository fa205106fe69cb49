//! Streams of ChatKit's events, and the fate of their turns when no client reads them any more.
//!
//! - The front end repeats a request up to five times if it is answered by 5xx, or by anything but
//!   a stream. As long as the head of the answer was not taken, the same request of the same frame
//!   is a repetition and leads to the same turn. From then on its key is forgotten, and the same
//!   words are a new message.
//! - The front end has no request to stop an answer: its button closes the connection. It shows the
//!   button once it has read `stream_options`, so a client that goes away before has not pressed
//!   it, and its turn continues. So it does when the client stops reading, when this server shuts
//!   down, and when it dies.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use bytes::Bytes;
use chat_domain::{
    BusyPolicy, ChatError, ChatService, Conversation, ConversationId, Cursor, IdempotencyKey,
    RetryTurn, StartTurn, StartedTurn, StoreError, Turn, TurnEvent, TurnStream, UserId,
};
use chat_protocol::chatkit::events;
use chat_protocol::chatkit::request::StreamingRequest;
use chat_protocol::problem::{Code, Problem};
use futures_util::StreamExt;
use tokio::sync::mpsc::channel;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::http::sse::{self, Encoder, SseWriter, StreamEnd};
use crate::problem::ApiError;
use crate::problem::of_new_turn;
use crate::state::AppState;

/// How long it is tried again to stop a turn while the store is away, and the pause between.
const STOP_TRIES: u32 = 60;
const STOP_PAUSE: Duration = Duration::from_secs(1);

/// Recognises a repetition.
#[derive(Clone, Debug)]
pub enum Key {
    /// Nothing does.
    None,
    /// The key that the client chose.
    Chosen(IdempotencyKey),
    /// The id of the front end's frame, which repeats its request until it is answered.
    OfFrame(IdempotencyKey),
}

impl Key {
    fn idempotency(&self) -> Option<IdempotencyKey> {
        match self {
            Self::None => None,
            Self::Chosen(key) | Self::OfFrame(key) => Some(key.clone()),
        }
    }
}

/// The first frames of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// A new thread and its first message.
    Thread,
    /// A message.
    Message,
    /// Nothing new: the question is there already.
    Retry,
}

/// Begins a turn and answers with its events.
///
/// # Errors
/// A refusal that the user need not read: the front end shows no 4xx of a stream.
pub async fn answer(
    state: &AppState,
    owner: UserId,
    asked: StreamingRequest,
    key: Key,
) -> Result<HttpResponse, ApiError> {
    let (begin, begun) = match asked {
        StreamingRequest::Refused(problem) => return Ok(told(&problem)),
        StreamingRequest::Unexpected { thread, why } => {
            state
                .call(move |service| async move { service.conversation(&owner, thread).await })
                .await?;
            return Ok(told(&why));
        }
        StreamingRequest::Create { text } => (
            Begin::Thread,
            start(state, message(&owner, None, text, &key)).await,
        ),
        StreamingRequest::AddUserMessage { thread, text } => (
            Begin::Message,
            start(state, message(&owner, Some(thread), text, &key)).await,
        ),
        StreamingRequest::Retry { thread, question } => {
            let (owner, idempotency) = (owner.clone(), key.idempotency());
            // All that runs and waits is about to be superseded.
            let busy = BusyPolicy::Interrupt;
            let retry = run(state, move |service| async move {
                let turn = service.turn_answering(&owner, thread, question).await?.id;
                service
                    .retry_turn(RetryTurn {
                        owner,
                        turn,
                        busy,
                        idempotency,
                    })
                    .await
            });
            (Begin::Retry, retry.await)
        }
    };
    let turn = match begun {
        Ok(turn) => turn,
        Err(refusal) if is_for_the_user(refusal.0.code) => return Ok(told(&refusal.0)),
        Err(refusal) => return Err(refusal),
    };
    // From here on the message is stored, and every failure is an event of a stream: after any
    // other answer it would come again.
    let opened = open(state, &owner, &turn, begin).await;
    Ok(match opened {
        Ok(opened) => follow(state, owner, turn, key, opened),
        Err(refusal) => once(events::broken(&refusal.0)),
    })
}

fn message(
    owner: &UserId,
    conversation: Option<ConversationId>,
    text: String,
    key: &Key,
) -> StartTurn {
    StartTurn {
        owner: owner.clone(),
        conversation,
        text,
        busy: BusyPolicy::Enqueue,
        idempotency: key.idempotency(),
    }
}

async fn start(state: &AppState, message: StartTurn) -> Result<Turn, ApiError> {
    run(state, move |service| async move {
        service.start_turn(message).await
    })
    .await
}

/// Begins a turn, and runs it.
async fn run<F>(
    state: &AppState,
    begin: impl FnOnce(Arc<ChatService>) -> F + Send + 'static,
) -> Result<Turn, ApiError>
where
    F: Future<Output = Result<StartedTurn, ChatError>> + Send + 'static,
{
    let tasks = state.tasks.clone();
    let begun = state.call(|service| async move {
        let started = begin(service).await?;
        if let Some(task) = started.task {
            tasks.spawn(task);
        }
        Ok(started.turn)
    });
    begun.await
}

/// Refusals that the user should read, and can do something about.
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

/// A stream that only says what is wrong.
fn told(problem: &Problem) -> HttpResponse {
    once(events::stream_options() + &events::refused(problem))
}

fn once(frames: String) -> HttpResponse {
    let (sender, body) = channel(1);
    // There is room for one.
    let _ = sender.try_send(Bytes::from(frames));
    sse::response(body, CancellationToken::new())
}

/// The state when a stream begins.
struct Opened {
    conversation: Conversation,
    first: String,
    encoder: events::Encoder,
    news: TurnStream,
}

async fn open(
    state: &AppState,
    owner: &UserId,
    turn: &Turn,
    begin: Begin,
) -> Result<Opened, ApiError> {
    let (owner, id, conversation) = (owner.clone(), turn.id, turn.conversation);
    let (conversation, asked, news) = state
        .call(move |service| async move {
            let conversation = service.conversation(&owner, conversation).await?;
            let asked = if begin == Begin::Retry {
                Vec::new()
            } else {
                service.turn(&owner, id).await.map_err(of_new_turn)?.items
            };
            Ok((
                conversation,
                asked,
                service
                    .watch_turn(&owner, id, Cursor::START)
                    .await
                    .map_err(of_new_turn)?,
            ))
        })
        .await?;
    let news = news.map(|event| event.map_err(of_new_turn)).boxed();
    let encoder = events::Encoder::new(turn);
    let created = if begin == Begin::Thread {
        events::thread_created(&conversation)
    } else {
        String::new()
    };
    let first = created + &encoder.echo(&asked) + &events::stream_options();
    Ok(Opened {
        conversation,
        first,
        encoder,
        news,
    })
}

impl Encoder for events::Encoder {
    fn event(&mut self, _: Cursor, event: &TurnEvent) -> String {
        self.event(event)
    }

    fn broken(&self, problem: Problem) -> String {
        events::broken(&problem)
    }
}

/// The events of a turn as they come.
fn follow(state: &AppState, owner: UserId, turn: Turn, key: Key, opened: Opened) -> HttpResponse {
    let Opened {
        conversation,
        first,
        encoder,
        news,
    } = opened;
    let (mut writer, body) = SseWriter::new(state, encoder);
    let taken = CancellationToken::new();
    let answer = sse::response(body, taken.clone());
    let (service, leaving) = (state.service.clone(), state.leaving.clone());
    let work = async move {
        let (gone, reached) = (writer.gone(), taken.clone());
        let forget = async {
            let taken = tokio::select! {
                () = reached.cancelled_owned() => true,
                () = gone => false,
            };
            if taken && matches!(key, Key::OfFrame(_)) {
                forget_key(&service, &owner, &turn).await;
            }
        };
        let (end, ()) = tokio::join!(writer.run(first, news), forget);
        match end {
            StreamEnd::Completed => {
                if let Ok(now) = service.conversation(&owner, conversation.id).await
                    && now.title != conversation.title
                {
                    writer.write(events::thread_updated(&now)).await;
                }
            }
            StreamEnd::ClientGone if taken.is_cancelled() && !leaving.is_cancelled() => {
                stop(&service, &owner, &turn).await
            }
            StreamEnd::ClientGone | StreamEnd::Interrupted | StreamEnd::ClientStalled => {}
        }
    };
    state
        .readers
        .spawn(work.instrument(tracing::Span::current()));
    answer
}

/// The front end has its answer, and will not repeat its request any more.
async fn forget_key(service: &ChatService, owner: &UserId, turn: &Turn) {
    match service.release_key(owner, turn.id).await {
        // A turn that is not there any more has no key.
        Ok(()) | Err(ChatError::TurnNotFound) => {}
        Err(error) => {
            tracing::warn!(turn_id = %turn.id, %error, "the next message with the same words from the same page will be taken for this one")
        }
    }
}

/// The user pressed the button, or closed the page: the turn is to stop, even if the store is away
/// at the moment.
async fn stop(service: &ChatService, owner: &UserId, turn: &Turn) {
    for _ in 0..STOP_TRIES {
        match service.cancel_turn(owner, turn.id).await {
            Ok(_) | Err(ChatError::TurnNotFound) => return,
            Err(error @ ChatError::Store(StoreError::Unavailable(..))) => {
                tracing::warn!(turn_id = %turn.id, %error, "the turn cannot be stopped yet");
                tokio::time::sleep(STOP_PAUSE).await;
            }
            Err(error) => {
                tracing::error!(turn_id = %turn.id, %error, "the turn cannot be stopped");
                return;
            }
        }
    }
}
