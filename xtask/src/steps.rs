//! Commands that are shown with their time.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

/// A failed command, with the reason.
#[derive(Debug)]
pub struct Failed(pub String);

/// A command.
pub struct Step {
    name: &'static str,
    command: Command,
}

impl Step {
    /// Creates a call of cargo in the workspace's folder.
    pub fn cargo(name: &'static str, arguments: &[&str]) -> Self {
        let mut command = Command::new(cargo());
        command.args(arguments).current_dir(root());
        Self { name, command }
    }

    /// Creates a call of another program in a folder.
    pub fn program(
        name: &'static str,
        program: impl AsRef<OsStr>,
        arguments: &[&str],
        folder: &Path,
    ) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder);
        Self { name, command }
    }

    /// Uses the current folder.
    pub fn here(mut self) -> Result<Self, Failed> {
        let here = std::env::current_dir().map_err(|error| {
            Failed(format!(
                "{}: the current folder does not exist: {error}",
                self.name
            ))
        })?;
        self.command.current_dir(here);
        Ok(self)
    }

    /// Runs the step in another folder.
    pub fn inside(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs the command and shows its output.
    pub fn run(mut self) -> Result<(), Failed> {
        self.command.stdout(Stdio::inherit());
        self.output().map(drop)
    }

    /// Runs the command and returns its output. Its errors are shown.
    pub fn output(mut self) -> Result<Vec<u8>, Failed> {
        let name = self.name;
        eprintln!("\n=== {name}");
        let begun = Instant::now();
        let output = self
            .command
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| Failed(format!("{name}: cannot be started: {error}")))?;
        let status = output.status;
        eprintln!(
            "=== {name}: {} after {:.0} s",
            if status.success() { "good" } else { "FAILED" },
            begun.elapsed().as_secs_f32()
        );
        if status.success() {
            Ok(output.stdout)
        } else {
            Err(Failed(format!("{name} failed ({status})")))
        }
    }
}

/// Builds all programs of the workspace and returns their paths.
pub fn programs() -> Result<Vec<PathBuf>, Failed> {
    let arguments = [
        "build",
        "--workspace",
        "--bins",
        "--all-features",
        "--message-format",
        "json-render-diagnostics",
    ];
    Ok(executables(
        &Step::cargo("build the programs", &arguments).output()?,
    ))
}

/// Returns the programs in cargo's messages.
pub fn executables(messages: &[u8]) -> Vec<PathBuf> {
    let messages = String::from_utf8_lossy(messages);
    let message = |line: &str| serde_json::from_str::<Value>(line).ok();
    messages
        .lines()
        .filter_map(message)
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .collect()
}

/// Returns cargo's description of the workspace.
pub fn metadata() -> Result<Value, Failed> {
    let json = output(
        "cargo",
        &[
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ],
    )?;
    serde_json::from_slice(&json).map_err(|error| Failed(format!("cargo metadata: {error}")))
}

/// Returns cargo's target folder.
pub fn target() -> Result<PathBuf, Failed> {
    let metadata = metadata()?;
    let folder = metadata.get("target_directory").and_then(Value::as_str);
    folder
        .map(PathBuf::from)
        .ok_or_else(|| Failed("cargo metadata names no target directory".to_owned()))
}

/// Runs a command and returns its output.
pub fn output(program: &str, arguments: &[&str]) -> Result<Vec<u8>, Failed> {
    let program = if program == "cargo" {
        cargo()
    } else {
        program.into()
    };
    let shown = format!("{} {}", program.to_string_lossy(), arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .map_err(|error| Failed(format!("{shown}: cannot be started: {error}")))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Failed(format!(
            "{shown}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }
}

/// Returns the cargo that runs this program.
fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Finds a program in the folders of `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// The folder of the workspace.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}
