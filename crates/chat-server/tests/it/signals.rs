//! What the program does on signals.

use std::process::Command;

use crate::process::{Server, asked, get, program, silent_agent, token, with_agent};

#[test]
fn the_usual_signals_stop_it_with_a_hand_over() {
    for name in ["HUP", "QUIT", "INT", "TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let (agent, url) = silent_agent();
        let mut server =
            Server::start(with_agent(folder.path(), &url).env("CHAT_SHUTDOWN_GRACE", "50ms"));
        let _request = server.send(&token());
        let _question = asked(&agent);
        server.signal(name);
        let log = Server::read_until(&mut server.stderr, "stopped");
        assert!(log.contains("turn released"), "{name}:\n{log}");
        assert_eq!(server.exit_code(), Some(0), "{name}");
    }
}

#[test]
fn signals_for_users_are_ignored() {
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
fn a_hang_up_that_was_ignored_at_the_start_stays_ignored() {
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
