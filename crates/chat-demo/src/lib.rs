//! The offline demo: an agent and a tool server that need no model, no key and no network.
//!
//! - [`DemoAgent`] implements the agent port with a table of intents. It keeps a task list by
//!   calling tools, and remembers only what the conversation's transcript says.
//! - [`tasks`] is that task list: an MCP server over stdio with its own SQLite file. Any agent can
//!   use it.
//!
//! # How to add an intent
//!
//! Add an entry to `INTENTS` in `src/agent/intents.rs`: the phrases that users write, and either an
//! answer or the tool to call, the template of its arguments and the template of the answer.
//!
//! ```text
//! Intent(
//!     &["archive {task}", "put {task} away"],
//!     Call {
//!         tool: "archive_task",
//!         arguments: r#"{"task_id":{task_id}}"#,
//!         answer: "Archived '{title}'.",
//!     },
//! ),
//! ```
//!
//! If the tool is new, add a variant to `Request` in `src/tasks/list.rs` and the tool's description
//! in `src/tasks/server.rs`.

mod agent;
pub mod tasks;

pub use agent::DemoAgent;
