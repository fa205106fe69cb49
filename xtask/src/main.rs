//! The project's commands. See [`USAGE`].

mod ci;
mod fingerprint;
mod import_cycles;
mod manifests;
mod page;
mod planted;
mod simulate;
mod steps;
mod test;
mod tidy;
mod torture;

use std::path::PathBuf;
use std::process::ExitCode;

use chat_test_postgres::{Cluster, Options, URL_VARIABLE, install_if_missing};
use steps::{Failed, Step};

const USAGE: &str = "\
The project's commands.

Usage: cargo xtask <command>

  ci [--long]          everything that must hold before a change is taken: format, lints, docs, tidiness, all tests,
                       a minute of the simulated world, and one of the fault campaign on each database; with --long,
                       longer campaigns, and proof that they notice a missing guard
  ci lint|docs|test|simulation|campaign [--long]
                       one part of it
  test [filter]        all tests of the workspace, doc tests and tests with real processes included; starts a PostgreSQL for them,
                       or uses the server that CHAT_TEST_POSTGRES_URL names (a superuser's address of any database)
  test [--pgbouncer PATH] [--nginx PATH] [--haproxy PATH] [filter]
                       the tests with these programs too
  torture [args]       the fault campaign of docs/TORTURE.md: --minutes N --database sqlite|postgres --replicas R --seed S,
                       and --sabotage epoch|idempotency|write-before-run|refusals on a server that has that guard taken out
  simulate [args]      the simulated world of docs/SIMULATION.md: --seeds N, --from S, --minutes N, --jobs N, --seed S (one story),
                       --faults a,b,…; with --planted [name …], on a domain with faults planted into it, which must be found
  tidy                 the rules no compiler holds: layers, manifests, file lengths, leftovers
  serve [args]         builds the chat page if there is Node.js, then the program, and runs it
  ui                   builds the chat page
  ui test [filter]     the tests of the chat page alone
  ui engines           what depends on the engine, in Chromium, Firefox (firefox-esr) and WebKitGTK (webkit2gtk-driver, xvfb)
  screenshots          makes the pictures of README.md and docs/ui.md again
  dist                 makes what is shipped: target/dist/chat-server, with the page in it
  docs                 writes docs/errors.md and docs/configuration.md again from the code
  bench store [args]   measures the store (the numbers of docs/PERFORMANCE.md)
  bench postgres       measures the store on a PostgreSQL of its own beside transactions written by hand
  bench inflight [args]
                       measures thousands of turns that wait at once, and how soon the agent hears of a message: --turns N
                       --database sqlite|postgres; fails if a goal of docs/PERFORMANCE.md is missed
  bench replicas       measures how soon one server hears of what happens at another
  bench page           measures the chat page in a browser (the numbers of docs/PERFORMANCE.md)
  help                 this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["ci", rest @ ..] => ci::run(rest),
        ["test", rest @ ..] => test::all(rest),
        ["torture", rest @ ..] => torture::run(rest),
        ["simulate", rest @ ..] => simulate::run(rest),
        ["tidy"] => tidy(),
        ["docs"] => docs(),
        ["serve", rest @ ..] => page::serve(rest),
        ["ui"] => page::build(),
        ["ui", "engines"] => page::engines(),
        ["ui", "test", rest @ ..] => page::program("debug").and_then(|()| page::test(rest)),
        ["screenshots"] => page::screenshots(),
        ["dist"] => page::dist(),
        ["bench", "page"] => page::bench(),
        ["bench", "postgres", rest @ ..] => bench_postgres(rest),
        ["bench", "store", rest @ ..] => bench("chat-store-seaorm", "store", rest),
        ["bench", "inflight", rest @ ..] => bench("chat-tests", "inflight", rest),
        ["bench", "replicas", rest @ ..] => bench("chat-tests", "replicas", rest),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(what)) => {
            eprintln!("xtask: {what}");
            ExitCode::FAILURE
        }
    }
}

fn tidy() -> Result<(), Failed> {
    let faults = tidy::faults()?;
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    Err(Failed(format!("tidy: {} to mend", faults.len())))
}

/// Both pages are written by the tests that hold them.
fn docs() -> Result<(), Failed> {
    let write = |name, package| {
        Step::cargo(
            "write a generated page",
            &["test", "--quiet", "--package", package, "--", name],
        )
        .env("UPDATE_DOCS", "1")
        .run()
    };
    write("the_document_is_the_table", "chat-protocol")?;
    write("the_reference_is_up_to_date", "chat-server")
}

fn bench(package: &str, bench: &str, rest: &[&str]) -> Result<(), Failed> {
    let arguments = [
        &["bench", "--package", package, "--bench", bench, "--"],
        rest,
    ]
    .concat();
    Step::cargo("measure", &arguments).run()
}

/// On a PostgreSQL of its own, which waits for the disk at each commit.
fn bench_postgres(rest: &[&str]) -> Result<(), Failed> {
    let failed = |error: chat_test_postgres::Error| Failed(error.to_string());
    install_if_missing().map_err(failed)?;
    let cluster = Cluster::start(Options {
        durable: true,
        ..Options::default()
    })
    .map_err(failed)?;
    let arguments = [
        &[
            "bench",
            "--package",
            "chat-store-seaorm",
            "--bench",
            "postgres",
            "--",
        ],
        rest,
    ]
    .concat();
    Step::cargo("measure", &arguments)
        .env(URL_VARIABLE, &cluster.url("postgres"))
        .run()
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}
