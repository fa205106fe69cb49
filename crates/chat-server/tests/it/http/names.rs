//! Unknown parameters and members.

use chat_protocol::Code;
use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{Server, Setup, answer, refusal};

/// Pages and their files, which accept any query.
const PAGES: &[&str] = &[
    "/",
    "/c/{conversation_id}",
    "/page/{file}",
    "/embed.js",
    "/docs",
    "/docs/{file}",
    "/chatkit-example",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_rejects_unknown_parameters() {
    let server = Server::start(Setup {
        chatkit_example: true,
        ..Setup::default()
    })
    .await;
    let document = answer(server.bare(Method::GET, "/openapi.json"), 200).await;
    let id = "0190a1b2-0000-7000-8000-000000000001";
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let address = path
                .replace("{user_id}", "ada")
                .replace("{conversation_id}", id)
                .replace("{turn_id}", id);
            let address = address
                .replace("{file}", "index.html")
                .replace("{code}", "internal");
            let request = |query: &str| {
                let method = method.to_uppercase().parse().unwrap();
                server
                    .bare(method, &format!("{address}?{query}"))
                    .bearer_auth("token-of-ada")
            };
            if PAGES.contains(&path.as_str()) {
                let status = request("utm_source=letter").send().await.unwrap().status();
                assert_ne!(status, 422, "{method} {path}");
                continue;
            }
            let problem = refusal(request("nonsense=1"), Code::InvalidRequest).await;
            assert_eq!(problem["parameter"], "nonsense", "{method} {path}");
            let parameters = operation["parameters"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let known: Vec<_> = parameters
                .iter()
                .filter(|one| one["in"] == "query")
                .map(|one| one["name"].as_str().unwrap())
                .collect();
            for name in &known {
                assert!(
                    problem["detail"]
                        .as_str()
                        .unwrap()
                        .contains(&format!("`{name}`")),
                    "{problem}"
                );
                let problem = refusal(
                    request(&format!("{}=1", name.to_uppercase())),
                    Code::InvalidRequest,
                )
                .await;
                assert!(
                    problem["detail"]
                        .as_str()
                        .unwrap()
                        .contains(&format!("use `{name}`")),
                    "{problem}"
                );
            }
            if known.is_empty() {
                assert!(
                    problem["detail"]
                        .as_str()
                        .unwrap()
                        .contains("has no parameters"),
                    "{problem}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hint_names_the_parameter_of_the_next_page() {
    let server = Server::start(Setup::default()).await;
    let conversation = server.say("Hi", None).await["conversation_id"]
        .as_str()
        .unwrap()
        .to_owned();
    for (path, given, expected) in [
        ("/conversations".to_owned(), "after", "cursor"),
        (
            format!("/conversations/{conversation}/tool-calls"),
            "after",
            "cursor",
        ),
        (
            format!("/conversations/{conversation}/messages"),
            "cursor",
            "after",
        ),
        ("/conversations".to_owned(), "page_size", "limit"),
    ] {
        let problem = refusal(
            server.ada(Method::GET, &format!("{path}?{given}=x")),
            Code::InvalidRequest,
        )
        .await;
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains(&format!("use `{expected}`")),
            "{problem}"
        );
    }
    // Without a token, the error reveals no parameters.
    refusal(
        server.bare(Method::GET, "/api/ada/conversations?after=x"),
        Code::MissingToken,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn misspelt_members_are_rejected_and_start_nothing() {
    let server = Server::start(Setup::default()).await;
    let conversation = server.say("Hi", None).await["conversation_id"].clone();
    for name in [
        "conversationId",
        "ConversationId",
        "conversation-id",
        "conversation_ids",
        "conversaton_id",
    ] {
        let mut body = json!({"message": "Hi"});
        body[name] = conversation.clone();
        let problem = refusal(
            server.ada(Method::POST, "/chat").json(&body),
            Code::InvalidRequest,
        )
        .await;
        assert_eq!(problem["path"], format!("/{name}"));
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("use `conversation_id`"),
            "{problem}"
        );
    }
    let path = format!("/conversations/{}", conversation.as_str().unwrap());
    let problem = refusal(
        server
            .ada(Method::PATCH, &path)
            .json(&json!({"Title": "x"})),
        Code::InvalidRequest,
    )
    .await;
    assert_eq!(problem["path"], "/Title");
    let problem = refusal(
        server
            .bare(Method::POST, "/sign-in")
            .json(&json!({"codes": "x"})),
        Code::InvalidRequest,
    )
    .await;
    assert_eq!(problem["path"], "/codes");
    let ignored: Value = json!({"message": "Hi", "conversation_id": conversation, "metadata": {"messages": 1}, "stream": true});
    answer(server.ada(Method::POST, "/chat").json(&ignored), 200).await;
    assert_eq!(server.conversations().await, 1);
}
