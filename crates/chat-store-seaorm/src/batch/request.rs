//! Requests to the writer, and the answers for their callers.

use async_trait::async_trait;
use chat_domain::{
    AppendItems, BeginOutcome, BeginTurn, EndTurn, EndedTurn, HeldTurn, Item, Refusal, StoreError,
};
use tokio::sync::oneshot;

use crate::connection::Connection;
use crate::error::StoreFault;

/// A command with the caller that waits for its answer.
pub(crate) struct WriteRequest<C, A> {
    pub(crate) command: C,
    answer: Option<Result<A, StoreError>>,
    caller: oneshot::Sender<Result<A, StoreError>>,
}

/// Why a command was not done.
pub(crate) enum CommandError {
    /// The contract refuses it. It changed nothing.
    Refused(Refusal),
    /// Something is wrong. What it changed must not be committed.
    StoreFault(StoreFault),
}

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<C, A> WriteRequest<C, A> {
    pub(crate) fn new(command: C) -> (Self, oneshot::Receiver<Result<A, StoreError>>) {
        let (caller, answer) = oneshot::channel();
        (
            Self {
                command,
                answer: None,
                caller,
            },
            answer,
        )
    }

    /// Does the command, and keeps the answer until it is durable.
    pub(crate) fn decide(
        &mut self,
        decide: impl FnOnce(&C) -> Result<A, CommandError>,
    ) -> Result<(), StoreFault> {
        let decided = decide(&self.command);
        self.keep(decided)
    }

    fn keep(&mut self, decided: Result<A, CommandError>) -> Result<(), StoreFault> {
        self.answer = Some(match decided {
            Ok(answer) => Ok(answer),
            Err(CommandError::Refused(refusal)) => Err(refusal.into()),
            Err(CommandError::StoreFault(fault)) => return Err(fault),
        });
        Ok(())
    }

    fn is_abandoned(&self) -> bool {
        self.caller.is_closed()
    }

    fn answer(self, done: Result<(), StoreFault>) {
        let unanswered =
            || Err(StoreFault::InvariantViolation("a command was not run".to_owned()).into());
        let answer = done
            .map_err(StoreError::from)
            .and_then(|()| self.answer.unwrap_or_else(unanswered));
        // The receiver is gone if the caller went away.
        let _ = self.caller.send(answer);
    }
}

/// A command that is done by itself, by statements of its own.
#[async_trait]
pub(crate) trait Command: Send + Sync + 'static {
    /// The answer for its caller.
    type Answer: Send + 'static;

    async fn run(&self, db: &dyn Connection) -> Result<Self::Answer, CommandError>;

    /// Whether it may be done again while it is unknown whether it was done: its answer is the
    /// same.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// Whether it must see the outcome of all that was begun before it.
    fn is_last(&self) -> bool {
        false
    }
}

/// A [`WriteRequest`] of any [`Command`].
#[async_trait]
pub(crate) trait AnyWriteRequest: Send {
    async fn run(&mut self, db: &dyn Connection) -> Result<(), StoreFault>;
    fn is_repeatable(&self) -> bool;
    fn is_last(&self) -> bool;
    fn is_abandoned(&self) -> bool;
    fn answer(self: Box<Self>, done: Result<(), StoreFault>);
}

#[async_trait]
impl<C: Command> AnyWriteRequest for WriteRequest<C, C::Answer> {
    async fn run(&mut self, db: &dyn Connection) -> Result<(), StoreFault> {
        let decided = self.command.run(db).await;
        self.keep(decided)
    }

    fn is_repeatable(&self) -> bool {
        self.command.is_repeatable()
    }

    fn is_last(&self) -> bool {
        self.command.is_last()
    }

    fn is_abandoned(&self) -> bool {
        self.is_abandoned()
    }

    fn answer(self: Box<Self>, done: Result<(), StoreFault>) {
        (*self).answer(done);
    }
}

/// A request of any kind.
pub(crate) enum BatchedWrite {
    Begin(WriteRequest<BeginTurn, BeginOutcome>),
    Append(WriteRequest<AppendItems, Vec<Item>>),
    End(WriteRequest<EndTurn, EndedTurn>),
    Other(Box<dyn AnyWriteRequest>),
}

impl BatchedWrite {
    pub(crate) fn other<C: Command>(request: WriteRequest<C, C::Answer>) -> Self {
        Self::Other(Box::new(request))
    }

    /// The turn that the answer puts into the caller's hands.
    pub(crate) fn held(&mut self) -> Option<&mut HeldTurn> {
        match self {
            Self::Begin(WriteRequest {
                answer: Some(Ok(BeginOutcome::Started(held))),
                ..
            }) => Some(held),
            Self::End(WriteRequest {
                answer: Some(Ok(EndedTurn { next, .. })),
                ..
            }) => next.as_mut(),
            _ => None,
        }
    }

    /// Takes the held turn out of the answer: the caller cannot run it.
    pub(crate) fn withdraw_held(&mut self) {
        match self {
            Self::Begin(WriteRequest {
                answer: Some(Ok(begun)),
                ..
            }) => {
                if let BeginOutcome::Started(held) = begun {
                    *begun = BeginOutcome::Stored(held.turn.clone());
                }
            }
            Self::End(WriteRequest {
                answer: Some(Ok(ended)),
                ..
            }) => ended.next = None,
            _ => {}
        }
    }

    /// Whether the caller has gone away.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Begin(request) => request.is_abandoned(),
            Self::Append(request) => request.is_abandoned(),
            Self::End(request) => request.is_abandoned(),
            Self::Other(request) => request.is_abandoned(),
        }
    }

    /// Whether it is done by itself, by statements of its own.
    pub(crate) fn is_other(&self) -> bool {
        matches!(self, Self::Other(_))
    }

    /// Whether it may be done again while it is unknown whether it was done. Turns may: their ids
    /// were chosen before.
    pub(crate) fn is_repeatable(&self) -> bool {
        match self {
            Self::Other(request) => request.is_repeatable(),
            Self::Begin(_) | Self::Append(_) | Self::End(_) => true,
        }
    }

    /// Whether it must see the outcome of all that was begun before it.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Self::Other(request) if request.is_last())
    }

    /// Answers the caller, now that what was decided is durable, or will never be.
    pub(crate) fn answer(self, done: Result<(), StoreFault>) {
        match self {
            Self::Begin(request) => request.answer(done),
            Self::Append(request) => request.answer(done),
            Self::End(request) => request.answer(done),
            Self::Other(request) => request.answer(done),
        }
    }
}
