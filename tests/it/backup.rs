//! Copies of a SQLite database, taken while its server works.

use chat_test_support::stub_agent::{Answer, Gate, StubAgent};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use chat_tests::client::Event;
use chat_tests::server::Home;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_database_in_use_works_with_another_server() {
    let gate = Gate::new();
    let held = gate.clone();
    let agent =
        StubAgent::start(move |recorded| {
            match recorded.messages().pop().unwrap()["content"].as_str() {
                Some("Wait") if recorded.number == 5 => Answer::text(["Never."]).held(&held),
                Some("Wait") => Answer::text(["Done."]),
                _ => Answer::text(["Hello."]),
            }
        });
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let ann = server.client("ann");
    let mut acknowledged = Vec::new();
    for n in 0..5 {
        acknowledged.push(
            ann.chat(None, &format!("m{n}")).await["conversation_id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let waiting: Event = ann.stream(None, "Wait").await.next().await.unwrap();

    let copied = Home::with_agent(&agent.base_url());
    let mut connection =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(home.database()))
            .await
            .unwrap();
    sqlx::query("VACUUM INTO ?")
        .bind(copied.database().to_str().unwrap())
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    ann.chat(Some(&acknowledged[0]), "After the copy").await;

    let other = copied.start();
    let on_copy = other.client("ann");
    for (n, conversation) in acknowledged.iter().enumerate() {
        assert_eq!(
            on_copy.transcript(conversation).await,
            [format!("user: m{n}"), "assistant: Hello.".to_owned()]
        );
    }
    let id = |name: &str| waiting.data[name].as_str().unwrap();
    assert_eq!(on_copy.last_position_of(id("turn_id")).await.name, "done");
    assert_eq!(
        on_copy.transcript(id("conversation_id")).await,
        ["user: Wait", "assistant: Done."]
    );
    // The first server does not know that message.
    assert_eq!(ann.transcript(id("conversation_id")).await, ["user: Wait"]);
    assert_eq!(ann.transcript(&acknowledged[0]).await.len(), 4);
    gate.open();
}
