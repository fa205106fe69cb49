//! The tools that agents are offered.

use std::time::Duration;

use chat_domain::{ToolErrorKind, Toolset};
use chat_tools_mcp::{McpServer, McpToolset, SettingsError};

use crate::support::{ALL_TOOLS, Logs, TestServer, call, eventually, kind, names, owner, program};

#[tokio::test]
async fn all_pages_are_listed_with_their_hints() {
    let server = TestServer::new("one").with("paged");
    let tools = server.start();
    let specs = tools.specs(&owner()).await;
    assert_eq!(specs.len(), ALL_TOOLS);
    let repeatable: Vec<&str> = specs
        .iter()
        .filter(|spec| spec.repeatable)
        .map(|spec| spec.name.as_str())
        .collect();
    assert_eq!(repeatable, ["echo", "words", "raw_read"]);
    let echo = specs.iter().find(|spec| spec.name == "echo").unwrap();
    assert_eq!(
        (echo.description.as_str(), echo.input_schema.as_str()),
        ("The tool echo.", r#"{"type":"object"}"#)
    );
}

#[tokio::test]
async fn a_duplicate_name_gets_the_later_servers_prefix() {
    let (one, two) = (
        TestServer::new("one").with("tools=echo,words"),
        TestServer::new("two").with("tools=fail,words"),
    );
    let tools = McpToolset::start(vec![one.settings.clone(), two.settings.clone()]).unwrap();
    assert_eq!(names(&tools).await, ["echo", "words", "two_words", "fail"]);
    call(&tools, "two_words", "{}").await.unwrap();
    assert_eq!(
        (one.logged("call words {}"), two.logged("call words {}")),
        (0, 1)
    );
    call(&tools, "words", "{}").await.unwrap();
    assert_eq!(
        (one.logged("call words {}"), two.logged("call words {}")),
        (1, 1)
    );
}

#[tokio::test]
async fn an_unavailable_server_does_not_affect_others() {
    let here = TestServer::new("here").with("tools=echo");
    let tools = McpToolset::start(vec![
        here.settings.clone(),
        McpServer::new("gone", "/no/such/program"),
    ])
    .unwrap();
    assert_eq!(names(&tools).await, ["echo"]);
    assert!(call(&tools, "echo", "{}").await.is_ok());
    assert_eq!(
        kind(call(&tools, "of_nobody", "{}").await),
        ToolErrorKind::UnknownTool,
        "the name is not assigned to the other server"
    );
}

#[tokio::test]
async fn a_name_does_not_depend_on_the_order_of_starts() {
    let (slow, quick) = (
        TestServer::new("slow")
            .with("tools=words")
            .with_file("slow"),
        TestServer::new("quick").with("tools=words,echo"),
    );
    let tools = McpToolset::start(vec![slow.settings.clone(), quick.settings.clone()]).unwrap();
    eventually("the quick server is available", async || {
        !names(&tools).await.is_empty()
    })
    .await;
    assert_eq!(names(&tools).await, ["quick_echo", "quick_words"]);
    assert_eq!(
        kind(call(&tools, "words", "{}").await),
        ToolErrorKind::UnknownTool
    );
    call(&tools, "quick_words", "{}").await.unwrap();
    std::fs::write(slow.file(), "").unwrap();
    eventually("the slow server is available", async || {
        names(&tools).await.len() == 3
    })
    .await;
    assert_eq!(names(&tools).await, ["words", "echo", "quick_words"]);
    for name in ["words", "slow_words", "quick_words"] {
        call(&tools, name, "{}").await.unwrap();
    }
    assert_eq!(
        (slow.logged("call words {}"), quick.logged("call words {}")),
        (2, 2)
    );
}

#[tokio::test]
async fn a_starting_server_is_waited_for() {
    let server = TestServer::new("one");
    let tools = server.start();
    assert_eq!(
        names(&tools).await.len(),
        ALL_TOOLS,
        "the first step has the tools of a server that starts quickly"
    );
}

#[tokio::test]
async fn a_slow_server_is_not_waited_for_and_appears_when_ready() {
    let (quick, slow) = (
        TestServer::new("quick").with("tools=echo"),
        TestServer::new("slow")
            .with("tools=words")
            .with_file("slow"),
    );
    let tools = McpToolset::start(vec![quick.settings.clone(), slow.settings.clone()]).unwrap();
    // Nothing has allowed the slow server to start, and its timeout is a minute.
    assert_eq!(names(&tools).await, ["echo"]);
    assert_eq!(slow.logged("start"), 1);
    std::fs::write(slow.file(), "").unwrap();
    eventually("its tools are available", async || {
        names(&tools).await == ["echo", "words"]
    })
    .await;
    assert_eq!(slow.logged("start"), 1, "the server was started once");
}

#[tokio::test]
async fn a_server_is_ended_at_its_start_timeout() {
    let logs = Logs::capture();
    let mut server = TestServer::new("slow").with_file("slow");
    server.settings.start_timeout = Duration::from_millis(300);
    let tools = server.start();
    assert!(names(&tools).await.is_empty());
    eventually("the server was restarted", async || {
        server.logged("start") > 1
    })
    .await;
    assert_eq!(
        logs.count("tool server failed to start"),
        1,
        "{}",
        logs.text()
    );
    assert!(
        logs.text().contains("start timeout of 300ms exceeded"),
        "{}",
        logs.text()
    );
}

#[tokio::test]
async fn the_reason_of_a_failed_start_is_logged_without_secrets() {
    let logs = Logs::capture();
    let mut failing = McpServer::new("failing", "sh");
    failing.args = vec![
        "-c".into(),
        "echo \"no module named x; key $API_KEY\" >&2; exit 3".into(),
    ];
    failing
        .env
        .insert("API_KEY".into(), "hunter2hunter2".into());
    let tools = McpToolset::start(vec![failing]).unwrap();
    eventually("it is logged", async || {
        logs.count("tool server failed to start") == 1
    })
    .await;
    assert!(names(&tools).await.is_empty());
    let text = logs.text();
    assert!(
        text.contains("no module named x; key [removed]") && text.contains("exit status: 3"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn an_endless_listing_is_ended_and_its_tools_are_kept() {
    for cursor in ["", "same"] {
        let logs = Logs::capture();
        let server = TestServer::new("one").with(&format!("cursor={cursor}"));
        let tools = server.start();
        assert_eq!(
            names(&tools).await.len(),
            ALL_TOOLS,
            "with the cursor {cursor:?}"
        );
        assert_eq!(server.logged("list"), 2);
        assert_eq!(logs.count("listing has defects"), 1, "{}", logs.text());
    }
}

#[tokio::test]
async fn a_malformed_tool_is_omitted_alone() {
    let logs = Logs::capture();
    let list = br#"{"jsonrpc":"2.0","id":$ID,"result":{"tools":[{"name":"good","inputSchema":{"type":"object"}},{"name":"bare"},
        {"name":"null","inputSchema":null},{"inputSchema":{}},{"name":"list","inputSchema":[]},
        {"name":"hints","inputSchema":{},"annotations":{"readOnlyHint":"yes"},"icons":"none"},{"name":"lone","description":"\ud83d"}]}}"#;
    let list: Vec<u8> = list.iter().copied().filter(|byte| *byte != b'\n').collect();
    let server = TestServer::new("one").with_bytes("list", list);
    let tools = server.start();
    assert_eq!(
        names(&tools).await,
        ["good", "bare", "null", "hints", "lone"]
    );
    let specs = tools.specs(&owner()).await;
    assert_eq!(
        specs[1].input_schema.as_str(),
        r#"{"properties":{},"type":"object"}"#
    );
    assert_eq!(
        (specs[4].description.as_str(), specs[3].repeatable),
        ("\u{FFFD}", false)
    );
    for expected in [
        "tool at index 3 omitted: it has no name",
        r#"tool \"list\" omitted: its input schema is not an object"#,
    ] {
        assert_eq!(logs.count(expected), 1, "{expected}: {}", logs.text());
    }
}

#[tokio::test]
async fn a_handshake_with_invalid_members_is_accepted() {
    let init = r#"{"id":$ID,"error":null,"result":{"protocolVersion":"2024-11-05","capabilities":{"tools":true,"experimental":[]},"serverInfo":{"name":"odd"}}}"#;
    let server = TestServer::new("one").with_bytes("init", init);
    let tools = server.start();
    assert_eq!(names(&tools).await.len(), ALL_TOOLS);
}

#[tokio::test]
async fn a_program_that_does_not_speak_mcp_is_unavailable() {
    let mut not_mcp = McpServer::new("cat", "cat");
    not_mcp.start_timeout = Duration::from_millis(300);
    let tools = McpToolset::start(vec![not_mcp]).unwrap();
    assert!(names(&tools).await.is_empty());
}

#[tokio::test]
async fn a_changed_list_is_reloaded() {
    let server = TestServer::new("one");
    let tools = server.start();
    assert!(!names(&tools).await.contains(&"grown".to_owned()));
    call(&tools, "grow", "{}").await.unwrap();
    eventually("the new tool is listed", async || {
        names(&tools).await.contains(&"grown".to_owned())
    })
    .await;
}

#[tokio::test]
async fn invalid_settings_are_rejected() {
    let server = |name: &str| McpServer::new(name, program());
    assert_eq!(
        McpToolset::start(vec![server("a"), server("a")]).err(),
        Some(SettingsError::DuplicateName("a".into()))
    );
    assert_eq!(
        McpToolset::start(vec![server("")]).err(),
        Some(SettingsError::InvalidName(String::new()))
    );
}

#[tokio::test]
async fn without_servers_there_are_no_tools() {
    let tools = McpToolset::start(Vec::new()).unwrap();
    assert!(names(&tools).await.is_empty());
    assert_eq!(
        kind(call(&tools, "echo", "{}").await),
        ToolErrorKind::UnknownTool
    );
}
