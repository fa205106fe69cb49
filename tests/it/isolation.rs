//! Isolation of two users, on every route of the OpenAPI document: a new route without a row here
//! fails the test.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use chat_tests::client::read;
use chat_tests::server::Home;

/// Routes whose request body names the data.
const ROUTES_BY_BODY: [&str; 3] = ["/api/{user_id}/chat", "/api/{user_id}/chatkit", "/chatkit"];

/// Routes without authentication.
const PUBLIC: [&str; 13] = [
    "/",
    "/c/{conversation_id}",
    "/chatkit-example",
    "/docs",
    "/docs/{file}",
    "/embed.js",
    "/health/live",
    "/health/ready",
    "/openapi.json",
    "/page-settings",
    "/page/{file}",
    "/problems/{code}",
    "/sign-in",
];

#[tokio::test(flavor = "multi_thread")]
async fn users_cannot_access_data_of_other_users() {
    let home = Home::new();
    let server = home.start();
    let (ann, bob) = (server.client("ann"), server.client("bob"));
    let reply = ann.chat(None, "Add task: Buy groceries").await;
    let before = ann.get("/conversations").await;
    let ids = [
        (
            "conversation_id",
            reply["conversation_id"].as_str().unwrap(),
        ),
        ("turn_id", reply["turn_id"].as_str().unwrap()),
    ];
    let nowhere = uuid::Uuid::now_v7().to_string();
    let document = read(
        ann.anywhere(Method::GET, "/openapi.json")
            .send()
            .await
            .unwrap(),
    )
    .await
    .1;
    let mut checked = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| *key != "parameters")
        {
            checked.insert(format!("{method} {path}"));
            if PUBLIC.contains(&path.as_str()) {
                continue;
            }
            let names_user = path.starts_with("/api/{user_id}/");
            assert!(names_user || path == "/chatkit", "{path} has no user id");
            let verb: Method = method.to_uppercase().parse().unwrap();
            let ask = async |user: &str, foreign: Option<&str>| {
                let mut path = path.replace("{user_id}", user);
                let thread = format!("thr_{}", foreign.unwrap_or(ids[0].1).replace('-', ""));
                let params = json!({ "thread_id": thread });
                let mut body = json!({
                    "message": "Hello", "title": "Theirs", "type": "threads.get_by_id",
                    "params": params,
                });
                for (name, id) in ids {
                    path = path.replace(&format!("{{{name}}}"), foreign.unwrap_or(id));
                    body[name] = foreign.unwrap_or(id).into();
                }
                assert!(!path.contains('{'), "{path}: unknown id");
                let request = bob.anywhere(verb.clone(), &path);
                read(
                    if verb == Method::GET {
                        request
                    } else {
                        request.json(&body)
                    }
                    .send()
                    .await
                    .unwrap(),
                )
                .await
            };
            // The path belongs to another user, so the request is rejected regardless of its ids.
            if names_user {
                let (status, problem) = ask("ann", None).await;
                assert_eq!(
                    (status.as_u16(), &problem["code"]),
                    (403, &"wrong_user".into()),
                    "{method} {path}"
                );
            }
            if !path.contains("{conversation_id}")
                && !path.contains("{turn_id}")
                && !ROUTES_BY_BODY.contains(&path.as_str())
            {
                let (status, own) = ask("bob", None).await;
                assert_eq!(
                    (
                        status.as_u16(),
                        own["conversations"].as_array().map(Vec::len)
                    ),
                    (200, Some(0)),
                    "{method} {path}"
                );
                continue;
            }
            // Ids of another user look like ids that do not exist, byte for byte except for the
            // instance.
            let (status, mut foreign) = ask("bob", None).await;
            assert_eq!(status, 404, "{method} {path}: {foreign}");
            let (status, mut unknown) = ask("bob", Some(&nowhere)).await;
            assert_eq!(status, 404, "{method} {path}: {unknown}");
            for problem in [&mut foreign, &mut unknown] {
                assert!(problem["instance"].take().is_string());
            }
            assert_eq!(foreign, unknown, "{method} {path}");
            // Without a token, every request is rejected.
            let anonymous = reqwest::Client::builder().no_proxy().build().unwrap();
            let bare = path
                .replace("{user_id}", "ann")
                .replace("{conversation_id}", ids[0].1)
                .replace("{turn_id}", ids[1].1);
            let response = anonymous
                .request(verb.clone(), format!("http://{}{bare}", server.address))
                .send()
                .await
                .unwrap();
            assert_eq!(response.status(), 401, "{method} {path}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
        }
    }
    let expected = [
        "delete /api/{user_id}/conversations/{conversation_id}",
        "get /",
        "get /api/{user_id}/conversations",
        "get /api/{user_id}/conversations/{conversation_id}",
        "get /api/{user_id}/conversations/{conversation_id}/messages",
        "get /api/{user_id}/conversations/{conversation_id}/tool-calls",
        "get /api/{user_id}/turns/{turn_id}",
        "get /api/{user_id}/turns/{turn_id}/events",
        "get /c/{conversation_id}",
        "get /chatkit-example",
        "get /docs",
        "get /docs/{file}",
        "get /embed.js",
        "get /health/live",
        "get /health/ready",
        "get /openapi.json",
        "get /page-settings",
        "get /page/{file}",
        "get /problems/{code}",
        "patch /api/{user_id}/conversations/{conversation_id}",
        "post /api/{user_id}/chat",
        "post /api/{user_id}/chatkit",
        "post /api/{user_id}/turns/{turn_id}/cancel",
        "post /api/{user_id}/turns/{turn_id}/retry",
        "post /chatkit",
        "post /sign-in",
    ];
    assert_eq!(
        checked.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
    assert_eq!(ann.get("/conversations").await, before, "data was changed");
    assert_eq!(
        server.client("bob").get("/conversations").await["conversations"],
        Value::Array(Vec::new())
    );
}
