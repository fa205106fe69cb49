//! Errors of the store, internal errors and panics.

use std::sync::Arc;

use chat_domain::testing::{
    FakeTools, FixedEnvironment, MockConversationStore, ScriptedAgent, Signals,
};
use chat_domain::{ChatService, ChatServiceConfig, StoreError, TurnLimits, Unavailability};
use chat_protocol::Code;
use chat_test_support::wait;
use reqwest::Method;

use super::harness::{Server, Setup, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_store_is_reported_and_service_resumes() {
    for (fault, code) in [
        (Unavailability::Unreachable, Code::StoreUnavailable),
        (Unavailability::Timeout, Code::StoreTimeout),
        (Unavailability::Full, Code::StoreFull),
        (Unavailability::ReadOnly, Code::StoreReadOnly),
        (Unavailability::Damaged, Code::StoreCorrupt),
    ] {
        let server = Server::start(Setup::default()).await;
        // Several, because the worker's own calls may consume some of them.
        server.store.fail_next(std::iter::repeat_n(fault, 8));
        let problem = refusal(server.ada(Method::GET, "/conversations"), code).await;
        assert!(
            !problem
                .to_string()
                .contains("a fault that the test asked for"),
            "{problem}"
        );
        let first = refusal(server.chat("Hi", None), code).await;
        assert!(first["turn_id"].is_null());
        let second = refusal(server.bare(Method::GET, "/health/ready"), code).await;
        assert_ne!(first["instance"], second["instance"]);
        wait::until("service after the fault", async || {
            server.chat("Hi", None).send().await.unwrap().status() == 200
        })
        .await;
        assert_eq!(server.conversations().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_errors_reveal_nothing() {
    let mut store = MockConversationStore::new();
    store.expect_register().returning(|_, _| Ok(()));
    store.expect_ping().returning(|| Ok(()));
    store
        .expect_get()
        .returning(|_, _| Err(StoreError::Internal("a secret statement".into())));
    store
        .expect_list()
        .returning(|_, _| panic!("a secret panic"));
    let deps = ChatServiceConfig {
        store: Arc::new(store),
        agent: Arc::new(ScriptedAgent::new([])),
        tools: Arc::new(FakeTools::new()),
        environment: Arc::new(FixedEnvironment::new()),
        observer: Arc::new(Signals::default()),
        limits: TurnLimits::default(),
    };
    let server = Server::serving(ChatService::open(deps).await.unwrap());
    let path = format!("/conversations/{}", FixedEnvironment::id(7));
    for path in [path.as_str(), "/conversations"] {
        let problem = refusal(server.ada(Method::GET, path), Code::Internal).await;
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
    // The server continues.
    assert_eq!(
        server
            .bare(Method::GET, "/health/ready")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_handler_is_internal_too() {
    let server = Server::start(Setup::default()).await;
    refusal(
        server
            .ada(Method::GET, "/conversations")
            .bearer_auth("panic"),
        Code::MissingToken,
    )
    .await;
    refusal(
        server
            .bare(Method::GET, "/api/ada/conversations")
            .bearer_auth("panic"),
        Code::Internal,
    )
    .await;
    assert_eq!(server.conversations().await, 0);
}
