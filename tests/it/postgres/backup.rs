//! Dumps of a running fleet, and servers on the restored copy.

use chat_test_postgres::database;
use chat_test_support::stub_agent::{Answer, Gate, StubAgent};
use chat_test_support::wait::until;
use futures_util::future::join_all;
use serde_json::Value;

use super::{home, ids, turn};
use chat_tests::client::Event;
use chat_tests::server::Server;
use chat_tests::witness::Witness;

/// Reverts the newest migrations, so that the dump has the schema of the previous version.
const REVERT_NEWEST: &str = "ALTER TABLE turns DROP COLUMN spent_us; ALTER TABLE turns DROP \
COLUMN attempt_started_at; \
                     ALTER TABLE tool_calls DROP COLUMN unknown_cause; \
                     DELETE FROM seaql_migrations WHERE version = 'm20261129_000002_attempts'; \
                     ALTER TABLE turns DROP COLUMN finish_reason; ALTER TABLE turns DROP COLUMN \
                     turns_left_out; \
                     ALTER TABLE messages DROP COLUMN finish_reason; ALTER TABLE messages DROP \
                     COLUMN turns_left_out; \
                     ALTER TABLE messages DROP COLUMN agent_data; ALTER TABLE tool_calls DROP \
                     COLUMN agent_data; \
                     DELETE FROM seaql_migrations WHERE version = 'm20261129_000001_answers'";

/// Removes finish reasons, which the previous version did not store.
fn without_finish_reasons(reply: &Value) -> Value {
    let mut reply = reply.clone();
    reply.as_object_mut().unwrap().remove("finish_reason");
    for message in reply["messages"].as_array_mut().unwrap() {
        message.as_object_mut().unwrap().remove("finish_reason");
    }
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_servers_continue_from_a_dump_of_a_running_fleet() {
    let gate = Gate::new();
    let held = gate.clone();
    let agent =
        StubAgent::start(move |recorded| {
            match recorded.messages().pop().unwrap()["content"].as_str() {
                Some("Pay") => Answer::calls([("pay", "{}")]),
                Some("Wait") => Answer::text(["Done."]).held(&held),
                _ => Answer::text(["Hello."]),
            }
        });
    let database = database();
    let (witness, old) = Witness::gated(home(database.url(), &agent.base_url()));
    let (a, b) = (old.start(), old.start());
    let ann = a.client("ann");
    let answered = join_all((0..10).map(|n| {
        let ann = if n % 2 == 0 {
            ann.clone()
        } else {
            b.client("ann")
        };
        async move {
            (
                n,
                ann.message("", None, &format!("m{n}"))
                    .header("idempotency-key", format!("k{n}"))
                    .send()
                    .await
                    .unwrap(),
            )
        }
    }))
    .await;
    let mut acknowledged = Vec::new();
    for (n, response) in answered {
        acknowledged.push((n, chat_tests::client::read(response).await.1));
    }
    // Some turns wait for the agent, one of them with a queued message, and one waits for a tool.
    let mut waiting: Vec<Event> = Vec::new();
    for on in [&a, &b, &a, &b] {
        waiting.push(
            on.client("ann")
                .stream(None, "Wait")
                .await
                .next()
                .await
                .unwrap(),
        );
    }
    until("four turns that wait at the agent", async || {
        agent
            .requests()
            .iter()
            .filter(|request| request.messages()[0]["content"] == "Wait")
            .count()
            == 4
    })
    .await;
    let (_, busy) = ids(&waiting[0]);
    let queued = b
        .client("ann")
        .stream(Some(&busy), "Later")
        .await
        .next()
        .await
        .unwrap();
    let pay = ann
        .stream(None, "Pay")
        .await
        .until("tool_call")
        .await
        .swap_remove(0);
    let tool = witness.reached().await;

    let copy = database.copy().unwrap();
    copy.query(REVERT_NEWEST).unwrap();
    gate.open();
    tool.release();
    for opened in waiting.iter().chain([&queued, &pay]) {
        assert_eq!(ann.last_position_of(&ids(opened).0).await.name, "done");
    }
    drop((a, b));

    let (new_witness, new) = Witness::new(home(copy.url(), &agent.base_url()));
    let servers: Vec<Server> = std::thread::scope(|scope| {
        let starting = [(); 2].map(|()| scope.spawn(|| new.start()));
        starting
            .into_iter()
            .map(|server| server.join().unwrap())
            .collect()
    });
    let clients: Vec<_> = servers.iter().map(|server| server.client("ann")).collect();
    for ((n, reply), ann) in acknowledged.iter().zip(clients.iter().cycle()) {
        let conversation = reply["conversation_id"].as_str().unwrap();
        assert_eq!(
            ann.transcript(conversation).await,
            [format!("user: m{n}"), "assistant: Hello.".to_owned()]
        );
        // The idempotency key still works.
        let again = ann
            .message("", None, &format!("m{n}"))
            .header("idempotency-key", format!("k{n}"))
            .send()
            .await
            .unwrap();
        assert_eq!(
            chat_tests::client::read(again).await.1,
            without_finish_reasons(reply)
        );
    }
    for (opened, ann) in waiting.iter().zip(clients.iter().cycle()) {
        let (id, conversation) = ids(opened);
        assert_eq!(ann.last_position_of(&id).await.name, "done");
        assert_eq!(
            ann.transcript(&conversation).await[..2],
            ["user: Wait", "assistant: Done."]
        );
    }
    let ann = &clients[0];
    assert_eq!(ann.last_position_of(&ids(&queued).0).await.name, "done");
    assert_eq!(ann.last_position_of(&ids(&pay).0).await.name, "done");
    assert_eq!(turn(ann, &ids(&pay).0).await["status"], "completed");
    // The dump does not show whether the payment was made.
    let calls = ann
        .get(&format!("/conversations/{}/tool-calls", ids(&pay).1))
        .await;
    assert_eq!(calls["tool_calls"][0]["status"], "unknown", "{calls}");
    assert_eq!(new_witness.log(), Vec::<String>::new());
    assert_eq!(
        copy.query("SELECT count(*) FROM turns WHERE ended_at IS NULL")
            .unwrap(),
        "0"
    );
    // Ten answers and one tool call message are from the previous version.
    assert_eq!(
        copy.query(
            "SELECT count(*) FROM messages WHERE finish_reason IS NULL AND role = 'assistant'"
        )
        .unwrap(),
        "11"
    );
    let logs: Vec<String> = servers.into_iter().map(Server::kill).collect();
    assert_eq!(
        logs.iter()
            .filter(|log| log.contains("migrating the database"))
            .count(),
        1,
        "{logs:?}"
    );
}
