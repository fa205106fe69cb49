//! The OpenAPI document is complete, and its pages need no network.

use std::collections::BTreeSet;

use chat_protocol::Code;
use chat_server::testing::endpoints;
use reqwest::Method;
use serde_json::Value;

use super::harness::{Server, Setup, answer};

fn path_of_a_page_file() -> String {
    let file = chat_web::files()
        .iter()
        .find(|file| file.path != "index.html")
        .unwrap();
    format!("/page/{}", file.path)
}

async fn document() -> Value {
    let server = Server::start(Setup::default()).await;
    answer(server.bare(Method::GET, "/openapi.json"), 200).await
}

/// Fails when `docs/openapi.json` is not the server's own description. The page's types are
/// generated from that file. `cargo xtask docs` writes it again.
#[tokio::test(flavor = "multi_thread")]
async fn the_stored_description_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let served = document().await;
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        let text = serde_json::to_string_pretty(&served).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        serde_json::from_str::<Value>(&stored).is_ok_and(|stored| stored == served),
        "docs/openapi.json is out of date: run `cargo xtask docs`"
    );
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &'_ Value)| -> Vec<_> {
        item.as_object()
            .unwrap()
            .keys()
            .map(|method| (method.to_uppercase(), path.clone()))
            .collect()
    };
    paths
        .iter()
        .flat_map(of_path)
        .map(|(method, path)| {
            let operation = &document["paths"][&path][method.to_lowercase()];
            (method, path, operation)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_described_and_every_description_is_a_route() {
    let document = document().await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["servers"][0]["url"], "/");
    assert_eq!(
        document["info"]["license"]["identifier"],
        "MIT OR Apache-2.0"
    );
    let described: BTreeSet<_> = operations(&document)
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .collect();
    let registered: BTreeSet<_> = endpoints()
        .iter()
        .map(|endpoint| (endpoint.method.to_string(), endpoint.path.to_owned()))
        .collect();
    assert_eq!(described, registered);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_described_route_answers() {
    let server = Server::start(Setup {
        chatkit_example: true,
        ..Setup::default()
    })
    .await;
    let document = answer(server.bare(Method::GET, "/openapi.json"), 200).await;
    for (method, path, _) in operations(&document) {
        let path = path
            .replace("{user_id}", "ada")
            .replace("{conversation_id}", "x")
            .replace("{turn_id}", "x");
        let path = if path == "/page/{file}" {
            path_of_a_page_file()
        } else {
            path
        };
        let path = path
            .replace("{file}", "index.html")
            .replace("{code}", "internal");
        let request = server
            .bare(method.parse().unwrap(), &path)
            .bearer_auth("token-of-ada");
        let status = request.send().await.unwrap().status();
        assert!(status != 404 && status != 405, "{method} {path}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptions_name_parameters_bodies_errors_and_headers() {
    let document = document().await;
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"]["scheme"],
        "bearer"
    );
    let mut codes = BTreeSet::new();
    let choices: Vec<_> = operations(&document)
        .into_iter()
        .flat_map(|(_, _, operation)| {
            operation["parameters"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        })
        .filter_map(|parameter| {
            Some((
                parameter["name"].as_str()?.to_owned(),
                parameter["schema"].get("enum")?.clone(),
            ))
        })
        .collect();
    assert_eq!(choices.iter().filter(|(name, _)| name == "busy").count(), 2);
    assert!(
        choices.contains(&("messages".to_owned(), serde_json::json!(["all", "turn"]))),
        "{choices:?}"
    );
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap()),
            "{method} {path}"
        );
        let of_user = path.starts_with("/api/") || path == "/chatkit";
        let secured = operation["security"]
            .as_array()
            .unwrap_or(document["security"].as_array().unwrap());
        assert_eq!(
            secured.iter().any(|scheme| scheme.get("bearer").is_some()),
            of_user,
            "{method} {path}"
        );
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let in_path: Vec<_> = parameters
            .iter()
            .filter(|p| p["in"] == "path")
            .map(|p| format!("{{{}}}", p["name"].as_str().unwrap()))
            .collect();
        let named: Vec<_> = path
            .split('/')
            .filter(|part| part.starts_with('{'))
            .collect();
        assert_eq!(in_path, named, "{method} {path}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(
                response["headers"]["X-Request-Id"].is_object(),
                "{method} {path} {status}"
            );
            assert_eq!(
                response["headers"]["WWW-Authenticate"].is_object(),
                status == "401",
                "{method} {path} {status}"
            );
            let number: u16 = status.parse().unwrap();
            if number >= 400 {
                assert_eq!(
                    response["content"]["application/problem+json"]["schema"]["$ref"],
                    "#/components/schemas/Problem"
                );
            }
            for code in Code::ALL.iter().filter(|code| code.row().status == number) {
                let row = code.row();
                if response["description"]
                    .as_str()
                    .unwrap()
                    .contains(&format!("`{}`", row.code))
                {
                    codes.insert(row.code);
                    assert!(
                        row.retry_after.is_none() || response["headers"]["Retry-After"].is_object()
                    );
                }
            }
        }
    }
    let all: Vec<_> = Code::ALL.iter().map(|code| code.row().code).collect();
    assert_eq!(schemas["ProblemCode"]["enum"], serde_json::json!(all));
    // Only the errors of unknown routes are not described.
    let nowhere: Vec<_> = Code::ALL
        .iter()
        .map(|code| code.row().code)
        .filter(|code| !codes.contains(code))
        .collect();
    assert_eq!(nowhere, ["method_not_allowed"]);
    let references = document.to_string();
    for reference in references.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(
            schemas.contains_key(name),
            "{name} is referred to and not described"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_headers_of_get() {
    let server = Server::start(Setup::default()).await;
    for (path, status) in [
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/openapi.json", 200),
        ("/docs/", 200),
        ("/", 200),
        ("/page-settings", 200),
        ("/problems/message_empty", 200),
        ("/nonsense", 404),
        ("/api/ada/conversations", 200),
        ("/api/ada/conversations/42", 422),
        ("/api/ada/turns/42/events", 405),
    ] {
        let head = server
            .bare(Method::HEAD, path)
            .bearer_auth("token-of-ada")
            .send()
            .await
            .unwrap();
        assert_eq!(head.status(), status, "{path}");
        let headers = head.headers().clone();
        assert_eq!(head.bytes().await.unwrap().len(), 0, "{path}");
        if status != 405 {
            let whole = server
                .bare(Method::GET, path)
                .bearer_auth("token-of-ada")
                .send()
                .await
                .unwrap();
            for name in ["content-type", "content-length", "cache-control"] {
                assert_eq!(
                    headers.get(name),
                    whole.headers().get(name),
                    "{path} {name}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_of_texts_match_their_validation() {
    let document = document().await;
    let message = &document["components"]["schemas"]["ChatRequest"]["properties"]["message"];
    assert!(
        message["minLength"] == 1 && message["pattern"].as_str().unwrap().contains("u0000"),
        "{message}"
    );
    let title = &document["components"]["schemas"]["RenameRequest"]["properties"]["title"];
    assert!(
        title["minLength"] == 1 && title["maxLength"] == 200 && title["pattern"].is_string(),
        "{title}"
    );
    let parameters: Vec<_> = operations(&document)
        .into_iter()
        .flat_map(|(_, _, operation)| {
            operation["parameters"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        })
        .collect();
    for parameter in &parameters {
        match parameter["name"].as_str().unwrap() {
            "after" | "before" | "cursor" => {
                assert_eq!(parameter["schema"]["minLength"], 1, "{parameter}")
            }
            "Idempotency-Key" => assert!(
                parameter["schema"]["pattern"]
                    .as_str()
                    .unwrap()
                    .starts_with("^(?:[!#-~]"),
                "{parameter}"
            ),
            "limit" => assert!(
                parameter["schema"]["minimum"] == 1 && parameter["schema"]["maximum"].is_u64(),
                "{parameter}"
            ),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_work_offline() {
    let server = Server::start(Setup::default()).await;
    let front = server.bare(Method::GET, "/docs").send().await.unwrap();
    assert_eq!(
        (front.status().as_u16(), front.url().path()),
        (200, "/docs/")
    );
    let policy = front.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'self'"),
        "{policy}"
    );
    assert!(
        front.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    let html = front.text().await.unwrap();
    assert!(
        !html.contains("https://") && !html.contains("http://"),
        "{html}"
    );
    let files: Vec<_> = html
        .split(['"', '\''])
        .filter(|part| part.ends_with(".js") || part.ends_with(".css"))
        .collect();
    assert!(files.len() >= 3, "{html}");
    for file in files {
        let response = server
            .bare(
                Method::GET,
                &format!("/docs/{}", file.trim_start_matches("./")),
            )
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{file}");
    }
    let start = server
        .bare(Method::GET, "/docs/swagger-initializer.js")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(start.contains("/openapi.json"), "{start}");
    let problem = server
        .bare(Method::GET, "/problems/message_empty")
        .send()
        .await
        .unwrap();
    assert!(problem.text().await.unwrap().contains("not white space"));
}
