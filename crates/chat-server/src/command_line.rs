//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::config::Config;
use crate::logging;
use crate::run::serve;
use crate::serve_error::ServeError;

/// A chat backend that keeps every conversation in its database and nothing in memory.
///
/// Without any setting it serves this machine alone, with an offline demo agent; see
/// docs/configuration.md.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Reads settings from this TOML file; environment variables take precedence.
    #[arg(long, env = "CHAT_CONFIG", value_name = "FILE", value_parser = trimmed_path)]
    config: Option<PathBuf>,

    /// Does not migrate the database's schema; fails if migrations are pending.
    #[arg(long)]
    no_migrate: bool,

    #[cfg(feature = "demo")]
    #[command(subcommand)]
    command: Option<Command>,
}

#[cfg(feature = "demo")]
#[derive(clap::Subcommand)]
enum Command {
    /// Serves the demo's task list over MCP on standard input and output. Started by the server
    /// itself.
    #[command(hide = true)]
    DemoTasks {
        /// The file of the task list.
        #[arg(long, value_name = "PATH")]
        database: PathBuf,
    },
}

/// A path without surrounding white space, such as the `\r` of a file of variables with Windows
/// line ends.
#[expect(clippy::unnecessary_wraps, reason = "the signature of clap's parsers")]
fn trimmed_path(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(PathBuf::from(text.trim()))
}

/// Runs the program: reads the command line and the settings, and serves until it is stopped.
///
/// The exit code is 0 after a requested stop. Otherwise the error is on standard error.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "demo")]
    if let Some(Command::DemoTasks { database }) = &arguments.command {
        return crate::demo::serve_tasks(database);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::write_to_stderr(&format!("chat-server: {error}\n"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), ServeError> {
    let config = Config::load(arguments.config.as_deref(), std::env::vars_os())?;
    logging::start(config.log_format, &config.log_filter);
    serve(&config, !arguments.no_migrate)
}
