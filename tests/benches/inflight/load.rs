//! The clients. Each sends one message to its own conversation and watches the stream. One in ten
//! disconnects after its turn has started, like a mobile client, and returns when the agent
//! answers; one in ten returns at the next server.

use futures_util::{StreamExt, stream};

use chat_tests::client::{Client, Events, read, text};

use crate::agent::answer_to;

/// One client in this many disconnects, and another one returns at the next server.
pub const ONE_IN: usize = 10;

/// How many messages are sent concurrently.
const CONCURRENT: usize = 64;

/// Number of users.
const USERS: usize = 1_000;

/// Number of characters of a message.
const CHARACTERS: usize = 300;

/// A turn in flight.
pub struct Waiting {
    client: Client,
    turn: String,
    message: String,
    /// `None` if the client has disconnected.
    events: Option<Events>,
}

/// Starts turns, spread over the servers, until the agent has received `turns` requests. Returns
/// the errors.
pub async fn begin(clients: &[Client], flight: &mut Vec<Waiting>, turns: usize) -> Vec<String> {
    let numbers = flight.len()..turns;
    let started = stream::iter(numbers)
        .map(|number| begin_one(clients, number))
        .buffer_unordered(CONCURRENT);
    let mut failed = Vec::new();
    for started in started.collect::<Vec<_>>().await {
        match started {
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
    Ok(match number / clients.len() % ONE_IN {
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

/// Returns a unique message of typical length.
pub fn message(number: usize) -> String {
    format!("{number} ")
        .chars()
        .chain("and what do you think of that? ".chars().cycle())
        .take(CHARACTERS)
        .collect()
}

/// Waits until all turns have ended. Returns the errors.
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
        return Err(format!("turn {turn} ended with {:?}", rest.last()));
    }
    let messages = rest.iter().filter(|event| event.name == "message");
    let last = messages
        .filter_map(|event| event.data["content"].as_str())
        .next_back();
    let (whole, pieces) = (answer_to(&message), text(&rest));
    // A client that returns after the end gets the message without its deltas.
    if last == Some(whole.as_str()) && (pieces.is_empty() || pieces == whole) {
        Ok(())
    } else {
        Err(format!(
            "turn {turn} was answered with {last:?}, in the pieces {pieces:?}"
        ))
    }
}
