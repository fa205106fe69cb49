//! The simulated world: on the domain as it is, or on one with faults planted into it, which the
//! simulator must notice.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use chat_test_postgres::URL_VARIABLE;

use crate::planted::{self, FAULTS};
use crate::steps::{self, Failed, Step, root};
use crate::test::Postgres;

/// The profile that it is built with.
const PROFILE: &str = "simulation";

/// The page that holds the table of planted faults, between two marks.
const PAGE: &str = "docs/SIMULATION.md";
const BEGIN: &str = "<!-- planted: written by cargo xtask simulate --planted -->";
const END: &str = "<!-- end -->";

/// Builds the simulator and runs it with these arguments.
pub fn run(arguments: &[&str]) -> Result<(), Failed> {
    match arguments {
        ["--planted", rest @ ..] => measure(rest),
        _ => {
            let simulator = build(&root())?;
            let simulate = Step::program("simulate", simulator, arguments, &root());
            if arguments.contains(&"postgres") || arguments.contains(&"--store=postgres") {
                let postgres = Postgres::start()?;
                return simulate.env(URL_VARIABLE, &postgres.url).run();
            }
            simulate.run()
        }
    }
}

/// Builds the simulator of a workspace.
fn build(workspace: &Path) -> Result<PathBuf, Failed> {
    let target = steps::target()?;
    let arguments = [
        "build",
        "--package",
        "chat-simulation",
        "--profile",
        PROFILE,
        "--target-dir",
        &target.to_string_lossy(),
        "--message-format",
        "json-render-diagnostics",
    ];
    let built = Step::cargo("build the simulator", &arguments).inside(workspace);
    let programs = steps::executables(&built.output()?);
    let found = programs.into_iter().next();
    found.ok_or_else(|| Failed("cargo has not built the simulator".to_owned()))
}

/// Measures how soon the simulator finds each planted fault, and writes the table. With names: only
/// those, and nothing is written.
fn measure(names: &[&str]) -> Result<(), Failed> {
    let simulator = build(&copy_with_faults()?)?;
    let mut table = String::from("| fault | found as | median of seeds |\n|---|---|---:|\n");
    let mut missed = Vec::new();
    for (fault, description) in FAULTS {
        if !names.is_empty() && !names.contains(fault) {
            continue;
        }
        let arguments = ["--planted", fault];
        let found = Step::program("planted", &simulator, &arguments, &root()).output()?;
        let line = String::from_utf8_lossy(&found);
        let line = line.trim();
        eprintln!("{fault}: {line}");
        match line.split_once('\t') {
            Some((property, median)) => {
                // Writing to a string cannot fail.
                let _ = writeln!(table, "| {description} | `{property}` | {median} |");
            }
            None => missed.push(*fault),
        }
    }
    if !missed.is_empty() {
        return Err(Failed(format!(
            "planted and not found: {}",
            missed.join(", ")
        )));
    }
    if names.is_empty() {
        write_table(&table)?;
    }
    Ok(())
}

/// The packages that the simulator is built of, and those that their tests use.
const PARTS: [&str; 6] = [
    "crates/chat-domain",
    "crates/chat-store-seaorm",
    "migrations",
    "tests/postgres",
    "tests/simulation",
    "tests/support",
];

/// A workspace of the domain and the simulator, with all faults planted and none switched on.
fn copy_with_faults() -> Result<PathBuf, Failed> {
    let folder = steps::target()?.join("planted");
    let failed = |error: std::io::Error| Failed(format!("{}: {error}", folder.display()));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(failed)?;
    }
    for part in PARTS {
        copy(&root().join(part), &folder.join(part)).map_err(failed)?;
    }
    for file in ["Cargo.lock", "rust-toolchain.toml"] {
        std::fs::copy(root().join(file), folder.join(file)).map_err(failed)?;
    }
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).map_err(failed)?;
    let mine = |line: &str| match line {
        _ if line.starts_with("members = ") => format!("members = {PARTS:?}"),
        _ if line.starts_with("default-members = ") => String::new(),
        _ if line.starts_with("unexpected_cfgs = ") => "unexpected_cfgs = \"allow\"".to_owned(),
        _ => line.to_owned(),
    };
    let manifest: Vec<String> = manifest.lines().map(mine).collect();
    std::fs::write(folder.join("Cargo.toml"), manifest.join("\n")).map_err(failed)?;
    planted::plant(&folder.join("crates/chat-domain/src"))?;
    let simulator = folder.join("tests/simulation/planted.rs");
    let text = std::fs::read_to_string(&simulator).map_err(failed)?;
    let hook = "pub fn plant(_: &str) {}";
    if text.matches(hook).count() != 1 {
        return Err(Failed(format!(
            "`{hook}` is not once in tests/simulation/planted.rs"
        )));
    }
    let planting = "pub fn plant(fault: &str) { chat_domain::planted::plant(fault.to_owned()) }";
    std::fs::write(&simulator, text.replace(hook, planting)).map_err(failed)?;
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            std::fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

fn write_table(table: &str) -> Result<(), Failed> {
    let path = root().join(PAGE);
    let failed = |error: std::io::Error| Failed(format!("{PAGE}: {error}"));
    let page = std::fs::read_to_string(&path).map_err(failed)?;
    let marks = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        marks.ok_or_else(|| Failed(format!("{PAGE} has no place for the table")))?;
    let page = format!("{before}{BEGIN}\n{table}{END}{after}");
    std::fs::write(&path, page).map_err(failed)
}
