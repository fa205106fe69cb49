//! Refusals of the ChatKit routes, and their example page.

use std::sync::Arc;

use chat_domain::testing::{
    FakeTools, FixedEnvironment, MockConversationStore, ScriptedAgent, Signals,
};
use chat_domain::{
    BeginOutcome, BeginTurn, ChatService, ChatServiceConfig, Ordinal, StoreError, Turn, TurnLimits,
    TurnStatus, Unavailability, Usage,
};
use chat_protocol::Code;
use reqwest::Method;
use serde_json::json;

use super::chatkit::{input, server, thread_of, types};
use super::harness::{Server, Setup, answer, check_refusal, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn refusals_for_the_user_are_streamed() {
    let limits = TurnLimits {
        message_chars: 5,
        ..TurnLimits::default()
    };
    let server = Server::start(Setup {
        limits,
        ..Setup::default()
    })
    .await;
    let with_file = json!({ "content": [], "attachments": ["atc_1"], "inference_options": {} });
    for (params, expected) in [
        (json!({ "input": input("Too long") }), "5"),
        (json!({ "input": input(" ") }), "empty"),
        (json!({ "input": input("a\u{0}b") }), "U+0000"),
        (json!({ "input": with_file }), "attachments"),
    ] {
        let events = server.events("threads.create", params).await;
        assert_eq!(types(&events), ["stream_options", "error"]);
        assert_eq!(
            (&events[1]["code"], &events[1]["allow_retry"]),
            (&json!("custom"), &json!(false))
        );
        assert!(
            events[1]["message"].as_str().unwrap().contains(expected),
            "{events:?}"
        );
    }
    assert_eq!(server.conversations().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_are_rejected() {
    let server = server([]).await;
    let thread = thread_of(&server.create("Hi").await);
    let nowhere = "thr_00000000000000000000000000000000";
    for (body, code, path) in [
        (json!([]), Code::InvalidRequest, Some("")),
        (json!({ "params": {} }), Code::InvalidRequest, Some("/type")),
        (
            json!({ "type": "threads.stop", "params": {} }),
            Code::InvalidRequest,
            Some("/type"),
        ),
        (
            json!({ "type": "threads.list" }),
            Code::InvalidRequest,
            Some("/params"),
        ),
        (
            json!({ "type": "threads.list", "params": { "limit": 5.5 } }),
            Code::InvalidRequest,
            Some("/params"),
        ),
        (
            json!({ "type": "threads.list", "params": { "limit": -1 } }),
            Code::InvalidRequest,
            Some("/params"),
        ),
        (
            json!({ "type": "threads.list", "params": { "order": "up" } }),
            Code::InvalidRequest,
            Some("/params"),
        ),
        (
            json!({ "type": "threads.list", "params": { "after": "thr_1" } }),
            Code::InvalidCursor,
            Some("/params/after"),
        ),
        (
            json!({ "type": "threads.list", "params": {}, "metadata": null }),
            Code::InvalidRequest,
            Some("/metadata"),
        ),
        (
            json!({ "type": "threads.create", "params": { "input": { "content": [] } } }),
            Code::InvalidRequest,
            Some("/params"),
        ),
        (
            json!({ "type": "threads.add_client_tool_output", "params": { "thread_id": thread } }),
            Code::InvalidRequest,
            Some("/params"),
        ),
        (
            json!({ "type": "threads.update", "params": { "thread_id": thread, "title": " " } }),
            Code::InvalidTitle,
            Some("/title"),
        ),
        (
            json!({ "type": "threads.get_by_id", "params": { "thread_id": "client_1" } }),
            Code::ConversationNotFound,
            None,
        ),
        (
            json!({ "type": "threads.delete", "params": { "thread_id": nowhere } }),
            Code::ConversationNotFound,
            None,
        ),
        (
            json!({ "type": "threads.custom_action", "params": { "thread_id": nowhere, "action": { "type": "x" } } }),
            Code::ConversationNotFound,
            None,
        ),
        (
            json!({ "type": "threads.retry_after_item", "params": { "thread_id": thread, "item_id": "msg_1" } }),
            Code::TurnNotFound,
            None,
        ),
        (
            json!({ "type": "items.feedback", "params": { "thread_id": thread, "item_ids": ["msg_1"], "kind": "positive" } }),
            Code::ConversationNotFound,
            None,
        ),
        (
            json!({ "type": "items.feedback", "params": { "thread_id": thread, "item_ids": [], "kind": "so-so" } }),
            Code::InvalidRequest,
            Some("/params"),
        ),
    ] {
        let request = server
            .bare(Method::POST, "/chatkit")
            .bearer_auth("token-of-ada")
            .json(&body);
        let problem = refusal(request, code).await;
        assert_eq!(
            (problem["path"].as_str(), &problem["message"]),
            (path, &problem["detail"]),
            "{body}"
        );
    }
    for limit in [json!(null), json!(0), json!("5"), json!(5.0), json!(9999)] {
        assert_eq!(
            server.ask("threads.list", json!({ "limit": limit })).await["data"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }
    let metadata = json!({ "type": "threads.list", "params": {}, "metadata": { "a": 1 } });
    answer(
        server
            .bare(Method::POST, "/chatkit")
            .bearer_auth("token-of-ada")
            .json(&metadata),
        200,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_are_isolated_on_both_routes() {
    let server = server([]).await;
    let thread = thread_of(&server.create("Hi").await);
    let list = json!({ "type": "threads.list", "params": {} });
    refusal(
        server.bare(Method::POST, "/chatkit").json(&list),
        Code::MissingToken,
    )
    .await;
    refusal(
        server
            .bare(Method::POST, "/chatkit")
            .bearer_auth("expired")
            .json(&list),
        Code::TokenExpired,
    )
    .await;
    refusal(
        server
            .bare(Method::POST, "/api/ada/chatkit")
            .bearer_auth("token-of-bob")
            .json(&list),
        Code::WrongUser,
    )
    .await;
    assert_eq!(
        answer(server.ada(Method::POST, "/chatkit").json(&list), 200).await["data"][0]["id"],
        thread
    );
    assert_eq!(
        answer(
            server
                .bare(Method::POST, "/chatkit")
                .bearer_auth("token-of-bob")
                .json(&list),
            200
        )
        .await["data"],
        json!([])
    );
    let item = server.items(&thread).await[0]["id"].clone();
    for (kind, params) in [
        ("threads.get_by_id", json!({ "thread_id": thread })),
        ("items.list", json!({ "thread_id": thread, "after": item })),
        (
            "threads.update",
            json!({ "thread_id": thread, "title": "Theirs" }),
        ),
        ("threads.delete", json!({ "thread_id": thread })),
        (
            "items.feedback",
            json!({ "thread_id": thread, "item_ids": [item], "kind": "negative" }),
        ),
        (
            "threads.add_user_message",
            json!({ "thread_id": thread, "input": input("Hi") }),
        ),
        (
            "threads.retry_after_item",
            json!({ "thread_id": thread, "item_id": item }),
        ),
        (
            "threads.add_client_tool_output",
            json!({ "thread_id": thread, "result": 1 }),
        ),
    ] {
        let request = server
            .bare(Method::POST, "/chatkit")
            .bearer_auth("token-of-bob")
            .json(&json!({ "type": kind, "params": params }));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 404, "{kind}");
    }
    assert_eq!(server.items(&thread).await.len(), 2);
}

/// A service over a mocked store.
async fn service(mut store: MockConversationStore) -> Arc<ChatService> {
    store.expect_register().returning(|_, _| Ok(()));
    let deps = ChatServiceConfig {
        store: Arc::new(store),
        agent: Arc::new(ScriptedAgent::new([])),
        tools: Arc::new(FakeTools::new()),
        environment: Arc::new(FixedEnvironment::new()),
        observer: Arc::new(Signals::default()),
        limits: TurnLimits::default(),
    };
    ChatService::open(deps).await.unwrap()
}

fn queued(begin: &BeginTurn) -> Turn {
    Turn {
        id: begin.turn,
        conversation: begin.target.id(),
        ordinal: Ordinal(1),
        status: TurnStatus::Queued,
        cancel_requested: false,
        retry_of: None,
        original: None,
        superseded: false,
        created_at: begin.at,
        usage: Usage::default(),
        finish: None,
        turns_left_out: 0,
    }
}

fn away() -> StoreError {
    StoreError::Unavailable(Unavailability::Unreachable, "away".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_message_is_stored_every_error_is_streamed() {
    let mut store = MockConversationStore::new();
    store
        .expect_begin()
        .returning(|begin| Ok(BeginOutcome::Stored(queued(&begin))));
    store.expect_get().returning(|_, _| Err(away()));
    let server = Server::serving(service(store).await);
    let events = server.create("Hi").await;
    assert_eq!(types(&events), ["error"]);
    assert!(
        events[0]["message"]
            .as_str()
            .unwrap()
            .contains("Your message is stored"),
        "{events:?}"
    );

    // Before the message is stored, an error may lead to a repetition, which is recognised.
    let mut store = MockConversationStore::new();
    store.expect_begin().returning(|_| Err(away()));
    let server = Server::serving(service(store).await);
    refusal(
        server.chatkit("threads.create", json!({ "input": input("Hi") })),
        Code::StoreUnavailable,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_configured_origins_are_allowed() {
    let origin = "https://app.example.com";
    let server = Server::start(Setup {
        origins: vec![origin.to_owned()],
        ..Setup::default()
    })
    .await;
    let preflight = |origin: &str, headers: &str| {
        let request = server
            .bare(Method::OPTIONS, "/chatkit")
            .header("origin", origin)
            .header("access-control-request-method", "POST");
        request.header("access-control-request-headers", headers)
    };
    let headers = "authorization, content-type, chatkit-frame-instance-id, accept-language";
    let allowed = preflight(origin, headers).send().await.unwrap();
    assert_eq!(allowed.status(), 200, "without a token");
    assert_eq!(allowed.headers()["access-control-allow-origin"], origin);
    let named = allowed.headers()["access-control-allow-headers"]
        .to_str()
        .unwrap()
        .to_lowercase();
    assert!(
        headers.split(", ").all(|header| named.contains(header)),
        "{named}"
    );
    assert!(
        !allowed
            .headers()
            .contains_key("access-control-allow-credentials")
    );
    for (origin, headers) in [("https://evil.example.com", headers), (origin, "x-other")] {
        let refused = preflight(origin, headers).send().await.unwrap();
        assert_eq!(refused.status(), 422, "{origin} {headers}");
    }
    // The page can read replies and problems.
    let list = json!({ "type": "threads.list", "params": {} });
    let ask = |token: &str| {
        server
            .bare(Method::POST, "/chatkit")
            .header("origin", origin)
            .bearer_auth(token)
            .json(&list)
            .send()
    };
    for (token, status) in [("token-of-ada", 200), ("expired", 401)] {
        let response = ask(token).await.unwrap();
        assert_eq!(
            (
                response.status().as_u16(),
                &response.headers()["access-control-allow-origin"]
            ),
            (status, &origin.parse().unwrap())
        );
    }
    // Without configured origins there are no headers of CORS.
    let closed = self::server([]).await;
    let response = closed
        .chatkit("threads.list", json!({}))
        .header("origin", origin)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(
        !response
            .headers()
            .contains_key("access-control-allow-origin")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_exists_only_if_configured() {
    let without = server([]).await;
    refusal(
        without.bare(Method::GET, "/chatkit-example"),
        Code::NotFound,
    )
    .await;
    let with = Server::start(Setup {
        chatkit_example: true,
        ..Setup::default()
    })
    .await;
    let get = |host: &str| {
        with.bare(Method::GET, "/chatkit-example")
            .header("host", host.to_owned())
            .send()
    };
    let page = get("localhost:8080").await.unwrap();
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    let html = page.text().await.unwrap();
    let nonce = policy
        .split("'nonce-")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    assert_eq!(html.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    assert!(html.contains("/chatkit") && html.contains("openai-chatkit"));
    let another = get("localhost").await.unwrap();
    assert!(
        !another.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains(nonce)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_and_the_chat_page_have_different_origins() {
    let with = Server::start(Setup {
        chatkit_example: true,
        ..Setup::default()
    })
    .await;
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let get = |path: &str, host: &str| {
        client
            .get(format!("http://{}{path}", with.address))
            .header("host", host.to_owned())
            .send()
    };
    for (host, location) in [
        ("127.0.0.1:8080", "//localhost:8080/chatkit-example"),
        ("[::1]", "//localhost/chatkit-example"),
    ] {
        let elsewhere = get("/chatkit-example", host).await.unwrap();
        assert_eq!(
            (
                elsewhere.status().as_u16(),
                elsewhere.headers()["location"].to_str().unwrap()
            ),
            (307, location)
        );
    }
    // At any other name the page has its token, and there is no other origin to redirect to.
    for host in [
        "chat.example.com",
        "192.0.2.1:8080",
        "localhost.example.com",
    ] {
        let problem =
            check_refusal(get("/chatkit-example", host).await.unwrap(), Code::NotFound).await;
        assert!(
            problem["detail"].as_str().unwrap().contains("localhost"),
            "{problem}"
        );
    }
    assert_eq!(
        get("/chatkit-example", "localhost")
            .await
            .unwrap()
            .headers()["clear-site-data"],
        "\"storage\""
    );
    let conversation = "/c/0190a1b2-0000-7000-8000-000000000001?x=1";
    for path in ["/", conversation] {
        let page = get(path, "LocalHost:8080").await.unwrap();
        assert_eq!(
            (
                page.status().as_u16(),
                page.headers()["location"].to_str().unwrap()
            ),
            (307, &*format!("//127.0.0.1:8080{path}"))
        );
    }
    // Without the example the page is served at any name.
    let without = Server::start(Setup::default()).await;
    let page = client
        .get(format!("http://{}/", without.address))
        .header("host", "localhost:8080")
        .send()
        .await
        .unwrap();
    assert_ne!(page.status(), 307);
}
