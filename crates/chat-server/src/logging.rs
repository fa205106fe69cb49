//! Log lines on standard error.

mod malformed;
mod stderr;

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::{LogFilter, LogFormat};

pub use stderr::{lost_lines, write_to_stderr};

/// Levels of libraries that log noise at `info`, or content at lower levels. The user's filter
/// takes precedence.
const LIBRARY_LEVELS: &str = "actix_http=warn,actix_server=warn,hyper=warn,reqwest=warn,rmcp=warn,\
    rustls=warn,sea_orm=warn,sea_orm_migration=warn,sqlx=warn";

/// Writes the log lines of this process, including those of panics, to standard error from now on.
///
/// A line that cannot be written (full disk, closed pipe or terminal) is dropped and counted; the
/// process continues.
///
/// # Panics
/// If it was called before.
pub fn start(format: LogFormat, filter: &LogFilter) {
    let shows_library_errors = filter.0.contains("actix_http");
    let filter = EnvFilter::builder().parse_lossy(format!("{LIBRARY_LEVELS},{}", filter.0));
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // The library would report its write errors with `eprintln!`, which panics if standard error
    // cannot be written.
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
        let location = panic.location().map(ToString::to_string);
        let error = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(location, error, "panic");
    }));
}
