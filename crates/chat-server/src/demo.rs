//! The demo's task list, as a tool server of this program.

use std::path::Path;
use std::process::ExitCode;

use chat_tools_mcp::McpServer;

use crate::config::Config;
use crate::observer::chain;

/// The subcommand that serves the task list.
pub const TASKS_COMMAND: &str = "demo-tasks";

/// This program as a tool server. Its tasks are in a file next to the database.
///
/// # Errors
/// The path of this program is unknown.
pub(crate) fn task_server(config: &Config) -> std::io::Result<McpServer> {
    let mut server = McpServer::new("tasks", std::env::current_exe()?);
    let database = config.database_url.sibling_file("tasks");
    server.args = vec![
        TASKS_COMMAND.to_owned(),
        "--database".to_owned(),
        database.display().to_string(),
    ];
    Ok(server)
}

/// Serves the task list in a file over MCP on standard input and output, until the input ends.
pub fn serve_tasks(database: &Path) -> ExitCode {
    let served = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime
            .block_on(chat_demo::tasks::serve_stdio(database))
            .map_err(|error| chain(&error)),
        Err(error) => Err(error.to_string()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::logging::write_to_stderr(&format!("{TASKS_COMMAND}: {error}\n"));
            ExitCode::FAILURE
        }
    }
}
