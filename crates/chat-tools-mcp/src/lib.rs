//! Tools from [MCP](https://modelcontextprotocol.io) servers: [`McpToolset`] is a [`Toolset`](chat_domain::Toolset) over
//! child processes that speak MCP over stdin and stdout.
//!
//! - **Children.** Each configured server is a child process in a process group of its own, with a nearly empty environment.
//!   It is restarted when it dies: at once after a healthy run, then after 100 ms, 200 ms … up to 30 s.
//!   What it writes to stderr goes to the log (level `debug`), line by line.
//!   A child ends when its stdin closes, as MCP demands; so none outlives this process, however that ends.
//! - **Names.** A tool keeps the name its server gives it, if that fits `^[a-zA-Z0-9_-]{1,64}$` and no earlier tool has it.
//!   Other characters become `_`, and what is too long is cut. If the name is taken, the tool is called `server_tool`, then
//!   `server_tool_2` and so on. Servers count in the order of the settings; but a name once given stays with its tool
//!   for as long as the server lists it, so that no name changes its meaning when a slow server arrives.
//!   A tool without a name, and the second of two with the same name on one server, are left out with a warning.
//! - **Repeatable** is a tool whose annotations say `readOnlyHint: true` or `idempotentHint: true`.
//! - **Who asks** is told in the request's `_meta`, never in the arguments: see [`meta`].
//! - **Answers.** `structuredContent` if there is one (in the spelling of the text block beside it, if that says the same);
//!   else a single text block, as it is if it is JSON, as a JSON string if not; else the array of content blocks.
//!   U+0000 becomes U+FFFD, also where it is written `\u0000`.
//! - **Limits.** Numbers reach a tool exactly or not at all: integers beyond 64 bits are refused with `InvalidArguments`.
//!   The keys of an object may reach it in another order. In `structuredContent` without an equal text block, integers beyond
//!   64 bits lose digits. An answer of more than 16 MiB is thrown away by the connection, and the call times out.

mod answer;
mod arguments;
mod child;
pub mod meta;
mod names;
mod server;
mod settings;
mod stderr;
mod toolset;

pub use settings::{McpServer, SettingsError};
pub use toolset::McpToolset;
