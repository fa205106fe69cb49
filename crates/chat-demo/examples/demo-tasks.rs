//! The task server alone: `cargo run -p chat-demo --example demo-tasks -- tasks.db` serves MCP over
//! stdin and stdout.

use std::path::Path;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = std::env::args_os()
        .nth(1)
        .ok_or("usage: demo-tasks DATABASE")?;
    Ok(chat_demo::tasks::serve_stdio(Path::new(&database)).await?)
}
