//! Settings: their sources, invalid values, and their reference.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chat_server::testing::{AgentKind, Config, reference};
use secrecy::ExposeSecret;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn load(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.toml");
    if let Some(text) = file {
        std::fs::write(&path, text).unwrap();
    }
    Config::load(file.map(|_| path.as_path()), environment(variables)).map_err(|error| {
        let folder = format!("{}/", folder.path().display());
        error
            .faults
            .iter()
            .map(|fault| fault.replace(&folder, ""))
            .collect()
    })
}

/// The one fault of these variables.
fn fault(variables: &[(&str, &str)]) -> String {
    let faults = load(None, variables).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].clone()
}

#[test]
fn every_setting_has_a_default() {
    let config = load(None, &[]).unwrap();
    assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!(config.database_url.expose(), "sqlite://chat.db");
    assert_eq!(config.agent_kind(), AgentKind::Demo);
    assert!(config.has_demo_tools());
}

#[test]
fn variables_override_the_file_and_the_file_the_defaults() {
    let file = "lease = \"20s\"\nheartbeat = \"2s\"\nqueue_limit = 7\ndemo_tools = false\n";
    let config = load(
        Some(file),
        &[("CHAT_LEASE", "30s"), ("CHAT_QUEUE_LIMIT", "")],
    )
    .unwrap();
    assert_eq!(config.lease, Duration::from_secs(30));
    assert_eq!(config.heartbeat, Duration::from_secs(2));
    assert_eq!(config.queue_limit.get(), 7);
    assert_eq!(config.sweep, Duration::from_secs(2));
    assert!(!config.has_demo_tools());
}

#[test]
fn white_space_around_a_value_is_removed_from_every_setting() {
    let variables = [
        ("CHAT_AGENT_URL", "http://127.0.0.1:11434/v1\r"),
        ("CHAT_AGENT_MODEL", " qwen3 \r"),
        ("CHAT_AGENT_API_KEY", "sk-1\r\n"),
        ("CHAT_AGENT_INSTRUCTIONS", "\tBe brief.\r\nAnd kind.\r\n"),
        ("CHAT_JWT_SECRET", &format!("{SECRET}\r")),
        ("CHAT_JWT_ISSUER", "idp\r"),
        ("CHAT_JWT_AUDIENCE", "\r"),
        ("CHAT_PAGE_NAME", "\u{a0}Ada\r"),
        ("CHAT_LISTEN", "127.0.0.1:9\r"),
        ("CHAT_LOG_FILTER", "debug\r"),
        ("CHAT_LOG_FORMAT", "json\r"),
        ("CHAT_LEASE", "30s\r"),
        ("CHAT_DEMO_TOOLS", "true\r"),
        ("CHAT_QUEUE_LIMIT", "7\r"),
        ("CHAT_BODY_LIMIT", "1MiB\r"),
        ("CHAT_MCP_SERVERS", "[]\r"),
        ("CHAT_PAGE_SUGGESTIONS", "a|b\r"),
        ("CHAT_CORS_ORIGINS", "https://a.example\r"),
        ("DATABASE_URL", "sqlite://x.db\r"),
        ("CHAT_CONTEXT_TOKENS", " \r"),
    ];
    let config = load(None, &variables).unwrap();
    assert_eq!(
        config.agent_url.unwrap().expose_secret(),
        "http://127.0.0.1:11434/v1"
    );
    assert_eq!(config.agent_model.as_deref(), Some("qwen3"));
    assert_eq!(config.agent_api_key.unwrap().expose_secret(), "sk-1");
    assert_eq!(
        config.agent_instructions.as_deref(),
        Some("Be brief.\r\nAnd kind.")
    );
    assert_eq!(config.jwt_secret.unwrap().expose(), SECRET.as_bytes());
    assert_eq!(
        (config.jwt_issuer.as_deref(), config.jwt_audience.as_deref()),
        (Some("idp"), None)
    );
    assert_eq!(
        (config.page_name.as_str(), config.log_filter.0.as_str()),
        ("Ada", "debug")
    );
    assert_eq!(config.database_url.expose(), "sqlite://x.db");
    assert_eq!(config.context_tokens, None);
    let file = load(
        Some("agent_url = ' http://host/v1\t'\nagent_model = \"m\\r\\n\"\nlease = \" 30s \"\n"),
        &[],
    )
    .unwrap();
    assert_eq!(
        (
            file.agent_model.as_deref(),
            file.agent_url.unwrap().expose_secret()
        ),
        (Some("m"), "http://host/v1")
    );
    assert!(load(Some("lease = \"30s\"\r\nqueue_limit = 7\r\n"), &[]).is_ok());
}

#[test]
fn inner_timeouts_must_be_shorter_than_outer_ones() {
    let config = load(None, &[]).unwrap();
    let waits = [
        config.agent_connect_timeout,
        config.agent_idle_timeout,
        config.agent_first_byte_timeout,
        config.step_timeout(),
        config.turn_timeout,
        config.reply_timeout,
    ];
    assert!(
        waits.is_sorted_by(|inner, outer| inner < outer),
        "{waits:?}"
    );
    let shorter = load(None, &[("CHAT_TURN_TIMEOUT", "3m")]).unwrap();
    assert_eq!(shorter.step_timeout(), Duration::from_secs(120));
    assert!(
        fault(&[
            ("CHAT_TURN_TIMEOUT", "3m"),
            ("CHAT_AGENT_STEP_TIMEOUT", "4m")
        ])
        .starts_with("CHAT_AGENT_STEP_TIMEOUT: ")
    );
}

#[test]
fn an_agent_url_selects_the_openai_agent() {
    let config = load(
        None,
        &[
            ("CHAT_AGENT_URL", "http://127.0.0.1:11434/v1"),
            ("CHAT_AGENT_MODEL", "m"),
        ],
    )
    .unwrap();
    assert_eq!(config.agent_kind(), AgentKind::OpenAi);
    assert!(!config.has_demo_tools());
    assert!(
        fault(&[("CHAT_AGENT_URL", "http://127.0.0.1:11434/v1")]).starts_with("CHAT_AGENT_MODEL: ")
    );
    assert!(
        fault(&[("CHAT_AGENT", "openai"), ("CHAT_AGENT_MODEL", "m")])
            .starts_with("CHAT_AGENT_URL: ")
    );
}

#[test]
fn suggestions_are_a_list_or_one_text() {
    let file = "page_suggestions = [\"Where is it, please?\", \"What is new?\"]\n";
    for config in [
        load(Some(file), &[]).unwrap(),
        load(
            None,
            &[(
                "CHAT_PAGE_SUGGESTIONS",
                "Where is it, please? | What is new?",
            )],
        )
        .unwrap(),
    ] {
        assert_eq!(
            config.page_suggestions.unwrap().0,
            ["Where is it, please?", "What is new?"]
        );
    }
    assert!(fault(&[("CHAT_PAGE_SUGGESTIONS", "a||b")]).starts_with("CHAT_PAGE_SUGGESTIONS: "));
}

#[test]
fn mcp_servers_are_read_from_tables_or_json() {
    let file = "[[mcp_servers]]\nname = \"files\"\ncommand = \"mcp-files\"\nargs = [\"/srv\"]\nenv = { TOKEN = \"t\" }\n";
    let json =
        r#"[{"name": "files", "command": "mcp-files", "args": ["/srv"], "env": {"TOKEN": "t"}}]"#;
    let tables = "[mcp_servers.files]\ncommand = \"mcp-files\"\nargs = [\"/srv\"]\nenv = { TOKEN = \"t\" }\n";
    let object = r#"{"mcpServers": {"files": {"command": "mcp-files", "args": ["/srv"], "env": {"TOKEN": "t"}}}}"#;
    let variable = |value| load(None, &[("CHAT_MCP_SERVERS", value)]).unwrap();
    for config in [
        load(Some(file), &[]).unwrap(),
        load(Some(tables), &[]).unwrap(),
        variable(json),
        variable(object),
    ] {
        let servers: Vec<_> = config
            .mcp_servers
            .servers
            .into_iter()
            .map(|server| server.server)
            .collect();
        assert_eq!(servers.len(), 1);
        assert_eq!(
            (servers[0].name.as_str(), &servers[0].command),
            ("files", &PathBuf::from("mcp-files"))
        );
        assert_eq!(servers[0].args, ["/srv"]);
        assert_eq!(servers[0].env["TOKEN"], "t");
    }
}

#[test]
fn faults_of_mcp_servers_name_the_server_and_the_key() {
    let json = r#"{"mcpServers": {"web": {"url": "https://example.com"}, "files": {"command": "x", "env": {"KEY": []}}}}"#;
    let faults = load(None, &[("CHAT_MCP_SERVERS", json)]).unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert_eq!(
        faults[0],
        "CHAT_MCP_SERVERS: files: `env.KEY` is not a text, a number or a boolean"
    );
    assert!(
        faults[1].starts_with(
            "CHAT_MCP_SERVERS: web: `url` is rejected: streamable HTTP is not supported yet"
        ),
        "{faults:?}"
    );
}

#[test]
fn invalid_values_are_named_with_the_expected_form() {
    let wrong = [
        (
            "CHAT_LISTEN",
            "8080",
            r#"CHAT_LISTEN: "8080" is not an address with a port, such as 127.0.0.1:8080 or [::1]:8080"#,
        ),
        (
            "CHAT_LEASE",
            "10",
            r#"CHAT_LEASE: "10" has no unit; write 500ms, 5s, 5m or 1h"#,
        ),
        (
            "CHAT_TURN_TIMEOUT",
            "9000h",
            r#"CHAT_TURN_TIMEOUT: "9000h" is longer than a year"#,
        ),
        (
            "CHAT_POLL",
            "soon",
            r#"CHAT_POLL: "soon" is not a time above 0, such as 500ms, 10s, 5m or 1h"#,
        ),
        (
            "CHAT_HTTP_THREADS",
            "513",
            r#"CHAT_HTTP_THREADS: "513" is not a whole number from 1 to 512"#,
        ),
        (
            "CHAT_TURN_THREADS",
            "100000",
            r#"CHAT_TURN_THREADS: "100000" is not a whole number from 1 to 512"#,
        ),
        (
            "CHAT_DATABASE_READERS",
            "4294967295",
            r#"CHAT_DATABASE_READERS: "4294967295" is not a whole number from 1 to 256"#,
        ),
        (
            "DATABASE_URL",
            "mysql://x",
            "DATABASE_URL: the value (not shown) is not a URL that begins with sqlite:// or postgres://, \
             such as sqlite:///var/lib/chat/chat.db or postgres://chat:password@localhost/chat",
        ),
        (
            "CHAT_QUEUE_LIMIT",
            "0",
            r#"CHAT_QUEUE_LIMIT: "0" is not a whole number from 1 to 4294967295"#,
        ),
        (
            "CHAT_BODY_LIMIT",
            "1GB",
            r#"CHAT_BODY_LIMIT: "1GB" is not a number of bytes, such as 65536, 64KiB or 1MiB"#,
        ),
        (
            "CHAT_AGENT",
            "gpt",
            r#"CHAT_AGENT: "gpt" is not demo or openai"#,
        ),
        (
            "CHAT_DEMO_TOOLS",
            "yes",
            r#"CHAT_DEMO_TOOLS: "yes" is not true or false"#,
        ),
        (
            "CHAT_LOG_FORMAT",
            "xml",
            r#"CHAT_LOG_FORMAT: "xml" is not text or json"#,
        ),
        (
            "CHAT_JWT_SECRET",
            "hunter2",
            "CHAT_JWT_SECRET: the value (not shown) is not at least 32 bytes long",
        ),
    ];
    for (name, value, expected) in wrong {
        assert_eq!(fault(&[(name, value)]), expected);
    }
    let shared = ("DATABASE_URL", "postgres://chat@localhost/chat");
    for (inner, outer) in [
        (
            "CHAT_DATABASE_STATEMENT_TIMEOUT",
            "CHAT_DATABASE_ACQUIRE_TIMEOUT",
        ),
        ("CHAT_DATABASE_ACQUIRE_TIMEOUT", "CHAT_DATABASE_TIMEOUT"),
        ("CHAT_DATABASE_CONNECT_TIMEOUT", "CHAT_DATABASE_TIMEOUT"),
    ] {
        let too_long = fault(&[shared, (inner, "20s"), ("CHAT_DATABASE_TIMEOUT", "20s")]);
        assert!(
            too_long.starts_with(&format!("{inner}: must be shorter than {outer}")),
            "{too_long}"
        );
    }
    assert!(
        fault(&[("CHAT_LEASE", "1s")])
            .starts_with("CHAT_LEASE: must be at least twice as long as CHAT_HEARTBEAT")
    );
}

#[test]
fn all_faults_are_reported_together() {
    let faults = load(
        Some("turn_timeout = 3\nleese = \"1s\"\n"),
        &[("CHAT_LISTEN", "x")],
    )
    .unwrap_err();
    assert_eq!(
        faults,
        [
            "chat.toml: unknown setting `leese`",
            r#"CHAT_LISTEN: "x" is not an address with a port, such as 127.0.0.1:8080 or [::1]:8080"#,
            r#"chat.toml: turn_timeout (CHAT_TURN_TIMEOUT): "3" has no unit; write 500ms, 5s, 5m or 1h"#,
        ]
    );
}

#[test]
fn secrets_are_never_shown() {
    let variables = [
        ("CHAT_JWT_SECRET", SECRET),
        ("CHAT_AGENT_API_KEY", "hunter2"),
        ("DATABASE_URL", "sqlite://hunter2.db"),
        ("CHAT_AGENT_URL", "https://user:hunter2@host/v1"),
        ("CHAT_AGENT_MODEL", "m"),
        (
            "CHAT_MCP_SERVERS",
            r#"[{"name": "a", "command": "b", "env": {"TOKEN": "hunter2"}}]"#,
        ),
    ];
    let shown = format!("{:?}", load(None, &variables).unwrap());
    assert!(
        !shown.contains("hunter2") && !shown.contains(SECRET),
        "{shown}"
    );

    let wrong = [
        "jwt_secret = \"hunter2\"",
        "jwt_secret = 'hunter2' 'hunter2'",
        "jwt_secret = hunter2",
        "jwt_secret = [\"hunter2\"]",
        "agent_api_key = { key = \"hunter2\" }",
        "database_url = \"mysql://user:hunter2@host/db\"",
        "mcp_servers = \"hunter2\"",
        "mcp_servers = [{ name = \"a\", command = \"b\", env = \"hunter2\" }]",
    ];
    for file in wrong {
        let faults = load(Some(file), &[]).unwrap_err().join("\n");
        assert!(faults.contains("chat.toml"), "{faults}");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
}

#[test]
fn without_a_secret_only_loopback_is_allowed() {
    for listen in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80"] {
        let fault = fault(&[("CHAT_LISTEN", listen)]);
        assert!(fault.contains("set CHAT_JWT_SECRET"), "{fault}");
        assert!(
            load(
                None,
                &[("CHAT_LISTEN", listen), ("CHAT_JWT_SECRET", SECRET)]
            )
            .is_ok()
        );
    }
    assert!(load(None, &[("CHAT_LISTEN", "[::1]:8080")]).is_ok());
    assert!(fault(&[("CHAT_JWT_ISSUER", "idp")]).contains("CHAT_JWT_SECRET"));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some("no/such/chat.toml".as_ref()), []).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no/such/chat.toml: cannot read the file"),
        "{error}"
    );
}

#[test]
fn unknown_variables_are_collected() {
    let config = load(
        None,
        &[
            ("CHAT_LEESE", "1s"),
            ("CHAT_CONFIG", "x"),
            ("HOME", "y"),
            ("CHAT_LEASE", "9s"),
        ],
    )
    .unwrap();
    assert_eq!(config.unknown_variables, ["CHAT_LEESE"]);
}

/// Fails if `docs/configuration.md` differs from the table of settings. `cargo xtask docs` updates
/// it.
#[test]
fn the_reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(path, reference()).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap() == reference(),
        "docs/configuration.md is out of date: run `cargo xtask docs`"
    );
}
