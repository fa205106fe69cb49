//! The settings: one table, for environment variables, the TOML file and `docs/configuration.md`.

mod address;
mod check;
mod http_limits;
mod layers;
mod load;
mod mcp_servers;
mod reference;
mod value;

use std::fmt::Display;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use chat_domain::TurnLimits;
use figment::Figment;
use secrecy::SecretString;

pub use address::{Address, Origins};
pub use http_limits::HttpLimits;
use layers::field;
pub use mcp_servers::McpServers;
pub use reference::reference;
pub use value::{
    AgentKind, Bytes, Connections, DatabaseUrl, JwtSecret, LogFilter, LogFormat, Suggestions,
    Threads,
};

/// One row of the table of settings.
struct Row {
    /// The name in a TOML file.
    key: &'static str,
    /// The environment variable.
    variable: &'static str,
    /// The default as text; `None` if the setting may be unset.
    default: Option<&'static str>,
    /// The field's documentation, line by line.
    doc: &'static [&'static str],
    /// The heading of its section.
    section: &'static str,
}

macro_rules! default_of {
    () => {
        None
    };
    ($default:literal) => {
        Some($default)
    };
}

macro_rules! settings {
    ($(
        $section:literal { $(
            $(#[doc = $doc:literal])+
            $variable:literal $key:ident: $type:ty $(= $default:literal)?;
        )+ }
    )+) => {
        /// All settings, read and checked.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($( $(#[doc = $doc])+ pub $key: $type, )+)+
            /// Variables with the prefix of the settings that name no setting.
            pub unknown_variables: Vec<String>,
        }

        const ROWS: &[Row] = &[$($(
            Row {
                key: stringify!($key),
                variable: $variable,
                default: default_of!($($default)?),
                doc: &[$($doc),+],
                section: $section,
            },
        )+)+];

        impl Config {
            fn read(
                figment: &Figment,
                unknown_variables: Vec<String>,
                mut faults: Vec<String>,
            ) -> Result<Self, ConfigError> {
                $($(
                    let $key = field::<$type>(figment, stringify!($key), $variable, &mut faults);
                )+)+
                match ($($($key,)+)+) {
                    ($($(Some($key),)+)+) if faults.is_empty() => Ok(Self {
                        $($($key,)+)+
                        unknown_variables,
                    }),
                    _ => Err(ConfigError { faults }),
                }
            }
        }
    };
}

settings! {
    "The server" {
        /// The address and port to listen on. Port 0 selects a free port.
        "CHAT_LISTEN" listen: SocketAddr = "127.0.0.1:8080";
        /// The number of threads for HTTP, at most 512. Unset: one for each processor.
        "CHAT_HTTP_THREADS" http_threads: Option<Threads>;
        /// The number of threads for turns, at most 512. Unset: one for each processor.
        "CHAT_TURN_THREADS" turn_threads: Option<Threads>;
        /// At a shutdown, how long running turns may continue before they are handed over to
        /// another server.
        "CHAT_SHUTDOWN_GRACE" shutdown_grace: Duration = "10s";
        /// At a shutdown, how long requests are still accepted after `/health/ready` has begun to
        /// fail, so that a load balancer can react. Unset: not at all.
        "CHAT_SHUTDOWN_NOTICE" shutdown_notice: Option<Duration>;
    }
    "The database" {
        /// The database. `sqlite://` and a path, relative to the working directory or absolute
        /// (`sqlite:///var/lib/chat/chat.db`): a file for this server alone, created with its
        /// folders if it is missing. `postgres://user:password@host:5432/database`: a database
        /// that any number of servers share. It must exist and be encoded in UTF-8.
        /// `?sslmode=verify-full&sslrootcert=ca.pem` requires TLS and a certificate of that
        /// authority for that host; the default is `prefer`.
        "DATABASE_URL" database_url: DatabaseUrl = "sqlite://chat.db";
        /// How long a call of the database may take, including the time in its queue.
        "CHAT_DATABASE_TIMEOUT" database_timeout: Duration = "10s";
        /// SQLite: the number of connections that read, at most 256. One more connection writes.
        "CHAT_DATABASE_READERS" database_readers: Connections = "4";
        /// PostgreSQL: the largest number of connections of this server, at most 256.
        "CHAT_DATABASE_CONNECTIONS" database_connections: Connections = "16";
        /// PostgreSQL: how long connecting may take. Shorter than `CHAT_DATABASE_TIMEOUT`.
        "CHAT_DATABASE_CONNECT_TIMEOUT" database_connect_timeout: Duration = "3s";
        /// PostgreSQL: how long a call waits for a connection while all are in use. Shorter than
        /// `CHAT_DATABASE_TIMEOUT`.
        "CHAT_DATABASE_ACQUIRE_TIMEOUT" database_acquire_timeout: Duration = "6s";
        /// PostgreSQL: how long one statement may take, including the time it waits for locks.
        /// Shorter than `CHAT_DATABASE_ACQUIRE_TIMEOUT`. The database rolls back a transaction that
        /// is idle for as long.
        "CHAT_DATABASE_STATEMENT_TIMEOUT" database_statement_timeout: Duration = "3s";
    }
    "Authentication" {
        /// The secret for the signatures of tokens (HS256), at least 32 bytes. Tokens need a `sub`,
        /// the user, and an `exp`. Unset: development mode, on loopback only, with a random secret
        /// in a file next to the database and a token printed at start.
        "CHAT_JWT_SECRET" jwt_secret: Option<JwtSecret>;
        /// The issuer (`iss`) that tokens must name. Unset: any.
        "CHAT_JWT_ISSUER" jwt_issuer: Option<String>;
        /// The audience (`aud`) that tokens must name. Unset: tokens must not name any.
        "CHAT_JWT_AUDIENCE" jwt_audience: Option<String>;
    }
    "The chat page" {
        /// The name of the agent on the page.
        "CHAT_PAGE_NAME" page_name: String = "Assistant";
        /// Suggestions for a first message, each a button, separated by `|` or, in a TOML file, as
        /// a list: such as `Where is my order?|What is new?`. Unset: examples for the `demo` agent;
        /// none for any other agent.
        "CHAT_PAGE_SUGGESTIONS" page_suggestions: Option<Suggestions>;
        /// The address to which the page sends users who need a token: a page of your own that
        /// signs them in and returns them to the address in its parameter `return_to`, with
        /// `#token=<token>&state=<its parameter state>` appended. Unset: in development mode the
        /// address that is printed at start signs in; otherwise the embedding page provides a
        /// token, or users paste one.
        "CHAT_PAGE_SIGN_IN" page_sign_in: Option<Address>;
        /// The origins whose pages may embed the chat page and give it a token, separated by commas
        /// or, in a TOML file, as a list: such as
        /// `https://intranet.example,https://shop.example:8443`. Unset: none.
        "CHAT_PAGE_EMBEDDERS" page_embedders: Option<Origins>;
        /// The origins of pictures in messages that the page shows; pictures of other origins are
        /// links. Unset: none.
        "CHAT_PAGE_IMAGES" page_images: Option<Origins>;
    }
    "Pages in browsers" {
        /// The origins whose pages may use this server from browsers, separated by commas or, in a
        /// TOML file, as a list: such as `https://app.example.com`. Pages need it for ChatKit and
        /// for all other routes alike; the server's own pages do not. Unset: none.
        "CHAT_CORS_ORIGINS" cors_origins: Option<Origins>;
        /// Whether `/chatkit-example` serves a page with OpenAI's ChatKit component, which is
        /// loaded from OpenAI's network. On this machine only, at the name `localhost`; the chat
        /// page is then at any other name, such as `127.0.0.1`, so that the component cannot read
        /// its token.
        "CHAT_CHATKIT_EXAMPLE" chatkit_example: bool = "false";
    }
    "The agent" {
        /// The agent: `demo`, offline rules that keep a task list, or `openai`, a server that
        /// speaks the chat completions protocol of OpenAI. Unset: `openai` if `CHAT_AGENT_URL` is
        /// set, else `demo`.
        "CHAT_AGENT" agent: Option<AgentKind>;
        /// The base of the agent's API, such as `http://127.0.0.1:11434/v1`, with or without
        /// `/chat/completions`. Required for `openai`. An `https` address needs CA certificates:
        /// see [agents.md](agents.md).
        "CHAT_AGENT_URL" agent_url: Option<SecretString>;
        /// The model. Required for `openai`.
        "CHAT_AGENT_MODEL" agent_model: Option<String>;
        /// The key sent to the agent as a bearer token. Unset: none is sent.
        "CHAT_AGENT_API_KEY" agent_api_key: Option<SecretString>;
        /// The system message before each conversation. Unset: none.
        "CHAT_AGENT_INSTRUCTIONS" agent_instructions: Option<String>;
        /// How long connecting to the agent may take.
        "CHAT_AGENT_CONNECT_TIMEOUT" agent_connect_timeout: Duration = "5s";
        /// How long the agent may take until its answer begins. A local model may have to load
        /// first, and to read a long conversation.
        "CHAT_AGENT_FIRST_BYTE_TIMEOUT" agent_first_byte_timeout: Duration = "5m";
        /// How long the agent may pause within an answer.
        "CHAT_AGENT_IDLE_TIMEOUT" agent_idle_timeout: Duration = "2m";
        /// How long one request to the agent may take, with all attempts and the whole answer. Not
        /// longer than `CHAT_TURN_TIMEOUT`. Unset: two thirds of `CHAT_TURN_TIMEOUT`.
        "CHAT_AGENT_STEP_TIMEOUT" agent_step_timeout: Option<Duration>;
        /// The number of attempts at a request to the agent, including the first one. A request is
        /// not retried once its answer has begun.
        "CHAT_AGENT_TRIES" agent_tries: NonZeroUsize = "3";
        /// How long the demo's agent waits before each word that it writes.
        "CHAT_DEMO_WORD_DELAY" demo_word_delay: Duration = "15ms";
    }
    "Tools" {
        /// MCP servers whose tools the agent may call. Each runs as a child process and uses
        /// standard input and output. In the environment JSON, either a list such as `[{"name":
        /// "files", "command": "mcp-files", "args": ["/srv"]}]` or the object that other programs
        /// use, `{"mcpServers": {"files": {"command": "mcp-files", "args": ["/srv"]}}}`. In a TOML
        /// file `[[mcp_servers]]` tables with a `name`, or `[mcp_servers.files]` tables. Keys:
        /// `command`, `args` (a list), `env` (a table), `cwd`, `start_timeout`, `call_timeout`
        /// (times, in place of `CHAT_TOOL_START_TIMEOUT` and `CHAT_TOOL_TIMEOUT`) and `disabled`; a
        /// warning names other keys. If two servers have a tool of the same name, the first server
        /// in the list, or by name in an object, keeps it. A server has nothing of this program's
        /// environment but `PATH`, `HOME`, `LANG`, `LC_ALL`, `TMPDIR`, `TZ` and what `env` names.
        /// See [tools.md](tools.md).
        "CHAT_MCP_SERVERS" mcp_servers: McpServers = "[]";
        /// Whether the task list of the demo is among the tools. Its tasks are in a file next to
        /// the database. Unset: only if the agent is `demo`.
        "CHAT_DEMO_TOOLS" demo_tools: Option<bool>;
        /// How long a tool server may take to start, from its process to its list of tools. A
        /// program that `npx` or `uvx` downloads first needs longer. Turns run without the
        /// server's tools until it is ready.
        "CHAT_TOOL_START_TIMEOUT" tool_start_timeout: Duration = "60s";
        /// How long one tool call may take. After that the outcome of the call is unknown, unless
        /// the tool is repeatable.
        "CHAT_TOOL_TIMEOUT" tool_timeout: Duration = "30s";
    }
    "Limits" {
        /// The longest user message, in characters (Unicode scalar values).
        "CHAT_MESSAGE_LIMIT" message_limit: NonZeroUsize = "5000";
        /// The largest body of a request.
        "CHAT_BODY_LIMIT" body_limit: Bytes = "1MiB";
        /// How long a reply that is not a stream waits for the end of its turn. After that the
        /// client gets the id of the turn, which continues.
        "CHAT_REPLY_TIMEOUT" reply_timeout: Duration = "20m";
        /// How long a client may leave a reply or a stream unread once all buffers are full. Then
        /// its connection is closed. The client of a stream may resume after the last event that it
        /// received.
        "CHAT_STREAM_WRITE_TIMEOUT" stream_write_timeout: Duration = "30s";
        /// The largest number of client connections. A further connection gets 503
        /// `too_many_connections` and is closed. Unset: half of the files that the process may open
        /// (`ulimit -n`), less 64, at most 16,384.
        "CHAT_CONNECTION_LIMIT" connection_limit: Option<NonZeroUsize>;
        /// How much memory unfinished request bodies and unread replies may use, over all
        /// connections. Further requests get 503 `server_overloaded`.
        "CHAT_REPLY_MEMORY" reply_memory: Bytes = "256MiB";
        /// The largest number of queued messages in one conversation.
        "CHAT_QUEUE_LIMIT" queue_limit: NonZeroU32 = "256";
        /// The largest number of requests to the agent in one turn.
        "CHAT_STEP_LIMIT" step_limit: NonZeroUsize = "16";
        /// How long a turn may run, over all its attempts.
        "CHAT_TURN_TIMEOUT" turn_timeout: Duration = "15m";
        /// The number of interrupted attempts after which a turn ends as failed.
        "CHAT_ATTEMPT_LIMIT" attempt_limit: NonZeroU32 = "3";
        /// The largest number of tool calls in one step of the agent.
        "CHAT_CALLS_PER_STEP" calls_per_step: NonZeroUsize = "32";
        /// The number of tool calls of one step that run at the same time.
        "CHAT_CALLS_AT_ONCE" calls_at_once: NonZeroUsize = "8";
        /// The longest text of one step of the agent.
        "CHAT_ANSWER_LIMIT" answer_limit: Bytes = "1MiB";
        /// The largest answer of a tool.
        "CHAT_TOOL_OUTPUT_LIMIT" tool_output_limit: Bytes = "256KiB";
        /// The largest history sent to the agent, in estimated tokens. Whole turns are left out,
        /// the oldest first; stored data never changes. Unset: the whole history, unless the agent
        /// rejects it as too long: then the oldest turns are left out, and the reply says how many.
        "CHAT_CONTEXT_TOKENS" context_tokens: Option<NonZeroUsize>;
    }
    "Several servers on one database" {
        /// How long after its last heartbeat a server keeps its turns, until another server claims
        /// them. At least twice `CHAT_HEARTBEAT`.
        "CHAT_LEASE" lease: Duration = "10s";
        /// How often a server renews its lease, saves drafts of answers and learns of
        /// cancellations.
        "CHAT_HEARTBEAT" heartbeat: Duration = "1s";
        /// How often a server claims turns whose lease has expired.
        "CHAT_SWEEP" sweep: Duration = "2s";
        /// How often a server polls the database, once for all readers of turns that run on other
        /// servers.
        "CHAT_POLL" poll: Duration = "250ms";
    }
    "Logs" {
        /// The format of log lines on standard error: `text` or `json`.
        "CHAT_LOG_FORMAT" log_format: LogFormat = "text";
        /// The filter of the log: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels by
        /// module such as `info,chat_domain=debug`. Libraries log warnings only, unless the filter
        /// names them (`rmcp=debug`); then they may log content.
        "CHAT_LOG_FILTER" log_filter: LogFilter = "info";
    }
}

/// The configuration is invalid. Each fault names the setting and the expected value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is invalid:\n  {}", faults.join("\n  "))]
pub struct ConfigError {
    /// One sentence for each fault, without secrets.
    pub faults: Vec<String>,
}

impl ConfigError {
    /// A single fault, of this setting.
    pub(crate) fn of(variable: &str, fault: impl Display) -> Self {
        Self {
            faults: vec![format!("{variable}: {fault}")],
        }
    }
}

impl Config {
    /// The kind of agent.
    pub fn agent_kind(&self) -> AgentKind {
        self.agent.unwrap_or(if self.agent_url.is_some() {
            AgentKind::OpenAi
        } else {
            AgentKind::Demo
        })
    }

    /// Whether the demo's task list is among the tools.
    pub fn has_demo_tools(&self) -> bool {
        self.demo_tools
            .unwrap_or(self.agent_kind() == AgentKind::Demo)
    }

    /// How long one request to the agent may take. By default shorter than the turn's limit, so
    /// that the turn's failure says that the agent was slow.
    pub fn step_timeout(&self) -> Duration {
        self.agent_step_timeout.unwrap_or(self.turn_timeout * 2 / 3)
    }

    /// The limits of turns.
    pub fn turn_limits(&self) -> TurnLimits {
        TurnLimits {
            message_chars: self.message_limit.get(),
            queue: self.queue_limit.get(),
            steps: self.step_limit.get(),
            calls_per_step: self.calls_per_step.get(),
            calls_at_once: self.calls_at_once.get(),
            answer_bytes: self.answer_limit.0,
            tool_output_bytes: self.tool_output_limit.0,
            attempts: self.attempt_limit.get(),
            turn: self.turn_timeout,
            context_tokens: self.context_tokens.map(NonZeroUsize::get),
            lease: self.lease,
            heartbeat: self.heartbeat,
            sweep: self.sweep,
            poll: self.poll,
        }
    }

    /// The limits on clients.
    pub fn http_limits(&self) -> HttpLimits {
        HttpLimits {
            body_bytes: self.body_limit.0,
            write_time: self.stream_write_timeout,
            reply_time: self.reply_timeout,
            connections: self
                .connection_limit
                .map_or(HttpLimits::default().connections, NonZeroUsize::get),
            memory_bytes: self.reply_memory.0,
            ..HttpLimits::default()
        }
    }
}

#[cfg(test)]
mod tests;
