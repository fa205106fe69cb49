//! The server continues if its standard error or standard output cannot be written.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::process::{get, program};

/// How long a test waits for a state of the server.
const LIMIT: Duration = Duration::from_secs(30);

/// A server whose outputs belong to the test. Killed when dropped.
struct Silent {
    child: Child,
    address: SocketAddr,
}

impl Silent {
    /// Starts the server at an address that was free just before, because the server may be unable
    /// to print another one, and waits until it answers.
    fn start(command: &mut Command) -> Self {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let child = command
            .env("CHAT_LISTEN", address.to_string())
            .spawn()
            .unwrap();
        let mut server = Self { child, address };
        let started = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended at its start: {status}");
            }
            assert!(started.elapsed() < LIMIT, "the server does not listen");
            std::thread::yield_now();
        }
        server
    }

    fn answers(&self) {
        let answer = get(self.address, "/health/live");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    fn stop(mut self) -> ExitStatus {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn full() -> Stdio {
    OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

#[test]
fn a_full_disk_does_not_stop_the_server() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = program(folder.path());
        let server = Silent::start(
            command
                .env("CHAT_LOG_FORMAT", format)
                .stdout(full())
                .stderr(full()),
        );
        for _ in 0..3 {
            server.answers();
        }
        let ready = get(server.address, "/health/ready");
        let (_, body) = ready.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body["lost_log_lines"].as_u64().unwrap() >= 3, "{ready}");
        assert_eq!(server.stop().code(), Some(0), "{format}");
    }
}

#[test]
fn closed_pipes_do_not_stop_the_server() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = program(folder.path());
        let mut server = Silent::start(
            command
                .env("CHAT_LOG_FORMAT", format)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        drop((server.child.stdout.take(), server.child.stderr.take()));
        for _ in 0..3 {
            server.answers();
        }
        assert_eq!(server.stop().code(), Some(0), "{format}");
    }
}

#[test]
fn closed_outputs_do_not_stop_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec \"$0\" >&- 2>&-"])
        .arg(program.get_program())
        .current_dir(folder.path())
        .env_clear();
    shell.envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let server = Silent::start(&mut shell);
    server.answers();
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn invalid_settings_have_their_exit_code_without_an_output() {
    let folder = tempfile::tempdir().unwrap();
    let status = program(folder.path())
        .env("CHAT_LEASE", "soon")
        .stderr(full())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}

/// Opens a named pipe for reading. The server has the other end.
fn reader(pipe: &Path) -> BufReader<File> {
    BufReader::new(File::open(pipe).unwrap())
}

#[test]
fn lost_lines_are_counted_and_the_count_is_logged_later() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("log");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        // Read and write access, so that opening does not wait for the other end.
        let mut both = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&pipe)
            .unwrap();
        let write_end = OpenOptions::new().write(true).open(&pipe).unwrap();
        both.write_all(b"\n").unwrap();
        let mut command = program(folder.path());
        let server = Silent::start(
            command
                .env("CHAT_LOG_FORMAT", format)
                .stdout(Stdio::null())
                .stderr(write_end),
        );
        drop(command);
        drop(both);
        for _ in 0..5 {
            server.answers();
        }
        let mut log = reader(&pipe);
        server.answers();
        let mut text = String::new();
        while !text
            .lines()
            .last()
            .is_some_and(|line| line.contains("log lines lost"))
        {
            assert!(
                log.read_line(&mut text).unwrap() > 0,
                "no line on lost lines in:\n{text}"
            );
        }
        let report = text.lines().last().unwrap();
        let lines: u64 = match format {
            "json" => serde_json::from_str::<serde_json::Value>(report).unwrap()["lines"]
                .as_u64()
                .unwrap(),
            _ => report
                .split("lines=")
                .nth(1)
                .unwrap()
                .split_whitespace()
                .next()
                .unwrap()
                .parse()
                .unwrap(),
        };
        assert!(lines >= 5, "{report}");
        let status = Command::new("kill")
            .args(["-TERM", &server.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("stopped"), "{rest}");
    }
}

#[test]
fn malformed_requests_are_summarized_in_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = crate::process::Server::start(&mut program(folder.path()));
    for _ in 0..5 {
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        stream.write_all(b"nonsense\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert!(get(server.address, "/health/live").starts_with("HTTP/1.1 200 "));
    server.signal("TERM");
    let log = crate::process::Server::read_until(&mut server.stderr, "stopped");
    assert_eq!(
        log.matches("malformed HTTP requests rejected").count(),
        1,
        "{log}"
    );
    assert!(
        !log.contains("ERROR")
            && !log.contains("request parse error: Invalid Header provided nonsense"),
        "{log}"
    );
}
