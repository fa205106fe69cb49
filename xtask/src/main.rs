//! The project's commands. See [`USAGE`].

mod ci;
mod fingerprint;
mod import_cycles;
mod manifests;
mod page;
mod steps;
mod test;
mod tidy;
mod torture;

use std::process::ExitCode;

use chat_test_postgres::{Cluster, Options, URL_VARIABLE, install_if_missing};
use steps::{Failed, Step};

const USAGE: &str = "\
The project's commands.

Usage: cargo xtask <command>

  ci [--long]          everything that must hold before a change is taken: format, lints, docs, tidiness, all tests, and
                       a minute of the fault campaign on each database; with --long, longer ones, and proof that they notice
                       a missing guard
  ci lint|docs|test|campaign [--long]
                       one part of it
  test [filter]        all tests of the workspace, doc tests and tests with real processes included; starts a PostgreSQL for them,
                       or uses the server that CHAT_TEST_POSTGRES_URL names (a superuser's address of any database)
  test [--pgbouncer PATH] [--nginx PATH] [--haproxy PATH] [filter]
                       the tests with these programs too
  torture [args]       the fault campaign of docs/TORTURE.md: --minutes N --database sqlite|postgres --replicas R --seed S,
                       and --sabotage epoch|idempotency|write-before-run|refusals on a server that has that guard taken out
  tidy                 the rules no compiler holds: layers, manifests, file lengths, leftovers
  serve [args]         builds the chat page if there is Node.js, then the program, and runs it
  ui                   builds the chat page
  ui test [filter]     the tests of the chat page alone
  ui engines           what depends on the engine, in Chromium, Firefox (firefox-esr) and WebKitGTK (webkit2gtk-driver, xvfb)
  screenshots          makes the pictures of README.md and docs/ui.md again
  dist                 makes what is shipped: target/dist/chat-server, with the page in it
  docs                 writes docs/errors.md, docs/configuration.md, docs/openapi.json and the page's types from the code
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
        ["tidy"] => tidy::run(),
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

/// Writes the generated files. Each is written by the test that compares it with the code.
fn docs() -> Result<(), Failed> {
    let write = |name, package| {
        Step::cargo(
            "write a generated file",
            &["test", "--quiet", "--package", package, "--", name],
        )
        .env("UPDATE_DOCS", "1")
        .run()
    };
    write("the_document_is_the_table", "chat-protocol")?;
    write("the_reference_is_up_to_date", "chat-server")?;
    write("the_stored_description_is_up_to_date", "chat-server")?;
    page::generate_types()
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
