//! A server's process group, which ends as a whole.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid,
};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep};

use crate::McpServer;

/// Environment variables that a server inherits: enough to find programs and files, and none that
/// could be a secret.
const INHERITED_ENV: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"];

/// How long the group may take to end after its standard input was closed, as MCP requires.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the group may take to end after SIGTERM.
const TERM_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the system may take to remove the group after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time that ending a group takes.
pub(crate) const MAX_END_TIME: Duration = CLOSE_TIMEOUT
    .saturating_add(TERM_TIMEOUT)
    .saturating_add(KILL_TIMEOUT);
/// Poll interval for the end of a group: the system reports the exit of a process, but not that of
/// a group.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Shell script that reads until the end of its input, which comes when this program exits for any
/// reason, and then ends the group.
const WATCHDOG: &str = concat!(
    r#"read -r _; kill -s TERM -- "-$1" 2>/dev/null || exit 0; sleep 2; "#,
    r#"kill -s KILL -- "-$1" 2>/dev/null"#,
);

/// A process group. Dropping it kills the group.
pub(crate) struct Process {
    leader: Child,
    group: Pid,
    /// Ends the group if this program is killed. `None` where there is no shell.
    watchdog: Option<Child>,
    is_ended: bool,
}

/// The standard streams of a process.
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

impl Process {
    /// Starts the server's program as the leader of a new process group.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(crate) fn start(settings: &McpServer) -> io::Result<(Self, Pipes)> {
        let mut leader = command(settings).spawn()?;
        let id = leader
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let group = id.ok_or_else(|| io::Error::other("the process has no id"))?;
        let watchdog = watchdog(group)
            .inspect_err(|error| tracing::debug!(%error, "tool server watchdog cannot be started"))
            .ok();
        let pipes = (
            leader.stdin.take(),
            leader.stdout.take(),
            leader.stderr.take(),
        );
        let process = Self {
            leader,
            group,
            watchdog,
            is_ended: false,
        };
        match pipes {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok((
                process,
                Pipes {
                    stdin,
                    stdout,
                    stderr,
                },
            )),
            _ => Err(io::Error::other("the process has no standard streams")),
        }
    }

    /// Waits until the leader exits, and reaps it.
    pub(crate) async fn reap(&mut self) {
        // An error means that there is nothing to reap.
        let _ = self.leader.wait().await;
    }

    /// Ends the group, whose standard input the caller has closed: waits, then sends SIGTERM, then
    /// SIGKILL, within [`MAX_END_TIME`]. Returns the leader's exit status if it is known.
    pub(crate) async fn end(mut self) -> Option<ExitStatus> {
        let mut has_ended = self.ends_within(CLOSE_TIMEOUT).await;
        for (signal, limit) in [(Signal::TERM, TERM_TIMEOUT), (Signal::KILL, KILL_TIMEOUT)] {
            if !has_ended {
                // The group may have ended already.
                let _ = kill_process_group(self.group, signal);
                has_ended = self.ends_within(limit).await;
            }
        }
        if !has_ended {
            tracing::warn!(
                group = self.group.as_raw_nonzero().get(),
                "tool server process does not end"
            );
        }
        self.is_ended = true;
        if let Some(mut watchdog) = self.watchdog.take() {
            // If the watchdog cannot be killed, it ends when its input is closed.
            let _ = watchdog.kill().await;
        }
        self.leader.try_wait().ok().flatten()
    }

    async fn ends_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if self.has_ended() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Whether the group has no process left. Reaps its exited processes.
    fn has_ended(&mut self) -> bool {
        if matches!(self.leader.try_wait(), Ok(None)) {
            return false;
        }
        // Orphans of the group become children of this program if it is the first process of a
        // container.
        while let Ok(Some(_)) = waitpgid(self.group, WaitOptions::NOHANG) {}
        test_kill_process_group(self.group) == Err(Errno::SRCH)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_ended {
            // The group may have ended already.
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }
}

fn command(settings: &McpServer) -> Command {
    let mut command = Command::new(&settings.command);
    command
        .args(&settings.args)
        .env_clear()
        .envs(inherited_env())
        .envs(&settings.env);
    if let Some(directory) = &settings.cwd {
        command.current_dir(directory);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Ctrl-C in a terminal must reach this program only.
    command.process_group(0).kill_on_drop(true);
    command
}

fn watchdog(group: Pid) -> io::Result<Child> {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", WATCHDOG, "sh", &group.as_raw_nonzero().to_string()])
        .env_clear()
        .envs(inherited_env())
        .current_dir("/");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true).spawn()
}

fn inherited_env() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    INHERITED_ENV
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
}
