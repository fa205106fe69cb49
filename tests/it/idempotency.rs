//! Repeated requests.

use chat_test_support::stub_agent::{Answer, StubAgent};
use futures_util::future::join_all;
use reqwest::Method;

use chat_tests::client::read;
use chat_tests::server::Home;

#[tokio::test(flavor = "multi_thread")]
async fn one_key_gives_one_turn_and_one_answer() {
    let agent = StubAgent::start(|recorded| {
        Answer::text([format!("Answer {}.", recorded.number).as_str()])
    });
    let home = Home::with_agent(&agent.base_url());
    let server = home.start();
    let ann = server.client("ann");
    let send = |client: &chat_tests::client::Client, text: &str| {
        client
            .message("", None, text)
            .header("idempotency-key", "\"k-1\"")
            .send()
    };
    let sent =
        join_all((0..20).map(|_| async { read(send(&ann, "Hi").await.unwrap()).await })).await;
    let (status, first) = &sent[0];
    assert_eq!(
        (status.as_u16(), &first["response"]),
        (200, &"Answer 0.".into())
    );
    for reply in &sent {
        assert_eq!(reply, &sent[0]);
    }
    let (status, problem) = read(send(&ann, "Something else").await.unwrap()).await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (422, &"idempotency_mismatch".into())
    );
    // The same key of another user is independent.
    assert_eq!(
        read(send(&server.client("bob"), "Something else").await.unwrap())
            .await
            .0,
        200
    );
    server.kill();

    let server = home.start();
    let ann = server.client("ann");
    let sent =
        join_all((0..20).map(|_| async { read(send(&ann, "Hi").await.unwrap()).await })).await;
    assert!(
        sent.iter()
            .all(|reply| reply == &(200.try_into().unwrap(), first.clone()))
    );
    assert_eq!(
        read(send(&ann, "Something else").await.unwrap()).await.1["code"],
        "idempotency_mismatch"
    );
    assert_eq!(
        ann.get("/conversations").await["conversations"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(agent.requests().len(), 2);
    // A retry has its own key.
    let path = format!("/turns/{}/retry", first["turn_id"].as_str().unwrap());
    let retry = || {
        ann.request(Method::POST, &path)
            .header("idempotency-key", "r-1")
            .send()
    };
    let (one, two) = (
        read(retry().await.unwrap()).await,
        read(retry().await.unwrap()).await,
    );
    assert_eq!(one.0, 200, "{}", one.1);
    assert_eq!(one, two);
}
