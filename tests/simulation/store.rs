//! The store as one worker reaches it: the real rules in memory, behind everything that can happen
//! on the way to a database and back.
//!
//! A call keeps the contract of [`ConversationStore`]: one that is
//! dropped or ends as unavailable is done before its caller continues, or never.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat_domain::*;
use futures_util::{FutureExt, TryFutureExt};
use tokio::time::sleep;

use crate::conditions::{Arrival, STORE_LIMIT, Subject};
use crate::invariants::Cause;
use crate::plan::{Call, Effect};
use crate::random::{chance, millis};
use crate::trace::short;
use crate::workers::Process;
use crate::world::World;

/// Text that a store may refuse (the fault `value`).
pub const ODD_VALUE: char = '\u{2603}';

/// The store as one process of a worker reaches it.
pub struct StoreClient {
    pub world: Arc<World>,
    pub process: Process,
}

/// A call on its way to the store.
struct InFlight<'a, T, F: FnOnce(&'a World) -> Result<T, StoreError>> {
    world: &'a World,
    act: Option<F>,
    /// Whether it arrives even if its caller has dropped it.
    arrives: bool,
}

impl<'a, T, F: FnOnce(&'a World) -> Result<T, StoreError>> InFlight<'a, T, F> {
    fn act(&mut self) -> Option<Result<T, StoreError>> {
        self.act.take().map(|act| act(self.world))
    }
}

impl<'a, T, F: FnOnce(&'a World) -> Result<T, StoreError>> Drop for InFlight<'a, T, F> {
    fn drop(&mut self) {
        if self.arrives {
            drop(self.act());
        }
    }
}

impl StoreClient {
    /// Makes one call. `act` does it, and checks what has changed.
    async fn call<'a, T>(
        &'a self,
        call: Call,
        subject: Subject,
        act: impl FnOnce(&'a World) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let (world, process) = (&*self.world, self.process);
        world.workers.count_call();
        let mut random = world.draw(1);
        let strike = world.conditions().strike(call);
        let slowness = world.plan.options.latency + world.conditions().slowness();
        let mut before = millis(&mut random, 0..=slowness);
        let lag = slowness + world.conditions().lag(process.index);
        let mut after = millis(&mut random, 0..=lag);
        match strike {
            Some(Effect::Delay(time)) => before += time,
            Some(Effect::DelayAnswer(time)) => after += time,
            _ => {}
        }
        world.note(|| {
            let turn = subject.turn.map(|turn| short(turn.0));
            let strike = strike.map(|strike| format!(" <- {strike:?}"));
            format!(
                "{process}: {call:?} {}{}",
                turn.unwrap_or_default(),
                strike.unwrap_or_default()
            )
        });
        let mut request = InFlight {
            world,
            act: Some(act),
            arrives: chance(&mut random, 50),
        };
        pause(before.min(STORE_LIMIT)).await;
        match strike {
            Some(Effect::CrashBefore) => self.world.crash(process).await,
            Some(Effect::FreezeBefore(time)) => self.world.freeze(process, time).await,
            _ => {}
        }
        let arrival = match strike {
            _ if before >= STORE_LIMIT => Arrival::Hangs,
            Some(Effect::LoseAnswer | Effect::LoseAnswerThenRefuse) => Arrival::AnswerLost,
            Some(Effect::LoseRequest) => Arrival::Unavailable(Unavailability::Unreachable),
            Some(Effect::Hang { is_done: false }) => Arrival::Hangs,
            Some(Effect::Refuse | Effect::RefuseWithEnd) => Arrival::Refused,
            _ => world
                .conditions()
                .arrival(process.index, call, subject, &mut random),
        };
        request.arrives = false;
        let answer = match arrival {
            Arrival::Done | Arrival::AnswerLost => request.act(),
            _ => None,
        };
        match strike {
            Some(Effect::CrashAfter) => self.world.crash(process).await,
            Some(Effect::FreezeAfter(time)) => self.world.freeze(process, time).await,
            Some(Effect::Hang { .. }) => after += STORE_LIMIT,
            _ => {}
        }
        if arrival == Arrival::Hangs {
            after += STORE_LIMIT;
        }
        let left = STORE_LIMIT.saturating_sub(before);
        pause(after.min(left)).await;
        let error = match arrival.error() {
            None if after >= left => Arrival::Hangs.error(),
            error => error,
        };
        match (error, answer) {
            (None, Some(answer)) => {
                if let Err(error) = &answer {
                    world.note(|| format!("{process}: {call:?} gave {error}"));
                }
                answer
            }
            (error, _) => {
                let error = error.unwrap_or_else(|| StoreError::Internal("no answer".into()));
                world.note(|| format!("{process}: {call:?} failed: {error}"));
                Err(error)
            }
        }
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn has_odd_value<'a>(items: impl IntoIterator<Item = &'a NewItem>) -> bool {
    items.into_iter().any(|item| match &item.body {
        ItemBody::Message(message) => message.text.contains(ODD_VALUE),
        ItemBody::ToolCall(call) => call.arguments.as_str().contains(ODD_VALUE),
        ItemBody::ToolResult(result) => match &result.outcome {
            ToolOutcome::Succeeded(output) => output.0.as_str().contains(ODD_VALUE),
            _ => false,
        },
    })
}

#[async_trait]
impl Conversations for StoreClient {
    async fn list(
        &self,
        owner: &UserId,
        page: ConversationPage,
    ) -> Result<Vec<Conversation>, StoreError> {
        let act = |world: &World| world.call(|store| store.list(owner, page));
        self.call(Call::List, Subject::default(), act).await
    }

    async fn get(
        &self,
        owner: &UserId,
        id: ConversationId,
    ) -> Result<Option<Conversation>, StoreError> {
        let act = |world: &World| world.call(|store| store.get(owner, id));
        self.call(Call::Get, Subject::default(), act).await
    }

    async fn rename(
        &self,
        owner: &UserId,
        id: ConversationId,
        title: &Title,
        at: Timestamp,
    ) -> Result<Conversation, StoreError> {
        let act = |world: &World| {
            let renamed = world.call(|store| store.rename(owner, id, title, at));
            world.check_step(&Cause::Rename);
            renamed
        };
        self.call(Call::Rename, Subject::default(), act).await
    }

    async fn delete(&self, owner: &UserId, id: ConversationId) -> Result<(), StoreError> {
        let act = |world: &World| {
            let deleted = world.call(|store| store.delete(owner, id));
            world.check_step(&Cause::Delete { owner, id });
            deleted
        };
        self.call(Call::Delete, Subject::default(), act).await
    }

    async fn turns(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: TurnPage,
    ) -> Result<Option<Vec<LoggedTurn>>, StoreError> {
        let act = |world: &World| world.call(|store| store.turns(owner, id, page));
        self.call(Call::Histories, Subject::default(), act).await
    }

    async fn turn(
        &self,
        owner: &UserId,
        turn: TurnRef,
        after: Position,
    ) -> Result<Option<TurnView>, StoreError> {
        let act = |world: &World| world.call(|store| store.turn(owner, turn, after));
        self.call(Call::Turn, Subject::default(), act).await
    }

    async fn tool_calls(
        &self,
        owner: &UserId,
        id: ConversationId,
        page: ToolCallPage,
    ) -> Result<Option<Vec<ToolCallRecord>>, StoreError> {
        let act = |world: &World| world.call(|store| store.tool_calls(owner, id, page));
        self.call(Call::ToolCalls, Subject::default(), act).await
    }

    async fn request_cancel(&self, owner: &UserId, id: TurnId) -> Result<Turn, StoreError> {
        let act = |world: &World| {
            let turn = world.call(|store| store.request_cancel(owner, id));
            world.check_step(&Cause::Cancel(id));
            turn
        };
        self.call(Call::Cancel, Subject::default(), act).await
    }

    async fn release_key(&self, owner: &UserId, id: TurnId) -> Result<(), StoreError> {
        let act = |world: &World| {
            let released = world.call(|store| store.release_key(owner, id));
            world.check_step(&Cause::ReleaseKey(id));
            released
        };
        self.call(Call::ReleaseKey, Subject::default(), act).await
    }

    async fn set_feedback(
        &self,
        owner: &UserId,
        id: ConversationId,
        messages: Vec<MessageId>,
        feedback: Feedback,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let set =
            |store| Conversations::set_feedback(store, owner, id, messages.clone(), feedback, at);
        self.world.call(set)
    }
}

#[async_trait]
impl TurnLog for StoreClient {
    async fn begin(&self, turn: BeginTurn) -> Result<BeginOutcome, StoreError> {
        let subject = Subject::default();
        let act = |world: &World| {
            let begun = world.call(|store| store.begin(turn.clone()));
            if matches!(
                begun,
                Ok(BeginOutcome::Started(_) | BeginOutcome::Stored(_))
            ) {
                world.conditions().turn_begun(turn.turn);
            }
            world.note(|| match &begun {
                Ok(BeginOutcome::Started(_)) => format!("turn {} runs", short(turn.turn.0)),
                Ok(BeginOutcome::Stored(_)) => format!("turn {} waits", short(turn.turn.0)),
                Ok(BeginOutcome::Duplicate(turn)) => format!("it is turn {}", short(turn.id.0)),
                Err(error) => format!("turn {} is refused: {error}", short(turn.turn.0)),
            });
            world.check_step(&Cause::Begin(&turn, &begun));
            begun
        };
        self.call(Call::Begin, subject, act).await
    }

    async fn append(&self, append: AppendItems) -> Result<Vec<Item>, StoreError> {
        let subject = Subject {
            turn: Some(append.lease.turn),
            has_odd_value: has_odd_value(&append.items),
        };
        let lease = append.lease;
        let act = |world: &World| {
            let appended = world.call(|store| store.append(append.clone()));
            world.check_step(&Cause::Append {
                lease,
                is_done: appended.is_ok(),
            });
            appended
        };
        self.call(Call::Append, subject, act).await
    }

    async fn end(&self, end: EndTurn) -> Result<EndedTurn, StoreError> {
        let subject = Subject {
            turn: Some(end.lease.turn),
            has_odd_value: has_odd_value(&end.last),
        };
        let lease = end.lease;
        let act = |world: &World| {
            let ended = world.call(|store| store.end(end.clone()));
            world.note(|| match &ended {
                Ok(ended) => format!("turn {} is {:?}", short(lease.turn.0), ended.turn.status),
                Err(error) => format!("turn {} does not end: {error}", short(lease.turn.0)),
            });
            world.check_step(&Cause::End {
                lease,
                is_done: ended.is_ok(),
                next: ended.as_ref().ok().and_then(|ended| ended.next.as_ref()),
            });
            ended
        };
        self.call(Call::End, subject, act).await
    }

    async fn force_end(
        &self,
        lease: &TurnLease,
        failure: TurnFailure,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let act = |world: &World| {
            let ended = world.call(|store| store.force_end(lease, failure.clone(), at));
            world.note(|| format!("turn {} is ended by force", short(lease.turn.0)));
            world.check_step(&Cause::ForceEnd {
                lease: *lease,
                is_done: ended.is_ok(),
            });
            ended
        };
        self.call(Call::ForceEnd, Subject::default(), act).await
    }
}

#[async_trait]
impl WorkerLeases for StoreClient {
    async fn register(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        self.world.workers.name(self.process, worker);
        let act = |world: &World| {
            let registered = world.call(|store| store.register(worker, lease));
            world.checker().renew(worker, world.clock.store(), lease);
            registered
        };
        self.call(Call::Register, Subject::default(), act).await
    }

    async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
        drafts: Vec<DraftUpdate>,
    ) -> Result<Heartbeat, StoreError> {
        let is_odd = |update: &DraftUpdate| update.draft.text.contains(ODD_VALUE);
        let subject = Subject {
            turn: drafts.first().map(|update| update.lease.turn),
            has_odd_value: drafts.iter().any(is_odd),
        };
        let act = |world: &World| {
            let beat = world.call(|store| {
                let beat = store.heartbeat(worker, lease, drafts.clone());
                let by_id = |mut beat: Heartbeat| {
                    beat.cancel.sort();
                    beat
                };
                beat.map_ok(by_id).boxed()
            });
            if beat.is_ok() {
                world.checker().renew(worker, world.clock.store(), lease);
            }
            world.check_step(&Cause::Heartbeat);
            beat
        };
        self.call(Call::Heartbeat, subject, act).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<HeldTurn>, StoreError> {
        let act = |world: &World| {
            let claimed = world.call(|store| {
                let claimed = store.claim(claim.clone());
                let by_id = |mut turns: Vec<HeldTurn>| {
                    turns.sort_by_key(|held| held.turn.id);
                    turns
                };
                claimed.map_ok(by_id).boxed()
            });
            let turns = claimed.as_deref().unwrap_or_default();
            for held in turns {
                let (turn, lease) = (short(held.turn.id.0), held.lease);
                world.note(|| format!("turn {turn} is claimed: {}", lease.epoch));
            }
            world.check_step(&Cause::Claim(&claim, turns));
            claimed
        };
        self.call(Call::Claim, Subject::default(), act).await
    }

    async fn deregister(
        &self,
        worker: WorkerId,
        handed_over: Vec<TurnId>,
    ) -> Result<(), StoreError> {
        let act = |world: &World| {
            let gone = world.call(|store| store.deregister(worker, handed_over.clone()));
            world.check_step(&Cause::Deregister {
                worker,
                handed_over: &handed_over,
            });
            gone
        };
        self.call(Call::Deregister, Subject::default(), act).await
    }

    async fn turn_versions(
        &self,
        turns: Vec<TurnId>,
    ) -> Result<HashMap<TurnId, TurnVersion>, StoreError> {
        let act = |world: &World| {
            let ordered = world.call(|store| {
                let found = store.turn_versions(turns.clone());
                found.map_ok(BTreeMap::from_iter).boxed()
            });
            Ok(ordered?.into_iter().collect())
        };
        self.call(Call::Versions, Subject::default(), act).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let act = |world: &World| world.call(|store| store.ping());
        self.call(Call::Ping, Subject::default(), act).await
    }
}
