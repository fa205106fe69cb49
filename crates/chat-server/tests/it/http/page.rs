//! The chat page, its policy and its files; sign-in by code.

use std::time::Duration;

use chat_protocol::Code;
use chat_server::testing::JwtSecret;
use chat_server::testing::OneTimeCode;
use chat_server::testing::{Page, SignIn};
use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{Server, Setup, answer, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_a_content_security_policy() {
    let page = Page::default();
    let policy = page.policy();
    let server = Server::start(Setup::default()).await;
    let id = "01a1fc3b-5b9b-77e2-a336-e8aa912c7fa7";
    for path in ["/", &format!("/c/{id}"), "/c/anything"] {
        let response = server.bare(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers().clone();
        assert_eq!(headers["content-security-policy"], policy.as_str());
        assert_eq!(headers["x-frame-options"], "DENY");
        assert_eq!(headers["cache-control"], "no-cache");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert!(
            headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );
        assert!(response.text().await.unwrap().contains("/page/"));
    }
    assert!(
        policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    refusal(server.bare(Method::GET, "/c/a/b"), Code::NotFound).await;
    refusal(
        server.bare(Method::GET, "/page/nonsense.js"),
        Code::NotFound,
    )
    .await;
    // Only the page's own addresses have the policy.
    refusal(server.bare(Method::GET, "/page/index.html"), Code::NotFound).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedders_are_named_in_the_policy_and_in_the_settings() {
    let mut page = Page::default();
    page.settings.embedders = vec!["https://intranet.example".to_owned()];
    page.settings.sign_in = SignIn::Address {
        url: "https://login.example/chat".to_owned(),
    };
    let server = Server::with_page(page).await;
    let response = server.bare(Method::GET, "/").send().await.unwrap();
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        policy.ends_with("frame-ancestors https://intranet.example"),
        "{policy}"
    );
    assert!(!response.headers().contains_key("x-frame-options"));
    let settings = answer(server.bare(Method::GET, "/page-settings"), 200).await;
    assert_eq!(settings["embedders"], json!(["https://intranet.example"]));
    assert_eq!(
        settings["sign_in"],
        json!({"by": "address", "url": "https://login.example/chat"})
    );
    assert_eq!(
        (&settings["message_limit"], &settings["calls_at_once"]),
        (&json!(5000), &json!(8))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_have_the_accepted_coding_and_are_cached() {
    let server = Server::start(Setup::default()).await;
    for file in chat_web::files() {
        let path = if file.path == "index.html" {
            "/".to_owned()
        } else {
            format!("/page/{}", file.path)
        };
        let plain = server.bare(Method::GET, &path).send().await.unwrap();
        assert!(
            plain
                .headers()
                .get("content-encoding")
                .is_none_or(|coding| coding == "identity"),
            "{path}"
        );
        assert_eq!(plain.headers()["content-type"], file.media_type);
        let immutable = plain.headers()["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable");
        assert_eq!(immutable, file.path.starts_with("assets/"), "{path}");
        let tag = plain.headers()["etag"].clone();
        let length = plain.bytes().await.unwrap().len();
        for (accepts, coding) in [
            ("br, gzip", "br"),
            ("gzip", "gzip"),
            ("gzip;q=0, br;q=0, *;q=0.1", ""),
        ] {
            let coded = server
                .bare(Method::GET, &path)
                .header("accept-encoding", accepts)
                .send()
                .await
                .unwrap();
            assert_eq!(coded.headers()["etag"], tag);
            // Files that were not compressed when the page was built are sent uncompressed.
            let given = coded.headers()["content-encoding"]
                .to_str()
                .unwrap()
                .to_owned();
            let bytes = coded.bytes().await.unwrap().len();
            assert!(
                if given == "identity" {
                    bytes == length
                } else {
                    given == coding && bytes < length
                },
                "{path} {accepts} {given}"
            );
        }
        let again = server
            .bare(Method::GET, &path)
            .header("if-none-match", tag)
            .send()
            .await
            .unwrap();
        assert_eq!(
            (again.status().as_u16(), again.bytes().await.unwrap().len()),
            (304, 0),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_signs_one_browser_in() {
    let secret = JwtSecret::new("0123456789abcdef0123456789abcdef").unwrap();
    let code = OneTimeCode::new(secret, "demo", Duration::from_secs(60)).unwrap();
    let text = code.text().unwrap();
    let server = Server::with_page(Page {
        code: Some(code),
        ..Page::default()
    })
    .await;
    let sign_in = |body: Value| server.bare(Method::POST, "/sign-in").json(&body);
    refusal(
        sign_in(json!({"code": "0".repeat(32)})),
        Code::InvalidSignInCode,
    )
    .await;
    refusal(sign_in(json!({})), Code::InvalidRequest).await;
    refusal(sign_in(json!({"code": 7})), Code::InvalidRequest).await;
    let reply = answer(sign_in(json!({"code": text})), 200).await;
    assert_eq!(reply["token"].as_str().unwrap().split('.').count(), 3);
    refusal(sign_in(json!({"code": text})), Code::InvalidSignInCode).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_development_mode_no_code_signs_in() {
    let server = Server::with_page(Page::default()).await;
    for code in ["", "null", "undefined"] {
        refusal(
            server
                .bare(Method::POST, "/sign-in")
                .json(&json!({"code": code})),
            Code::InvalidSignInCode,
        )
        .await;
    }
}
