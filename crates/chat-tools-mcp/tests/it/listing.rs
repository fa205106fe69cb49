//! What the agent is offered.

use std::time::{Duration, Instant};

use chat_domain::{ToolErrorKind, Toolset};
use chat_tools_mcp::{McpServer, McpToolset, SettingsError};

use crate::support::{TestServer, call, eventually, kind, names, owner, program};

#[tokio::test]
async fn all_pages_are_listed_with_their_hints() {
    let server = TestServer::new("one").with("paged");
    let tools = server.start();
    let specs = tools.specs(&owner()).await;
    assert_eq!(specs.len(), 12);
    let repeatable: Vec<&str> = specs.iter().filter(|spec| spec.repeatable).map(|spec| spec.name.as_str()).collect();
    assert_eq!(repeatable, ["echo", "words"]);
    let echo = specs.iter().find(|spec| spec.name == "echo").unwrap();
    assert_eq!((echo.description.as_str(), echo.input_schema.as_str()), ("The tool echo.", r#"{"type":"object"}"#));
}

#[tokio::test]
async fn of_two_tools_with_one_name_the_later_servers_gets_its_name() {
    let (one, two) = (TestServer::new("one").with("tools=echo,words"), TestServer::new("two").with("tools=fail,words"));
    let tools = McpToolset::start(vec![one.settings.clone(), two.settings.clone()]).unwrap();
    assert_eq!(names(&tools).await, ["echo", "fail", "two_words", "words"]);
    call(&tools, "two_words", "{}").await.unwrap();
    assert_eq!((one.logged("call words {}"), two.logged("call words {}")), (0, 1));
    call(&tools, "words", "{}").await.unwrap();
    assert_eq!((one.logged("call words {}"), two.logged("call words {}")), (1, 1));
}

#[tokio::test]
async fn a_server_that_is_away_lacks_its_tools_and_harms_no_other() {
    let here = TestServer::new("here").with("tools=echo");
    let tools = McpToolset::start(vec![McpServer::new("gone", "/no/such/program"), here.settings.clone()]).unwrap();
    assert_eq!(names(&tools).await, ["echo"]);
    assert!(call(&tools, "echo", "{}").await.is_ok());
    assert_eq!(kind(call(&tools, "of_the_other", "{}").await), ToolErrorKind::Unavailable);
}

#[tokio::test]
async fn one_that_starts_is_waited_for() {
    let server = TestServer::new("slow").with_file("slow");
    let tools = server.start();
    let (names, ()) = futures_util::future::join(names(&tools), async {
        // It has been started and is being waited for when the file appears.
        eventually("the server started", async || server.logged("start") == 1).await;
        std::fs::write(server.file(), "").unwrap();
    })
    .await;
    assert_eq!(names.len(), 12);
}

#[tokio::test]
async fn one_that_never_starts_is_waited_for_no_longer_than_its_limit() {
    let mut server = TestServer::new("slow").with_file("slow");
    server.settings.start_timeout = Duration::from_millis(300);
    let tools = server.start();
    let began = Instant::now();
    assert!(names(&tools).await.is_empty());
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(kind(call(&tools, "echo", "{}").await), ToolErrorKind::Unavailable);
}

#[tokio::test]
async fn a_program_that_does_not_speak_mcp_is_away() {
    let mut not_mcp = McpServer::new("cat", "cat");
    not_mcp.start_timeout = Duration::from_millis(300);
    let tools = McpToolset::start(vec![not_mcp]).unwrap();
    assert!(names(&tools).await.is_empty());
}

#[tokio::test]
async fn a_changed_list_is_read_again() {
    let server = TestServer::new("one");
    let tools = server.start();
    assert!(!names(&tools).await.contains(&"grown".to_owned()));
    call(&tools, "grow", "{}").await.unwrap();
    eventually("the new tool is listed", async || names(&tools).await.contains(&"grown".to_owned())).await;
}

#[tokio::test]
async fn settings_that_cannot_be_start_nothing() {
    let server = |name: &str| McpServer::new(name, program());
    assert_eq!(McpToolset::start(vec![server("a"), server("a")]).err(), Some(SettingsError::TwiceNamed("a".into())));
    assert_eq!(McpToolset::start(vec![server("")]).err(), Some(SettingsError::Name(String::new())));
}

#[tokio::test]
async fn no_servers_no_tools() {
    let tools = McpToolset::start(Vec::new()).unwrap();
    assert!(names(&tools).await.is_empty());
    assert_eq!(kind(call(&tools, "echo", "{}").await), ToolErrorKind::UnknownTool);
}
