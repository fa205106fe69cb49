//! Tools from [MCP](https://modelcontextprotocol.io) servers: [`McpToolset`] is a
//! [`Toolset`](chat_domain::Toolset) over child processes that speak MCP over stdin and stdout.
//!
//! - **Processes.** Each configured server is a process in a process group of its own, with a
//!   nearly empty environment. The group ends as a whole: at a stop, after a failed start, when its
//!   connection closes, and when this program dies, for which a small watchdog (`/bin/sh`) waits.
//!   First its stdin is closed; SIGTERM follows after 2 s and SIGKILL after 2 s more. A process
//!   that leaves the group is out of reach.
//! - **Start.** A server may take 60 s to start ([`McpServer::start_timeout`]). It is waited for in
//!   the first 5 s alone: then turns run without its tools, which appear at the first step after it
//!   is ready. A server that died is restarted: at once after a healthy run, then after 100 ms, 200
//!   ms … up to 30 s. The warning of a failed start has the last lines of its stderr; all lines are
//!   in the log at level `debug`. Values of the environment, and arguments that look like secrets,
//!   are removed from them.
//! - **Hung servers.** After a call that was not answered in time, the server is sent a `ping`. If
//!   that is not answered within 5 s either, the group is ended and started again; until it is
//!   ready its tools are not offered.
//! - **Names.** A tool keeps the name its server gives it, if that fits `^[a-zA-Z0-9_-]{1,64}$` and
//!   no earlier server has a tool of that name. Other characters become `_`; a name that is not in
//!   ASCII or too long gets a hash. If the name is taken, or an earlier server has not listed its
//!   tools yet, the tool is called `server_tool`, which it can be called by at any time. Servers
//!   count in the order of the settings: what a name means depends on the settings and on the
//!   lists, and never on which server starts first.
//! - **Listings** are read tool by tool. A tool without a name, with a schema that is no object, or
//!   listed again is left out, and the log says why, once. A schema that is missing stands for no
//!   parameters. A listing ends at a cursor that came before, at a page that brings nothing new,
//!   and after 1,024 pages or tools; what was listed until then is kept.
//! - **Repeatable** is a tool whose annotations say `readOnlyHint: true` or `idempotentHint: true`.
//! - **Who asks** is told in the request's `_meta`, never in the arguments: see [`meta`].
//! - **Answers.** `structuredContent` if there is one (in the spelling of the text block beside it,
//!   if that says the same); else a single text block, as it is if it is JSON, as a JSON string if
//!   not; else the array of content blocks, also those of unknown types. U+0000 becomes U+FFFD,
//!   also where it is written `\u0000`. An answer that did not come in time or cannot be understood
//!   leaves the outcome of the call unknown, unless the tool is repeatable.
//! - **Lines** that are not quite JSON are mended: lone surrogates and invalid UTF-8 become U+FFFD,
//!   `NaN` and `Infinity` become `null`. If a line cannot be read, the request that it answers
//!   fails at once.
//! - **Limits.** Numbers reach a tool exactly or not at all: integers beyond 64 bits are refused
//!   with `InvalidArguments`. The keys of an object may reach it in another order. In
//!   `structuredContent` without an equal text block, integers beyond 64 bits lose digits. A call
//!   whose answer is a line of more than 16 MiB fails at once as `TooLarge`; the line is not kept.
//! - **Log.** About one server, at most one line of a kind is written in a minute.

mod answer;
mod arguments;
mod child;
mod connection;
mod failure;
mod hash;
mod keeper;
mod listing;
pub mod meta;
mod names;
mod notices;
mod presence;
mod process;
mod server;
mod settings;
mod stderr;
mod toolset;

pub use settings::{McpServer, SettingsError};
pub use toolset::McpToolset;
