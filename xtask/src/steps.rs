//! Commands that run one after another, each shown with its time.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::root;

/// A command of ours failed, and how.
#[derive(Debug)]
pub struct Failed(pub String);

/// One command.
pub struct Step {
    name: &'static str,
    command: Command,
}

impl Step {
    /// A call of cargo, in the workspace's folder.
    pub fn cargo(name: &'static str, arguments: &[&str]) -> Self {
        let mut command = Command::new(cargo());
        command.args(arguments).current_dir(root());
        Self { name, command }
    }

    /// A call of another program, in a folder.
    pub fn program(name: &'static str, program: &str, arguments: &[&str], folder: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder);
        Self { name, command }
    }

    /// In the folder that we were started in.
    pub fn here(mut self) -> Result<Self, Failed> {
        let here = std::env::current_dir().map_err(|error| Failed(format!("{}: there is no working folder: {error}", self.name)))?;
        self.command.current_dir(here);
        Ok(self)
    }

    /// With this variable set.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it, with its output shown.
    pub fn run(mut self) -> Result<(), Failed> {
        let name = self.name;
        eprintln!("\n=== {name}");
        let begun = Instant::now();
        let status = self.command.status().map_err(|error| Failed(format!("{name}: cannot be started: {error}")))?;
        eprintln!("=== {name}: {} after {:.0} s", if status.success() { "good" } else { "FAILED" }, begun.elapsed().as_secs_f32());
        if status.success() { Ok(()) } else { Err(Failed(format!("{name} failed ({status})"))) }
    }
}

/// What a command writes.
pub fn output(program: &str, arguments: &[&str]) -> Result<Vec<u8>, Failed> {
    let program = if program == "cargo" { cargo() } else { program.into() };
    let shown = format!("{} {}", program.to_string_lossy(), arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .map_err(|error| Failed(format!("{shown}: cannot be started: {error}")))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Failed(format!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }
}

/// The cargo that runs us.
fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
