//! Log lines, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFilter, LogFormat};

/// Libraries that tell at `info` what nobody needs, or at lower levels what was said. Named filters win over these.
const QUIET: &str =
    "actix_http=warn,actix_server=warn,hyper=warn,reqwest=warn,rmcp=warn,rustls=warn,sea_orm=warn,sea_orm_migration=warn,sqlx=warn";

/// Sends the log lines of this process to standard error from now on, those of panics included.
///
/// # Panics
/// If it was called before.
pub fn start(format: LogFormat, filter: &LogFilter) {
    let filter = EnvFilter::builder().parse_lossy(format!("{QUIET},{}", filter.0));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match format {
        LogFormat::Text => lines.with_ansi(colours).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let what = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(place, what, "panic: a fault of the program");
    }));
}
