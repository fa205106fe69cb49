//! The clients: people who send, repeat, cancel, retry, read, rename and delete, at any worker.

use std::sync::Arc;

use chat_domain::{
    BusyPolicy, ChatError, ConversationId, ConversationPage, Cursor, IdempotencyKey, Position,
    RetryTurn, StartTurn, StartedTurn, Title, ToolCallPage, TurnId, TurnPage, UserId,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use crate::options::OperationKind;
use crate::plan::PlannedOperation;
use crate::random::{Random, chance, choose, millis, stream, tag};
use crate::readers;
use crate::trace::short;
use crate::witness::Acknowledged;
use crate::workers::Process;
use crate::world::World;

/// How often a client repeats a request that was not answered.
const REPETITIONS: usize = 3;

/// A client in the middle of an operation.
struct Client<'a> {
    world: &'a Arc<World>,
    user: UserId,
    number: u64,
    random: Random,
}

/// The name of a user of the world.
fn user(index: usize) -> UserId {
    let names = ["ann", "bob", "eve"];
    let name = names.get(index).copied().unwrap_or("dan");
    // All of these are valid names.
    UserId::new(name).unwrap_or_else(|| unreachable!())
}

/// Does an operation.
pub async fn operate(world: &Arc<World>, operation: PlannedOperation) {
    let mut client = Client {
        world,
        user: user(operation.user),
        number: operation.number,
        random: stream(operation.choice, &[]),
    };
    let number = operation.number;
    world.note(|| {
        format!(
            "operation {number}: {} {}",
            client.user,
            operation.kind.name()
        )
    });
    match operation.kind {
        OperationKind::Send => client.send(None).await,
        OperationKind::Burst => client.burst().await,
        OperationKind::Cancel => client.cancel().await,
        OperationKind::Retry => client.retry().await,
        OperationKind::Read => client.read().await,
        OperationKind::Browse => client.browse().await,
        OperationKind::Rename => client.rename().await,
        OperationKind::Delete => client.delete().await,
        OperationKind::ReleaseKey => client.release_key().await,
        OperationKind::Trespass => client.trespass().await,
    }
    world.note(|| format!("operation {number} is over"));
}

/// Whether an error says nothing about what was done, so that the request may be repeated.
fn is_uncertain(error: &ChatError) -> bool {
    matches!(error, ChatError::ShuttingDown | ChatError::Store(_))
}

impl Client<'_> {
    fn worker(&mut self) -> usize {
        self.random.usize(..self.world.plan.options.workers)
    }

    /// The conversations that the user knows: of theirs, the ones whose first message was
    /// acknowledged and that they have not deleted.
    fn conversations(&self) -> Vec<ConversationId> {
        let mut known: Vec<_> = self
            .acknowledged()
            .map(|(conversation, _)| conversation)
            .collect();
        known.dedup();
        known
    }

    fn turns(&self) -> Vec<(ConversationId, TurnId)> {
        self.acknowledged().collect()
    }

    fn acknowledged(&self) -> impl Iterator<Item = (ConversationId, TurnId)> + use<> {
        let known: Vec<_> = {
            let witness = self.world.witness();
            let known = witness.acknowledged.iter();
            let mine = known.filter(|known| known.owner == self.user);
            mine.map(|known| (known.conversation, known.turn)).collect()
        };
        let checker = self.world.checker();
        let is_there = |known: &(ConversationId, TurnId)| !checker.is_deleted(known.0);
        let there: Vec<_> = known.into_iter().filter(is_there).collect();
        there.into_iter()
    }

    fn a_turn(&mut self) -> Option<(ConversationId, TurnId)> {
        let turns = self.turns();
        // Most happens in the latest ones.
        let latest = turns
            .get(turns.len().saturating_sub(3)..)
            .unwrap_or_default();
        let among = if self.random.bool() { latest } else { &turns };
        choose(&mut self.random, among).copied()
    }

    /// Sends a message, to a new conversation or to one that the user knows, and reads the answer.
    async fn send(&mut self, to: Option<ConversationId>) {
        let known = self.conversations();
        let may_create = known.len() < self.world.plan.options.conversations;
        let conversation = match to {
            Some(to) => Some(to),
            None if may_create && (known.is_empty() || self.random.bool()) => None,
            None => choose(&mut self.random, &known).copied(),
        };
        let busy = match self.random.u32(..6) {
            0 => BusyPolicy::Reject,
            1 | 2 => BusyPolicy::Interrupt,
            _ => BusyPolicy::Enqueue,
        };
        let key = chance(&mut self.random, 60).then(|| format!("key{}", self.number));
        let text = format!("m{}", self.number);
        if chance(&mut self.random, 3) {
            self.send_malformed(conversation).await;
        }
        let known = self
            .submit(conversation, text.clone(), busy, key.clone())
            .await;
        if let (Some(key), Some(_)) = (&key, known)
            && chance(&mut self.random, 15)
        {
            self.reuse(conversation, key).await;
        }
        if let Some((_, turn)) = known
            && chance(&mut self.random, 75)
        {
            self.watch(turn).await;
        }
    }

    /// Sends a message until it is answered or the client gives up. With a key it is repeated as it
    /// is; without one, as another message.
    async fn submit(
        &mut self,
        conversation: Option<ConversationId>,
        text: String,
        busy: BusyPolicy,
        key: Option<String>,
    ) -> Option<(ConversationId, TurnId)> {
        let sent = self.world.witness().event();
        // Some clients send the same request twice at once.
        let copies = if key.is_some() && chance(&mut self.random, 15) {
            2
        } else {
            1
        };
        for repetition in 0..REPETITIONS {
            let text = match (&key, repetition) {
                (None, 1..) => format!("{text}r{repetition}"),
                _ => text.clone(),
            };
            let request = StartTurn {
                owner: self.user.clone(),
                conversation,
                busy,
                idempotency: key.as_ref().map(|key| fingerprinted(key, &text)),
                text,
            };
            self.world
                .witness()
                .sent
                .insert(request.text.clone(), self.user.clone());
            let workers: Vec<_> = (0..copies).map(|_| self.worker()).collect();
            let requests = workers
                .into_iter()
                .map(|worker| self.start(worker, request.clone()));
            let answers = futures_util::future::join_all(requests).await;
            let mut known = None;
            for answer in answers.into_iter().flatten() {
                match answer {
                    Ok(turn) => known = Some(self.acknowledge(turn, sent, key.as_deref())),
                    Err(error) if is_uncertain(&error) => {}
                    Err(error) => {
                        self.world.note(|| format!("refused: {error}"));
                        self.check_refusal(&error, busy);
                        return known;
                    }
                }
            }
            if known.is_some() {
                return known;
            }
            sleep(millis(&mut self.random, 100..=3_000)).await;
        }
        None
    }

    fn start(
        &self,
        worker: usize,
        request: StartTurn,
    ) -> impl Future<Output = Option<Result<chat_domain::Turn, ChatError>>> + use<> {
        let world = Arc::clone(self.world);
        async move {
            let host = Arc::clone(&world);
            let ask = move |process: Process, service: Arc<chat_domain::ChatService>| {
                async move {
                    let started = service.start_turn(request).await?;
                    Ok(host.run(process, started))
                }
                .boxed()
            };
            world.ask(worker, ask).await
        }
    }

    /// Records that the client got the answer that a message is stored.
    fn acknowledge(
        &self,
        turn: chat_domain::Turn,
        sent: u64,
        key: Option<&str>,
    ) -> (ConversationId, TurnId) {
        let (id, conversation, owner) = (turn.id, turn.conversation, self.user.clone());
        self.world
            .note(|| format!("acknowledged: turn {}", short(id.0)));
        let other = {
            let mut witness = self.world.witness();
            let answered = witness.event();
            witness.acknowledged.push(Acknowledged {
                owner: owner.clone(),
                conversation,
                turn: id,
                ordinal: turn.ordinal,
                sent,
                answered,
            });
            key.map(|key| *witness.keys.entry((owner, key.to_owned())).or_insert(id))
        };
        let is_same = other.is_none_or(|other| other == id) || self.keys_are_released();
        self.world.check("idempotency", is_same, || {
            format!("one key gave turn {} and {other:?}", short(id.0))
        });
        let is_stored = self.world.inspect(|documents| {
            let document = documents.get(&conversation);
            document.is_some_and(|document| document.rows().any(|row| row.turn.id == id))
        });
        let is_deleted = self.world.checker().is_deleted(conversation);
        self.world.check("kept", is_stored || is_deleted, || {
            format!("turn {} is acknowledged and not stored", short(id.0))
        });
        (conversation, id)
    }

    fn keys_are_released(&self) -> bool {
        let operations = self.world.plan.operations.iter();
        operations
            .map(|operation| operation.kind)
            .any(|kind| matches!(kind, OperationKind::ReleaseKey | OperationKind::Delete))
    }

    /// A refusal must have a reason that the client can know of.
    fn check_refusal(&self, error: &ChatError, busy: BusyPolicy) {
        let may_be = match error {
            ChatError::Busy(_) => busy == BusyPolicy::Reject,
            ChatError::QueueFull | ChatError::Superseded => true,
            ChatError::ConversationNotFound | ChatError::TurnNotFound => true,
            _ => false,
        };
        self.world.check("refused", may_be, || {
            format!("a message is refused: {error}")
        });
    }

    /// Another request under a used key is refused.
    async fn reuse(&mut self, conversation: Option<ConversationId>, key: &str) {
        let text = format!("m{}x", self.number);
        let sender = self.user.clone();
        self.world.witness().sent.insert(text.clone(), sender);
        let request = StartTurn {
            owner: self.user.clone(),
            conversation,
            idempotency: Some(fingerprinted(key, &text)),
            busy: BusyPolicy::Enqueue,
            text,
        };
        let worker = self.worker();
        let answer = self.start(worker, request).await;
        let may_be = self.keys_are_released() || !matches!(answer, Some(Ok(_)));
        self.world.check("idempotency", may_be, || {
            "another request is taken under a used key".to_owned()
        });
    }

    async fn send_malformed(&mut self, conversation: Option<ConversationId>) {
        let texts = [String::new(), "a\0".to_owned(), "x".repeat(201)];
        let text = choose(&mut self.random, &texts)
            .cloned()
            .unwrap_or_default();
        let request = StartTurn {
            conversation,
            ..StartTurn::new(self.user.clone(), text)
        };
        let worker = self.worker();
        let answer = self.start(worker, request).await;
        let may_be = !matches!(answer, Some(Ok(_)));
        self.world.check("refused", may_be, || {
            "a malformed message is taken".to_owned()
        });
    }

    /// Sends several messages to one conversation at once.
    async fn burst(&mut self) {
        let known = self.conversations();
        let Some(conversation) = choose(&mut self.random, &known).copied() else {
            return self.send(None).await;
        };
        let messages = (0..self.random.u64(2..=4)).map(|copy| {
            let mut client = Client {
                world: self.world,
                user: self.user.clone(),
                number: self.number * 100 + 10_000 + copy,
                random: stream(self.number, &[tag("burst"), copy]),
            };
            async move { client.send(Some(conversation)).await }
        });
        futures_util::future::join_all(messages).await;
    }

    async fn cancel(&mut self) {
        let Some((_, turn)) = self.a_turn() else {
            return;
        };
        let (worker, user) = (self.worker(), self.user.clone());
        self.world
            .note(|| format!("cancels turn {}", short(turn.0)));
        let ask = move |_, service: Arc<chat_domain::ChatService>| {
            async move { service.cancel_turn(&user, turn).await }.boxed()
        };
        let cancelled = self.world.ask(worker, ask).await;
        if let Some(Ok(cancelled)) = cancelled {
            let is_kept = cancelled.cancel_requested || cancelled.status.is_ended();
            self.world.check("cancels", is_kept, || {
                "a cancellation is not kept".to_owned()
            });
            self.watch(turn).await;
        }
    }

    async fn retry(&mut self) {
        let Some((_, turn)) = self.a_turn() else {
            return;
        };
        let sent = self.world.witness().event();
        let key = format!("key{}", self.number);
        let request = RetryTurn {
            owner: self.user.clone(),
            turn,
            busy: if self.random.bool() {
                BusyPolicy::Enqueue
            } else {
                BusyPolicy::Interrupt
            },
            idempotency: Some(fingerprinted(&key, "retry")),
        };
        self.world
            .note(|| format!("retries turn {}", short(turn.0)));
        for _ in 0..REPETITIONS {
            let (worker, host) = (self.worker(), Arc::clone(self.world));
            let request = request.clone();
            let ask = move |process: Process, service: Arc<chat_domain::ChatService>| {
                async move {
                    let started = service.retry_turn(request).await?;
                    Ok(host.run(process, started))
                }
                .boxed()
            };
            match self.world.ask(worker, ask).await {
                Some(Ok(turn)) => {
                    let (_, turn) = self.acknowledge(turn, sent, Some(&key));
                    return self.watch(turn).await;
                }
                Some(Err(error)) if !is_uncertain(&error) => return,
                _ => sleep(millis(&mut self.random, 100..=2_000)).await,
            }
        }
    }

    async fn watch(&mut self, turn: TurnId) {
        readers::read(
            self.world,
            &self.user,
            turn,
            Cursor::START,
            self.random.u64(..),
        )
        .await;
    }

    async fn read(&mut self) {
        if let Some((_, turn)) = self.a_turn() {
            self.watch(turn).await;
        }
    }

    /// Reads lists, which must show this user's conversations only.
    async fn browse(&mut self) {
        let (worker, user) = (self.worker(), self.user.clone());
        let known = self.conversations();
        let one = choose(&mut self.random, &known).copied();
        let ask = move |_, service: Arc<chat_domain::ChatService>| {
            async move {
                let page = ConversationPage::last_active(None, 100);
                let all = service.conversations(&user, page).await?;
                let mut count = all.iter().filter(|found| found.owner != user).count();
                if let Some(id) = one {
                    let turns = service.turns(&user, id, TurnPage::ALL).await?;
                    count += turns.iter().filter(|log| log.turn.superseded).count();
                    let page = ToolCallPage {
                        after: Position::START,
                        limit: 100,
                    };
                    service.tool_calls(&user, id, page).await?;
                }
                Ok::<_, ChatError>(count)
            }
            .boxed()
        };
        if let Some(Ok(wrong)) = self.world.ask(worker, ask).await {
            self.world.check("isolation", wrong == 0, || {
                "a list shows too much".to_owned()
            });
        }
    }

    async fn rename(&mut self) {
        let known = self.conversations();
        let title = Title::new(&format!("title {}", self.number)).ok();
        let (Some(id), Some(title)) = (choose(&mut self.random, &known).copied(), title) else {
            return;
        };
        let (worker, user) = (self.worker(), self.user.clone());
        let ask = move |_, service: Arc<chat_domain::ChatService>| {
            async move { service.rename(&user, id, &title).await }.boxed()
        };
        self.world.ask(worker, ask).await;
    }

    async fn delete(&mut self) {
        let known = self.conversations();
        let Some(id) = choose(&mut self.random, &known).copied() else {
            return;
        };
        self.world
            .note(|| format!("deletes conversation {}", short(id.0)));
        let (worker, user) = (self.worker(), self.user.clone());
        let ask = move |_, service: Arc<chat_domain::ChatService>| {
            async move { service.delete(&user, id).await }.boxed()
        };
        if let Some(Ok(())) = self.world.ask(worker, ask).await {
            let is_gone = self.world.checker().is_deleted(id);
            self.world.check("kept", is_gone, || {
                "a deleted conversation is there".to_owned()
            });
        }
    }

    async fn release_key(&mut self) {
        let Some((_, turn)) = self.a_turn() else {
            return;
        };
        let (worker, user) = (self.worker(), self.user.clone());
        let ask = move |_, service: Arc<chat_domain::ChatService>| {
            async move { service.release_key(&user, turn).await }.boxed()
        };
        self.world.ask(worker, ask).await;
    }

    /// Another user's ids do not exist.
    async fn trespass(&mut self) {
        let Some((conversation, turn)) = self.a_turn() else {
            return;
        };
        let (worker, thief) = (self.worker(), user(2));
        let choice = self.random.u32(..7);
        let ask = move |_, service: Arc<chat_domain::ChatService>| -> BoxFuture<'static, bool> {
            async move {
                match choice {
                    0 => service.turn(&thief, turn).await.is_ok(),
                    1 => service.cancel_turn(&thief, turn).await.is_ok(),
                    2 => {
                        let stream = service.watch_turn(&thief, turn, Cursor::START).await;
                        stream.is_ok()
                    }
                    3 => service.delete(&thief, conversation).await.is_ok(),
                    4 => {
                        let request = RetryTurn {
                            owner: thief,
                            turn,
                            busy: BusyPolicy::Enqueue,
                            idempotency: None,
                        };
                        service.retry_turn(request).await.is_ok()
                    }
                    5 => {
                        let request = StartTurn {
                            conversation: Some(conversation),
                            ..StartTurn::new(thief, "trespass")
                        };
                        service.start_turn(request).await.is_ok()
                    }
                    _ => {
                        let turns = service.turns(&thief, conversation, TurnPage::ALL).await;
                        turns.is_ok()
                    }
                }
            }
            .boxed()
        };
        let done = self.world.ask(worker, ask).await;
        self.world.check("isolation", done != Some(true), || {
            format!("another user could do number {choice}")
        });
    }
}

/// A key with a digest of the request.
fn fingerprinted(key: &str, text: &str) -> IdempotencyKey {
    let mut fingerprint = [0; 32];
    for (place, byte) in fingerprint.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
    IdempotencyKey {
        key: key.to_owned(),
        fingerprint,
    }
}

impl World {
    /// Runs a turn as the host does: in a task of its own.
    fn run(&self, process: Process, started: StartedTurn) -> chat_domain::Turn {
        if let Some(task) = started.task {
            self.host(process, task);
        }
        started.turn
    }
}
