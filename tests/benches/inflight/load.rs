//! The clients: each sends one message into a conversation of its own and watches the stream. Of
//! ten, one goes away when it has heard that its turn runs, as people with telephones do, and comes
//! back when the agent answers; and one comes back at the next server.

use futures_util::{StreamExt, stream};

use chat_tests::client::{Client, Events, read, text};

use crate::agent::answer_to;

/// One of so many clients goes away, and another one to the next server.
pub const OF: usize = 10;

/// How many messages are on their way at once.
const AT_ONCE: usize = 64;

/// How many people there are.
const USERS: usize = 1_000;

/// How many characters a message has.
const CHARACTERS: usize = 300;

/// A turn that is in flight.
pub struct Waiting {
    client: Client,
    turn: String,
    message: String,
    /// Unless its client has gone away.
    events: Option<Events>,
}

/// Begins turns, spread over the servers, until the agent has been asked by `turns` in all. Gives
/// what failed.
pub async fn begin(clients: &[Client], flight: &mut Vec<Waiting>, turns: usize) -> Vec<String> {
    let numbers = flight.len()..turns;
    let begun = stream::iter(numbers)
        .map(|number| begin_one(clients, number))
        .buffer_unordered(AT_ONCE);
    let mut failed = Vec::new();
    for begun in begun.collect::<Vec<_>>().await {
        match begun {
            Ok(waiting) => flight.push(waiting),
            Err(fault) => failed.push(fault),
        }
    }
    failed
}

async fn begin_one(clients: &[Client], number: usize) -> Result<Waiting, String> {
    let at =
        |server: usize| clients[server % clients.len()].of(&format!("user-{}", number % USERS));
    let client = at(number);
    let message = message(number);
    let request = client
        .message("", None, &message)
        .header("accept", "text/event-stream");
    let response = request
        .send()
        .await
        .map_err(|error| format!("message {number}: {error}"))?;
    if response.status() != 200 {
        return Err(format!("message {number}: {:?}", read(response).await));
    }
    let mut events = Events::of(response);
    let first = events
        .next()
        .await
        .ok_or_else(|| format!("message {number}: no event"))?;
    let turn = first.data["turn_id"]
        .as_str()
        .ok_or_else(|| format!("message {number}: {first:?}"))?
        .to_owned();
    let (stays, next) = (Some(events), at(number + 1));
    Ok(match number / clients.len() % OF {
        0 => Waiting {
            client,
            turn,
            message,
            events: None,
        },
        1 => Waiting {
            events: Some(Events::of(next.resume(&turn, None).await)),
            client: next,
            turn,
            message,
        },
        _ => Waiting {
            client,
            turn,
            message,
            events: stays,
        },
    })
}

/// A message of the usual length, unlike all others.
pub fn message(number: usize) -> String {
    format!("{number} ")
        .chars()
        .chain("and what do you think of that? ".chars().cycle())
        .take(CHARACTERS)
        .collect()
}

/// Waits until all turns have ended. Gives what went wrong.
pub async fn end(flight: Vec<Waiting>) -> Vec<String> {
    let count = flight.len();
    let ended = stream::iter(flight)
        .map(end_one)
        .buffer_unordered(count.max(1));
    ended.filter_map(async |ended| ended.err()).collect().await
}

async fn end_one(
    Waiting {
        client,
        turn,
        message,
        events,
    }: Waiting,
) -> Result<(), String> {
    let events = match events {
        Some(events) => events,
        None => Events::of(client.resume(&turn, None).await),
    };
    let rest = events.rest().await;
    if rest
        .last()
        .is_none_or(|last| last.name != "done" || last.data["status"] != "completed")
    {
        return Err(format!("turn {turn} ended so: {:?}", rest.last()));
    }
    let messages = rest.iter().filter(|event| event.name == "message");
    let last = messages
        .filter_map(|event| event.data["content"].as_str())
        .next_back();
    let (whole, pieces) = (answer_to(&message), text(&rest));
    // Who comes after the end is told the message, and no pieces of it.
    if last == Some(whole.as_str()) && (pieces.is_empty() || pieces == whole) {
        Ok(())
    } else {
        Err(format!(
            "turn {turn} was answered so: {last:?}, in pieces {pieces:?}"
        ))
    }
}
