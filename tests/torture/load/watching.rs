//! Watches turns over connections that are cut, at any replica.

use std::time::Duration;

use chat_tests::client::{Events, Frame};
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::caller::Caller;
use super::sending::LIMIT;
use crate::history::{Moment, Watch};

/// How many times a stream may be resumed. An endless stream is found by its turn.
const CONNECTIONS: usize = 400;
/// Longest time without any bytes, including keep-alives.
const SILENCE: Duration = Duration::from_secs(60);

/// The events of one connection.
struct Received {
    frames: Vec<Frame>,
    /// When the first event arrived.
    known: Moment,
}

/// Follows the stream of a sent message. Returns its conversation and turn, and when they were
/// known.
pub async fn follow(
    caller: &mut Caller,
    response: Response,
    question: &str,
) -> (Option<(Uuid, Uuid)>, Moment) {
    let received = listen(caller, response).await;
    let opening = received.frames.iter().find(|frame| frame.name == "turn");
    let opened = opening.and_then(|frame| {
        let data: Value = serde_json::from_str(&frame.data).ok()?;
        let id = |name: &str| data[name].as_str().and_then(|id| Uuid::try_parse(id).ok());
        Some((id("conversation_id")?, id("turn_id")?))
    });
    let known = received.known;
    if let Some((conversation, turn)) = opened {
        caller
            .world
            .known
            .lock()
            .unwrap()
            .add(&caller.client.user, conversation, turn, question);
        resume(caller, turn, vec![received.frames]).await;
    }
    (opened, known)
}

/// Watches a turn from its start.
pub async fn watch(caller: &mut Caller, turn: Uuid) {
    resume(caller, turn, Vec::new()).await;
}

/// Resumes a stream until its end.
async fn resume(caller: &mut Caller, turn: Uuid, connections: Vec<Vec<Frame>>) {
    let mut watch = Watch {
        user: caller.client.user.clone(),
        turn,
        connections,
        ended: false,
        refusals: Vec::new(),
    };
    // Most clients read to the end; some leave.
    let patience = if caller.rng.u8(..) < 25 {
        caller.rng.usize(1..3)
    } else {
        CONNECTIONS
    };
    for _ in 0..patience {
        let frames = || watch.connections.iter().flatten();
        watch.ended = frames()
            .any(|frame| frame.id.is_some() && matches!(frame.name.as_str(), "done" | "error"));
        let again_after_the_end = watch.ended && caller.rng.u8(..) < 10;
        if watch.ended && !again_after_the_end {
            break;
        }
        if !watch.connections.is_empty() {
            sleep(Duration::from_millis(caller.rng.u64(0..150))).await;
        }
        let last = frames().filter_map(|frame| frame.id.clone()).next_back();
        let path = format!("/turns/{turn}/events");
        let mut request = caller
            .client
            .request(&caller.world, &mut caller.rng, Method::GET, &path)
            .await;
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        caller.world.tally.count("streams resumed");
        let response = match timeout(LIMIT, request.send()).await {
            Err(_) => {
                caller.unanswered("a resumed stream");
                break;
            }
            Ok(Err(_)) => continue,
            Ok(Ok(response)) => response,
        };
        match response.status().as_u16() {
            200 => {
                let received = listen(caller, response).await;
                watch.connections.push(received.frames);
            }
            // Nothing follows the end.
            204 if watch.ended => break,
            status if status >= 500 => {
                caller.record_internal_error(status, &response.text().await.unwrap_or_default())
            }
            status => {
                let body: Value = serde_json::from_str(&response.text().await.unwrap_or_default())
                    .unwrap_or_default();
                watch
                    .refusals
                    .push((status, body["code"].as_str().unwrap_or_default().to_owned()));
                break;
            }
        }
    }
    let frames = || watch.connections.iter().flatten();
    watch.ended =
        frames().any(|frame| frame.id.is_some() && matches!(frame.name.as_str(), "done" | "error"));
    caller.world.tally.count(if watch.ended {
        "streams read to the end"
    } else {
        "streams abandoned"
    });
    caller
        .world
        .recorder
        .update(|history| history.watches.push(watch));
}

/// Reads events until the end, until the connection is lost, or until it is cut here after a random
/// number of events.
async fn listen(caller: &mut Caller, response: Response) -> Received {
    let (cut_after, cut_at) = match caller.rng.u8(0..10) {
        0..3 => (caller.rng.usize(1..20), Duration::MAX),
        3..5 => (usize::MAX, Duration::from_millis(caller.rng.u64(1..900))),
        _ => (usize::MAX, Duration::MAX),
    };
    let mut received = Received {
        frames: Vec::new(),
        known: caller.world.recorder.now(),
    };
    let mut events = Events::of(response);
    let reading = async {
        while received.frames.len() < cut_after {
            match timeout(SILENCE, events.next_frame()).await {
                Err(_) => return false,
                Ok(None) => return true,
                Ok(Some(frame)) => {
                    if received.frames.is_empty() {
                        received.known = caller.world.recorder.now();
                    }
                    received.frames.push(frame);
                }
            }
        }
        true
    };
    if let Ok(false) = timeout(cut_at, reading).await {
        caller.unanswered("an event");
    }
    received
}
