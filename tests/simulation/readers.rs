//! Readers: follow a turn over any number of connections to any workers, and check that the events
//! tell the stored turn, without gap and double.

use std::collections::BTreeSet;
use std::sync::Arc;

use chat_domain::{
    ChatError, ChatService, Cursor, InvalidInput, Item, ItemBody, MessageId, Role, Turn, TurnEvent,
    TurnId, UserId,
};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::random::{chance, millis, stream};
use crate::trace::short;
use crate::workers::Process;
use crate::world::World;

/// How many events are on their way to a reader at most.
const CONNECTION: usize = 16;

/// The events of a turn that a reader has received.
#[derive(Default)]
struct Reading {
    cursor: Cursor,
    items: Vec<Item>,
    /// The text that is shown and is no item yet.
    text: Option<(MessageId, String)>,
    discarded: BTreeSet<MessageId>,
    end: Option<Turn>,
    /// Whether the worker at the other end runs a turn that it has lost.
    is_stale: bool,
}

impl Reading {
    /// Takes in one event; says what is wrong with it.
    fn take(&mut self, event: TurnEvent) -> Result<(), String> {
        if self.end.is_some() {
            return Err("there is more after the end".to_owned());
        }
        match event {
            TurnEvent::Text { message, delta } => {
                if delta.is_empty() {
                    return Err("a piece of text is empty".to_owned());
                }
                match &mut self.text {
                    Some((shown, text)) if *shown == message => text.push_str(&delta),
                    Some(_) => return Err("two texts are mixed".to_owned()),
                    None => self.text = Some((message, delta)),
                }
            }
            TurnEvent::Discarded { message } => {
                if self.text.take().is_none_or(|(shown, _)| shown != message) {
                    return Err("what was not shown is discarded".to_owned());
                }
                // A worker that does not know that it has lost a turn shows its own attempt at it.
                if !self.is_stale {
                    self.discarded.insert(message);
                }
            }
            TurnEvent::Item(item) => {
                let last = self.items.last();
                if last.is_some_and(|last| last.position >= item.position) {
                    return Err(format!("{:?} comes twice or too late", item.position));
                }
                if let ItemBody::Message(message) = &item.body
                    && message.role == Role::Assistant
                {
                    let shown = self.text.take().map(|(_, text)| text).unwrap_or_default();
                    if shown != message.text {
                        return Err(format!("shown was {shown:?}, stored is {:?}", message.text));
                    }
                    if self.discarded.contains(&message.id) {
                        return Err("a discarded text became an item".to_owned());
                    }
                }
                self.items.push(item);
            }
            TurnEvent::Ended(turn) => {
                if self.text.is_some() {
                    return Err("a text was shown, and neither kept nor discarded".to_owned());
                }
                self.end = Some(turn);
            }
        }
        Ok(())
    }
}

/// Reads a turn to its end.
pub async fn read(world: &Arc<World>, user: &UserId, turn: TurnId, from: Cursor, choice: u64) {
    let mut random = stream(choice, &[]);
    let mut reading = Reading {
        cursor: from,
        ..Reading::default()
    };
    loop {
        let worker = random.usize(..world.plan.options.workers);
        let leaves_after = chance(&mut random, 60).then(|| random.u32(0..=4));
        let end = connect(world, user, turn, worker, &mut reading, leaves_after).await;
        match end {
            Connection::Ended => return check_end(world, turn, &reading),
            Connection::Gone => {
                let is_deleted = !is_stored(world, turn);
                return world.check("kept", is_deleted, || {
                    format!("turn {} is said to be gone", short(turn.0))
                });
            }
            Connection::Wrong => return,
            Connection::Lost => sleep(millis(&mut random, 20..=1_000)).await,
        }
    }
}

/// How a connection ended.
enum Connection {
    Ended,
    /// The turn does not exist.
    Gone,
    /// Something is violated.
    Wrong,
    /// The reader or the worker closed it.
    Lost,
}

async fn connect(
    world: &Arc<World>,
    user: &UserId,
    turn: TurnId,
    worker: usize,
    reading: &mut Reading,
    leaves_after: Option<u32>,
) -> Connection {
    // Bounded, as a connection is: a stream without end must not run away.
    let (sender, mut events) = mpsc::channel(CONNECTION);
    let (found, mut at) = oneshot::channel();
    let (user, cursor) = (user.clone(), reading.cursor);
    let (host, story) = (Arc::clone(world), Arc::clone(world));
    let ask = move |process, service: Arc<ChatService>| {
        async move {
            let stream = service.watch_turn(&user, turn, cursor).await?;
            story.note(|| format!("{process}: is read: turn {}", short(turn.0)));
            // The reader may have left.
            let _ = found.send(process);
            // The host writes the events in a task of its own.
            let pump = async move {
                let mut stream = stream;
                while let Some(event) = stream.next().await {
                    if sender.send(event).await.is_err() {
                        break;
                    }
                }
            };
            host.host(process, pump.boxed());
            Ok::<_, ChatError>(())
        }
        .boxed()
    };
    match world.ask(worker, ask).await {
        Some(Ok(())) => {}
        Some(Err(error)) => return refused(world, turn, &error),
        None => return Connection::Lost,
    }
    let Ok(process) = at.try_recv() else {
        return Connection::Lost;
    };
    let mut count = 0;
    while let Some(event) = events.recv().await {
        let (cursor, event) = match event {
            Ok(event) => event,
            Err(error) => return refused(world, turn, &error),
        };
        reading.cursor = cursor;
        world.note(|| format!("reader of turn {}: {}", short(turn.0), line(&event)));
        reading.is_stale = is_stale(world, process, turn);
        if let Err(problem) = check_stored(world, turn, &event).and_then(|()| reading.take(event)) {
            world.violated("streams", format!("turn {}: {problem}", short(turn.0)));
            return Connection::Wrong;
        }
        if reading.end.is_some() {
            return Connection::Ended;
        }
        count += 1;
        if Some(count) == leaves_after {
            return Connection::Lost;
        }
    }
    Connection::Lost
}

fn refused(world: &World, turn: TurnId, error: &ChatError) -> Connection {
    match error {
        ChatError::TurnNotFound => Connection::Gone,
        ChatError::Invalid(InvalidInput::Cursor) => {
            let turn = short(turn.0);
            world.violated(
                "streams",
                format!("turn {turn}: a genuine cursor is refused"),
            );
            Connection::Wrong
        }
        _ => Connection::Lost,
    }
}

fn line(event: &TurnEvent) -> String {
    match event {
        TurnEvent::Text { message, delta } => format!("{delta:?} of {}", short(message.0)),
        TurnEvent::Discarded { message } => format!("{} is discarded", short(message.0)),
        TurnEvent::Item(item) => format!("item {}", item.position.0),
        TurnEvent::Ended(turn) => format!("{:?}", turn.status),
    }
}

/// Whether a process runs a turn that it has lost without knowing it, or did so.
fn is_stale(world: &World, process: Process, turn: TurnId) -> bool {
    world.inspect(|documents| {
        let mut rows = documents.values().flat_map(|document| document.rows());
        let row = rows.find(|row| row.turn.id == turn);
        row.is_some_and(|row| world.workers.runs_stale(process, row))
    })
}

fn is_stored(world: &World, turn: TurnId) -> bool {
    world.inspect(|documents| {
        let mut rows = documents.values().flat_map(|document| document.rows());
        rows.any(|row| row.turn.id == turn)
    })
}

/// Nothing is announced before it is durable.
fn check_stored(world: &World, turn: TurnId, event: &TurnEvent) -> Result<(), String> {
    world.inspect(|documents| {
        let mut entries = documents.values().flat_map(|document| document.entries());
        let Some((row, items, _)) = entries.find(|(row, ..)| row.turn.id == turn) else {
            // The conversation is deleted.
            return Ok(());
        };
        let is_durable = match event {
            TurnEvent::Item(item) => items.contains(item),
            TurnEvent::Ended(turn) => turn.status == row.turn.status,
            TurnEvent::Text { .. } | TurnEvent::Discarded { .. } => true,
        };
        if is_durable {
            Ok(())
        } else {
            Err(format!("delivered and not stored: {}", line(event)))
        }
    })
}

/// Checks that the delivered items are the stored turn.
fn check_end(world: &World, turn: TurnId, reading: &Reading) {
    let delivered = &reading.items;
    let is_same = world.inspect(|documents| {
        let mut entries = documents.values().flat_map(|document| document.entries());
        let found = entries.find(|(row, ..)| row.turn.id == turn);
        found.is_none_or(|(_, items, _)| items == delivered)
    });
    world.check("streams", is_same, || {
        format!(
            "turn {}: {} items were delivered, and others are stored",
            short(turn.0),
            delivered.len()
        )
    });
}
