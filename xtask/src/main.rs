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

use std::process::ExitCode;

use chat_test_postgres::{Cluster, Options, URL_VARIABLE, install_if_missing};
use steps::{Failed, Step};

const USAGE: &str = "\
The project's commands.

Usage: cargo xtask <command>

  ci [--long]          run everything that CI runs: format, lints, docs, tidiness, all tests, and a
                       minute each of the simulation and of the fault campaign on each
                       database; with --long, longer
                       campaigns, which also show that they detect missing guards
  ci lint|docs|test|simulation|campaign [--long]
                       run one part of it
  test [filter]        run all tests of the workspace, including doc tests and tests with real
                       processes; start a PostgreSQL for them, or use the server in
                       CHAT_TEST_POSTGRES_URL (a superuser's URL of any database)
  test [--pgbouncer PATH] [--nginx PATH] [--haproxy PATH] [filter]
                       also run the tests with these programs
  torture [args]       run the fault campaign of docs/TORTURE.md: --minutes N
                       --database sqlite|postgres --replicas R --seed S, and
                       --sabotage epoch|idempotency|write-before-run|refusals for a server
                       without that guard
  simulate [args]      run the simulated world of docs/SIMULATION.md: --seeds N, --from S,
                       --minutes N, --jobs N, --seed S (one story), --faults a,b,…, --store
                       sqlite|postgres (a real store behind the faults); with
                       --planted [name …], on a domain with planted faults, which must be found
  tidy                 check the rules that no compiler checks: layers, manifests, file lengths,
                       leftovers, set phrases
  serve [args]         build the chat page if Node.js is installed, then the program, and run it
  ui                   build the chat page
  ui test [filter]     run the tests of the chat page
  ui engines           run the tests that depend on the browser engine, in Chromium, Firefox
                       (firefox-esr) and WebKitGTK (webkit2gtk-driver, xvfb)
  screenshots          recreate the pictures of README.md and docs/ui.md
  dist                 build the release: target/dist/chat-server with the page
  docs                 generate docs/errors.md, docs/configuration.md, docs/openapi.json and the
                       page's types from the code
  bench store [args]   measure the store (the figures of docs/PERFORMANCE.md)
  bench postgres       measure the store on a temporary PostgreSQL, compared with hand-written
                       transactions
  bench inflight [args]
                       measure thousands of waiting turns, and the time until the agent receives
                       a message: --turns N --database sqlite|postgres; fail if a goal of
                       docs/PERFORMANCE.md is missed
  bench replicas       measure the delay between two servers
  bench page           measure the chat page in a browser (the figures of docs/PERFORMANCE.md)
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

/// Measures the store on a temporary PostgreSQL that flushes each commit to disk.
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
