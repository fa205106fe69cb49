//! What callers ask of the writer, and how they hear of it.

use async_trait::async_trait;
use chat_domain::{BeginTurn, Begun, EndedTurn, HeldTurn, Item, StoreError};
use tokio::sync::oneshot;

use crate::db::Db;
use crate::fault::Fault;
use crate::turns::{Append, End};

/// A command, and whoever waits for its answer.
pub(crate) struct Submission<C, A> {
    pub(crate) command: C,
    answer: Option<Result<A, StoreError>>,
    caller: oneshot::Sender<Result<A, StoreError>>,
}

/// Why a command was not done.
pub(crate) enum Stop {
    /// The contract refuses it. It changed nothing.
    Refused(StoreError),
    /// Something is wrong. What it changed must not be committed.
    Fault(Fault),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl<C, A> Submission<C, A> {
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
        decide: impl FnOnce(&C) -> Result<A, Stop>,
    ) -> Result<(), Fault> {
        let decided = decide(&self.command);
        self.keep(decided)
    }

    fn keep(&mut self, decided: Result<A, Stop>) -> Result<(), Fault> {
        self.answer = Some(match decided {
            Ok(answer) => Ok(answer),
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Fault(fault)) => return Err(fault),
        });
        Ok(())
    }

    fn is_abandoned(&self) -> bool {
        self.caller.is_closed()
    }

    fn tell(self, done: Result<(), Fault>) {
        let unanswered =
            || Err(Fault::Contradiction("a command was passed over".to_owned()).into());
        let answer = done
            .map_err(StoreError::from)
            .and_then(|()| self.answer.unwrap_or_else(unanswered));
        // Whoever went away does not need it.
        let _ = self.caller.send(answer);
    }
}

/// A command that is done by itself, by statements of its own.
#[async_trait]
pub(crate) trait Command: Send + Sync + 'static {
    /// What its caller hears.
    type Answer: Send + 'static;

    async fn run(&self, db: &Db) -> Result<Self::Answer, Stop>;

    /// Whether it says the same when it is done again, nobody knowing whether it was done before.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// Whether it must see the outcome of all that was begun before it.
    fn is_last(&self) -> bool {
        false
    }
}

/// A [`Submission`] of any [`Command`].
#[async_trait]
pub(crate) trait AnySubmission: Send {
    async fn run(&mut self, db: &Db) -> Result<(), Fault>;
    fn is_repeatable(&self) -> bool;
    fn is_last(&self) -> bool;
    fn is_abandoned(&self) -> bool;
    fn tell(self: Box<Self>, done: Result<(), Fault>);
}

#[async_trait]
impl<C: Command> AnySubmission for Submission<C, C::Answer> {
    async fn run(&mut self, db: &Db) -> Result<(), Fault> {
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

    fn tell(self: Box<Self>, done: Result<(), Fault>) {
        (*self).tell(done);
    }
}

/// A submission of any kind.
pub(crate) enum Job {
    Begin(Submission<BeginTurn, Begun>),
    Append(Submission<Append, Vec<Item>>),
    End(Submission<End, EndedTurn>),
    Other(Box<dyn AnySubmission>),
}

impl Job {
    pub(crate) fn other<C: Command>(submission: Submission<C, C::Answer>) -> Self {
        Self::Other(Box::new(submission))
    }

    /// The turn that the answer puts into the caller's hands.
    pub(crate) fn held(&mut self) -> Option<&mut HeldTurn> {
        match self {
            Self::Begin(Submission {
                answer: Some(Ok(Begun::Running(held))),
                ..
            }) => Some(held),
            Self::End(Submission {
                answer: Some(Ok(EndedTurn { next, .. })),
                ..
            }) => next.as_mut(),
            _ => None,
        }
    }

    /// Takes the held turn out of the answer: the caller cannot run it.
    pub(crate) fn withdraw_held(&mut self) {
        match self {
            Self::Begin(Submission {
                answer: Some(Ok(begun)),
                ..
            }) => {
                if let Begun::Running(held) = begun {
                    *begun = Begun::Queued(held.turn.clone());
                }
            }
            Self::End(Submission {
                answer: Some(Ok(ended)),
                ..
            }) => ended.next = None,
            _ => {}
        }
    }

    /// Whether the caller has gone away.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Begin(submission) => submission.is_abandoned(),
            Self::Append(submission) => submission.is_abandoned(),
            Self::End(submission) => submission.is_abandoned(),
            Self::Other(submission) => submission.is_abandoned(),
        }
    }

    /// Whether it is done by itself, by statements of its own.
    pub(crate) fn is_other(&self) -> bool {
        matches!(self, Self::Other(_))
    }

    /// Whether it may be done again when nobody knows whether it was done. Turns may: their ids
    /// were chosen before.
    pub(crate) fn is_repeatable(&self) -> bool {
        match self {
            Self::Other(submission) => submission.is_repeatable(),
            Self::Begin(_) | Self::Append(_) | Self::End(_) => true,
        }
    }

    /// Whether it must see the outcome of all that was begun before it.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Self::Other(submission) if submission.is_last())
    }

    /// Answers the caller, now that what was decided is durable, or will never be.
    pub(crate) fn tell(self, done: Result<(), Fault>) {
        match self {
            Self::Begin(submission) => submission.tell(done),
            Self::Append(submission) => submission.tell(done),
            Self::End(submission) => submission.tell(done),
            Self::Other(submission) => submission.tell(done),
        }
    }
}
