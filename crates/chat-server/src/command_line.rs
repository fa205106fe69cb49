//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::config::Config;
use crate::logging;
use crate::run::{ServeError, serve};

/// A chat backend that keeps every conversation in its database and nothing in memory.
///
/// Without any setting it serves this machine alone, with an offline demo agent; see
/// docs/configuration.md.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Reads settings from this TOML file; environment variables win over it.
    #[arg(long, env = "CHAT_CONFIG", value_name = "FILE", value_parser = trimmed_path)]
    config: Option<PathBuf>,

    /// Does not bring the database's schema up to date, and refuses to start if it is not.
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
        /// The file the tasks are kept in.
        #[arg(long, value_name = "PATH")]
        database: PathBuf,
    },
}

/// A path without the white space around it, such as the `\r` of a file of variables with Windows
/// line ends.
#[expect(clippy::unnecessary_wraps, reason = "clap's form of a parser")]
fn trimmed_path(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(PathBuf::from(text.trim()))
}

/// The program: reads the command line and the settings, and serves until it is stopped.
///
/// Its exit code is 0 after a stop that was asked for; otherwise it says on standard error what is
/// wrong.
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
