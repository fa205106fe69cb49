//! Start, restart and end of server processes.

use std::time::Duration;

use chat_domain::{CallError, ToolErrorKind};
use chat_tools_mcp::{McpServer, McpToolset};

use crate::support::{ALL_TOOLS, Logs, TestServer, call, eventually, kind, names};

#[tokio::test]
async fn a_dead_server_is_restarted() {
    let server = TestServer::new("one");
    let tools = server.start();
    for deaths in 1..=2 {
        assert_eq!(call(&tools, "die", "{}").await, Err(CallError::Unknown));
        // Callers wait for a server that is being restarted, so no delay is needed here.
        eventually("the server is called again", async || {
            match call(&tools, "words", "{}").await {
                Ok(_) => true,
                // The call was sent between the death of the process and its detection.
                Err(CallError::Unknown) => false,
                Err(CallError::Failed(error)) => panic!("{error}"),
            }
        })
        .await;
        assert_eq!(server.logged("start"), deaths + 1);
    }
}

#[tokio::test]
async fn a_server_that_fails_to_start_is_retried() {
    let server = TestServer::new("one").with_file("needs");
    let tools = server.start();
    assert!(names(&tools).await.is_empty());
    assert_eq!(
        kind(call(&tools, "words", "{}").await),
        ToolErrorKind::UnknownTool,
        "its tools are unknown"
    );
    std::fs::write(server.file(), "").unwrap();
    eventually("its tools are available", async || {
        !names(&tools).await.is_empty()
    })
    .await;
    assert!(call(&tools, "words", "{}").await.is_ok());
    assert!(server.logged("start") >= 2);
}

#[tokio::test]
async fn tools_of_an_unavailable_server_are_hidden_and_keep_their_names() {
    let server = TestServer::new("one").with_file("needs");
    std::fs::write(server.file(), "").unwrap();
    let tools = server.start();
    assert_eq!(names(&tools).await.len(), ALL_TOOLS);
    std::fs::remove_file(server.file()).unwrap();
    assert_eq!(call(&tools, "die", "{}").await, Err(CallError::Unknown));
    eventually("its tools are gone", async || {
        names(&tools).await.is_empty()
    })
    .await;
    assert_eq!(
        kind(call(&tools, "words", "{}").await),
        ToolErrorKind::Unavailable
    );
    std::fs::write(server.file(), "").unwrap();
    eventually("its tools are back", async || {
        names(&tools).await.len() == ALL_TOOLS
    })
    .await;
}

#[tokio::test]
async fn the_environment_is_limited_to_the_settings() {
    let mut server = TestServer::new("one");
    server.settings.env.insert("SPECIAL".into(), "given".into());
    let tools = server.start();
    let answer: serde_json::Value =
        serde_json::from_str(&call(&tools, "environment", "{}").await.unwrap()).unwrap();
    assert_eq!(answer["SPECIAL"], "given");
    let names: Vec<&str> = answer["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert!(
        std::env::var("CARGO_MANIFEST_DIR").is_ok(),
        "the tests' own environment holds more"
    );
    let expected = ["HOME", "LANG", "LC_ALL", "PATH", "SPECIAL", "TMPDIR", "TZ"];
    assert!(
        names.iter().all(|name| expected.contains(name)),
        "{names:?}"
    );
}

#[tokio::test]
async fn shutdown_ends_processes_gracefully() {
    let server = TestServer::new("one");
    let tools = server.start();
    names(&tools).await;
    tools.shutdown().await;
    assert_eq!(server.log(), ["start", "list", "end"]);
    assert!(names(&tools).await.is_empty());
    assert_eq!(
        kind(call(&tools, "words", "{}").await),
        ToolErrorKind::Unavailable
    );
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_starting_server() {
    let server = TestServer::new("slow").with_file("slow");
    let tools = server.start();
    eventually("the server started", async || server.logged("start") == 1).await;
    tools.shutdown().await;
    assert!(names(&tools).await.is_empty());
}

#[tokio::test]
async fn dropping_the_toolset_ends_the_processes() {
    let server = TestServer::new("one");
    let tools = server.start();
    names(&tools).await;
    drop(tools);
    eventually("the child ended", async || server.logged("end") == 1).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_a_ping_is_restarted() {
    let logs = Logs::capture();
    let mut server = TestServer::new("one");
    server.settings.call_timeout = Duration::from_millis(200);
    let tools = server.start();
    names(&tools).await;
    assert_eq!(call(&tools, "freeze", "{}").await, Err(CallError::Unknown));
    eventually("its tools are gone", async || {
        names(&tools).await.is_empty()
    })
    .await;
    assert_eq!(
        kind(call(&tools, "words", "{}").await),
        ToolErrorKind::Unavailable,
        "a known tool of an unavailable server"
    );
    eventually("it works again", async || {
        call(&tools, "words", "{}").await.is_ok()
    })
    .await;
    assert_eq!(
        (server.logged("start"), logs.count("does not answer, ended")),
        (2, 1),
        "{}",
        logs.text()
    );
}

#[tokio::test]
async fn a_server_that_answers_a_ping_is_kept() {
    let mut server = TestServer::new("one");
    server.settings.call_timeout = Duration::from_millis(200);
    let tools = server.start();
    for _ in 0..3 {
        assert_eq!(call(&tools, "hang", "{}").await, Err(CallError::Unknown));
    }
    assert!(call(&tools, "words", "{}").await.is_ok());
    assert_eq!(server.logged("start"), 1);
}

/// Returns a server behind a shell that survives the end of its input, ignores SIGTERM, and has a
/// child process.
fn behind_a_shell(server: &TestServer) -> McpServer {
    let mut shell = server.settings.clone();
    let pids = server.file();
    let script = format!(
        "trap '' TERM; sleep 300 & echo $! $$ > '{0}.new'; mv '{0}.new' '{0}'; '{1}' \"$@\"; \
        sleep 300; :",
        pids.display(),
        shell.command.display()
    );
    shell
        .args
        .splice(0..0, ["-c".to_owned(), script, "sh".to_owned()]);
    shell.command = "sh".into();
    shell
}

/// Returns the ids of the processes that [`behind_a_shell`] starts.
async fn pids(server: &TestServer) -> Vec<u32> {
    eventually("the processes are known", async || server.file().exists()).await;
    std::fs::read_to_string(server.file())
        .unwrap()
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// Whether a process runs. A zombie does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[tokio::test]
async fn shutdown_ends_the_whole_process_group() {
    let server = TestServer::new("one").with("stubborn");
    let tools = McpToolset::start(vec![behind_a_shell(&server)]).unwrap();
    eventually("its tools are available", async || {
        !names(&tools).await.is_empty()
    })
    .await;
    let pids = pids(&server).await;
    assert!(pids.len() == 2 && pids.iter().all(|pid| runs(*pid)));
    assert!(
        tokio::time::timeout(McpToolset::SHUTDOWN_LIMIT * 4, tools.shutdown())
            .await
            .is_ok()
    );
    assert!(!pids.iter().any(|pid| runs(*pid)), "{pids:?}");
    assert!(pids.iter().all(|pid| !is_child(*pid)), "no zombie is left");
}

fn is_child(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
        == Some(std::process::id())
}

#[tokio::test]
async fn a_failed_start_leaves_no_process() {
    let mut server = TestServer::new("one").with("slow=/no/such/file");
    server.settings.start_timeout = Duration::from_secs(1);
    let tools = McpToolset::start(vec![behind_a_shell(&server)]).unwrap();
    let pids = pids(&server).await;
    eventually("the processes have ended", async || {
        !pids.iter().any(|pid| runs(*pid))
    })
    .await;
    drop(tools);
}

#[tokio::test]
async fn a_process_group_ends_although_its_leader_died() {
    let server = TestServer::new("one");
    let tools = McpToolset::start(vec![behind_a_shell(&server)]).unwrap();
    eventually("its tools are available", async || {
        !names(&tools).await.is_empty()
    })
    .await;
    let pids = pids(&server).await;
    let killed = std::process::Command::new("sh")
        .args(["-c", &format!("kill -KILL {}", pids[1])])
        .status()
        .unwrap();
    assert!(killed.success());
    eventually("the leader has been reaped", async || {
        !std::path::Path::new(&format!("/proc/{}", pids[1])).exists()
    })
    .await;
    // The server holds the pipes and continues.
    assert!(call(&tools, "words", "{}").await.is_ok());
    drop(tools);
    eventually("the processes have ended", async || {
        !pids.iter().any(|pid| runs(*pid))
    })
    .await;
}

/// Runs in a separate process that the test below kills.
#[tokio::test]
async fn helper_that_is_killed() {
    let Some(log) = std::env::var_os("KILLED_TEST_LOG") else {
        return;
    };
    let mut server = TestServer::new("one").with("stubborn");
    server.settings.args[0] = log.into_string().unwrap();
    let mut shell = behind_a_shell(&server);
    shell.args[1] = shell.args[1].replace(
        &server.file().display().to_string(),
        &std::env::var("KILLED_TEST_FILE").unwrap(),
    );
    let tools = McpToolset::start(vec![shell]).unwrap();
    eventually("its tools are available", async || {
        !names(&tools).await.is_empty()
    })
    .await;
    std::fs::write(std::env::var_os("KILLED_TEST_READY").unwrap(), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn killing_the_program_ends_all_processes() {
    let server = TestServer::new("one");
    let ready = server.directory.path().join("ready");
    let mut program = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "children::helper_that_is_killed", "--nocapture"])
        .env("KILLED_TEST_LOG", server.directory.path().join("log"))
        .env("KILLED_TEST_FILE", server.file())
        .env("KILLED_TEST_READY", &ready)
        .spawn()
        .unwrap();
    eventually("the program has its tools", async || ready.exists()).await;
    let pids = pids(&server).await;
    assert!(pids.iter().all(|pid| runs(*pid)));
    program.kill().unwrap();
    program.wait().unwrap();
    eventually("the processes have ended", async || {
        !pids.iter().any(|pid| runs(*pid))
    })
    .await;
}
