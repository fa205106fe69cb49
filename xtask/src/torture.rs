//! The fault campaign: on the program, or on one without a guard, which the campaign must detect.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::{self, Failed, Step, root};

/// Guards that can be removed, and the properties of which the campaign must then report one.
const SABOTAGES: &[(&str, &str)] = &[
    ("epoch", "transcripts,streams,answers,one-at-a-time"),
    ("idempotency", "idempotency"),
    ("write-before-run", "write-before-run"),
    ("refusals", "bounded,ends"),
];

/// The server under test.
const SERVER: &str = "chat-server-under-test";

/// Returns the guards that can be removed.
pub fn guards() -> impl Iterator<Item = &'static str> {
    SABOTAGES.iter().map(|(guard, _)| *guard)
}

/// Builds the programs and runs the campaign with these arguments.
pub fn run(arguments: &[&str]) -> Result<(), Failed> {
    let sabotage = arguments
        .iter()
        .position(|argument| *argument == "--sabotage");
    let Some(place) = sabotage else {
        return campaign(&steps::programs()?, arguments);
    };
    let mut arguments = arguments.to_vec();
    let name = arguments
        .drain(place..arguments.len().min(place + 2))
        .nth(1)
        .unwrap_or_default();
    let Some((name, expected)) = SABOTAGES.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = guards().collect();
        return Err(Failed(format!(
            "--sabotage: `{name}` is none of {}",
            known.join(", ")
        )));
    };
    if *name == "epoch" && !arguments.contains(&"--database") {
        // SQLite has one server, so nobody claims its turns while it is frozen.
        arguments.extend(["--database", "postgres"]);
    }
    let server = without(name)?.display().to_string();
    // Builds all programs with their guards.
    let programs = steps::programs()?;
    campaign(
        &programs,
        &[&arguments[..], &["--server", &server, "--expect", expected]].concat(),
    )
}

fn campaign(programs: &[PathBuf], arguments: &[&str]) -> Result<(), Failed> {
    let torture = program(programs, "torture")?;
    Step::program("torture", torture, arguments, &root()).run()
}

/// Builds a server without a guard. Dependencies are not rebuilt: only crates of the workspace see
/// the switch.
fn without(guard: &str) -> Result<PathBuf, Failed> {
    let folder = steps::target()?.join("sabotage").join(guard);
    let failed = |error: std::io::Error| Failed(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(failed)?;
    // Cargo distinguishes builds with different wrappers by the wrappers' paths.
    let wrapper = folder.join("rustc");
    std::fs::write(
        &wrapper,
        format!("#!/bin/sh\nexec \"$@\" --cfg 'sabotage=\"{guard}\"'\n"),
    )
    .map_err(failed)?;
    let executable = Command::new("chmod")
        .arg("+x")
        .arg(&wrapper)
        .status()
        .map_err(failed)?;
    if !executable.success() {
        return Err(Failed(format!("chmod {}: {executable}", wrapper.display())));
    }
    let arguments = [
        "build",
        "--workspace",
        "--all-features",
        "--bin",
        SERVER,
        "--message-format",
        "json-render-diagnostics",
    ];
    let built = Step::cargo("build the server without a guard", &arguments)
        .env("RUSTC_WORKSPACE_WRAPPER", &wrapper.to_string_lossy());
    let server = folder.join(SERVER);
    std::fs::copy(
        program(&steps::executables(&built.output()?), SERVER)?,
        &server,
    )
    .map_err(failed)?;
    Ok(server)
}

fn program<'a>(programs: &'a [PathBuf], name: &str) -> Result<&'a Path, Failed> {
    let found = programs
        .iter()
        .find(|program| program.file_stem().is_some_and(|stem| stem == name));
    found
        .map(PathBuf::as_path)
        .ok_or_else(|| Failed(format!("cargo did not build {name}")))
}
