//! Signals of the operating system.

use std::process::Command;

use crate::process::{Server, get, program, request_to_agent, silent_agent, token, with_agent};

#[test]
fn stop_signals_hand_over_the_turns() {
    for name in ["HUP", "QUIT", "INT", "TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let (agent, url) = silent_agent();
        let mut server =
            Server::start(with_agent(folder.path(), &url).env("CHAT_SHUTDOWN_GRACE", "50ms"));
        let _request = server.send(&token());
        let _question = request_to_agent(&agent);
        server.signal(name);
        let log = Server::read_until(&mut server.stderr, "stopped");
        assert!(log.contains("turn released"), "{name}:\n{log}");
        assert_eq!(server.exit_code(), Some(0), "{name}");
    }
}

#[test]
fn user_signals_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&mut program(folder.path()));
    for name in ["USR1", "USR2"] {
        server.signal(name);
        Server::read_until(
            &mut server.stderr,
            &format!("signal ignored signal=\"SIG{name}\""),
        );
        assert!(get(server.address, "/health/live").starts_with("HTTP/1.1 200 "));
    }
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn an_ignored_hang_up_stays_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' HUP; exec \"$0\""])
        .arg(program.get_program())
        .current_dir(folder.path())
        .env_clear();
    shell.envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let server = Server::start(&mut shell);
    server.signal("HUP");
    assert!(get(server.address, "/health/live").starts_with("HTTP/1.1 200 "));
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
}
