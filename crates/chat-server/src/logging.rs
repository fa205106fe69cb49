//! Log lines, to standard error.

mod malformed;
mod stderr;

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::{LogFilter, LogFormat};

pub use stderr::{lost_lines, write_to_stderr};

/// Libraries that log needless lines at `info`, or content at lower levels. Named filters
/// win over these.
const QUIET: &str = "actix_http=warn,actix_server=warn,hyper=warn,reqwest=warn,rmcp=warn,rustls=warn,sea_orm=warn,sea_orm_migration=warn,sqlx=warn";

/// Sends the log lines of this process to standard error from now on, those of panics included.
///
/// A line that cannot be written (full disk, closed pipe or terminal) is dropped and counted; the
/// process continues.
///
/// # Panics
/// If it was called before.
pub fn start(format: LogFormat, filter: &LogFilter) {
    let shows_library_errors = filter.0.contains("actix_http");
    let filter = EnvFilter::builder().parse_lossy(format!("{QUIET},{}", filter.0));
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // The library reports its own write errors with `eprintln!`, which panics on the stream that
    // has just failed.
    let lines = fmt::layer()
        .with_writer(stderr::line_writer)
        .log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    };
    let malformed = (!shows_library_errors).then(malformed::Summary::default);
    tracing_subscriber::registry()
        .with(filter)
        .with(malformed)
        .with(lines)
        .init();
    // A panic within this hook would abort the process: nothing in it may fail.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let what = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(place, what, "panic: a fault of the program");
    }));
}
