//! Birth, death and rebirth of the children.

use chat_domain::{CallError, ToolErrorKind};

use crate::support::{TestServer, call, eventually, kind, names};

#[tokio::test]
async fn one_that_died_is_started_again_and_works() {
    let server = TestServer::new("one");
    let tools = server.start();
    for deaths in 1..=2 {
        assert_eq!(call(&tools, "die", "{}").await, Err(CallError::Unknown));
        // Not a word of sleeping here: whoever asks waits for one that is being started again.
        eventually("it is asked again", async || match call(&tools, "words", "{}").await {
            Ok(_) => true,
            // Asked in the moment between the death and our hearing of it.
            Err(CallError::Unknown) => false,
            Err(CallError::Failed(error)) => panic!("{error}"),
        })
        .await;
        assert_eq!(server.logged("start"), deaths + 1);
    }
}

#[tokio::test]
async fn one_that_cannot_start_comes_when_it_can() {
    let server = TestServer::new("one").with_file("needs");
    let tools = server.start();
    assert!(names(&tools).await.is_empty());
    assert_eq!(kind(call(&tools, "words", "{}").await), ToolErrorKind::Unavailable);
    std::fs::write(server.file(), "").unwrap();
    eventually("its tools are there", async || !names(&tools).await.is_empty()).await;
    assert!(call(&tools, "words", "{}").await.is_ok());
    assert!(server.logged("start") >= 2);
}

#[tokio::test]
async fn its_tools_are_not_offered_while_it_is_away_and_keep_their_names() {
    let server = TestServer::new("one").with_file("needs");
    std::fs::write(server.file(), "").unwrap();
    let tools = server.start();
    assert_eq!(names(&tools).await.len(), 12);
    std::fs::remove_file(server.file()).unwrap();
    assert_eq!(call(&tools, "die", "{}").await, Err(CallError::Unknown));
    eventually("its tools are gone", async || names(&tools).await.is_empty()).await;
    assert_eq!(kind(call(&tools, "words", "{}").await), ToolErrorKind::Unavailable);
    std::fs::write(server.file(), "").unwrap();
    eventually("its tools are back", async || names(&tools).await.len() == 12).await;
}

#[tokio::test]
async fn the_environment_holds_what_was_given_and_little_else() {
    let mut server = TestServer::new("one");
    server.settings.env.insert("SPECIAL".into(), "given".into());
    let tools = server.start();
    let answer: serde_json::Value = serde_json::from_str(&call(&tools, "environment", "{}").await.unwrap()).unwrap();
    assert_eq!(answer["SPECIAL"], "given");
    let names: Vec<&str> = answer["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok(), "the tests' own environment holds more");
    let expected = ["HOME", "LANG", "LC_ALL", "PATH", "SPECIAL", "TMPDIR", "TZ"];
    assert!(names.iter().all(|name| expected.contains(name)), "{names:?}");
}

#[tokio::test]
async fn shutdown_ends_the_children_gracefully() {
    let server = TestServer::new("one");
    let tools = server.start();
    names(&tools).await;
    tools.shutdown().await;
    assert_eq!(server.log(), ["start", "end"]);
    assert!(names(&tools).await.is_empty());
    assert_eq!(kind(call(&tools, "words", "{}").await), ToolErrorKind::Unavailable);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_one_that_starts() {
    let server = TestServer::new("slow").with_file("slow");
    let tools = server.start();
    eventually("the server started", async || server.logged("start") == 1).await;
    tools.shutdown().await;
    assert!(names(&tools).await.is_empty());
}

#[tokio::test]
async fn dropping_the_toolset_ends_the_children() {
    let server = TestServer::new("one");
    let tools = server.start();
    names(&tools).await;
    drop(tools);
    eventually("the child ended", async || server.logged("end") == 1).await;
}
