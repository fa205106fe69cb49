//! The settings, by environment variables or a TOML file: one table, from which
//! `docs/configuration.md` is made too.

mod address;
mod http_limits;
mod mcp_servers;
mod reference;
mod value;

use std::ffi::OsString;
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use chat_domain::TurnLimits;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use secrecy::SecretString;

pub use address::{Address, Origins};
pub use http_limits::HttpLimits;
pub use mcp_servers::McpServers;
pub use reference::reference;
use value::Setting;
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
    /// The default, as it would be written; `None` if it may be left unset.
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
    ($($section:literal { $( $(#[doc = $doc:literal])+ $variable:literal $key:ident: $type:ty $(= $default:literal)?; )+ })+) => {
        /// All settings, read and checked.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($( $(#[doc = $doc])+ pub $key: $type, )+)+
            /// Variables that begin like the settings' but are none: perhaps misspelt.
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
            fn read(figment: &Figment, unknown_variables: Vec<String>, mut faults: Vec<String>) -> Result<Self, ConfigError> {
                $($( let $key = field::<$type>(figment, stringify!($key), $variable, &mut faults); )+)+
                match ($($($key,)+)+) {
                    ($($(Some($key),)+)+) if faults.is_empty() => Ok(Self { $($($key,)+)+ unknown_variables }),
                    _ => Err(ConfigError { faults }),
                }
            }
        }
    };
}

settings! {
    "The server" {
        /// Where to listen: an address and a port. Port 0 takes any free one.
        "CHAT_LISTEN" listen: SocketAddr = "127.0.0.1:8080";
        /// How many threads serve HTTP, at most 512. Unset: one for each processor.
        "CHAT_HTTP_THREADS" http_threads: Option<Threads>;
        /// How many threads run turns, at most 512. Unset: one for each processor.
        "CHAT_TURN_THREADS" turn_threads: Option<Threads>;
        /// At a stop, how long running turns may go on before they are handed over to whichever
        /// server runs next.
        "CHAT_SHUTDOWN_GRACE" shutdown_grace: Duration = "10s";
        /// At a stop, how long requests are still taken after `/health/ready` has begun to fail, so
        /// that a load balancer can notice first. Unset: not at all.
        "CHAT_SHUTDOWN_NOTICE" shutdown_notice: Option<Duration>;
    }
    "The database" {
        /// Where conversations are kept. `sqlite://` and a path, relative to the working directory
        /// or absolute (`sqlite:///var/lib/chat/chat.db`): a file for this server alone, made with
        /// its folders if it is missing. `postgres://user:password@host:5432/database`: a database
        /// that any number of servers share. It must exist and be encoded in UTF-8.
        /// `?sslmode=verify-full&sslrootcert=ca.pem` demands TLS and a certificate of that
        /// authority for that host; the default is `prefer`.
        "DATABASE_URL" database_url: DatabaseUrl = "sqlite://chat.db";
        /// How long a call of the database may take, waiting for its turn included.
        "CHAT_DATABASE_TIMEOUT" database_timeout: Duration = "10s";
        /// SQLite: how many connections read from the database; another one writes; at most
        /// 256.
        "CHAT_DATABASE_READERS" database_readers: Connections = "4";
        /// PostgreSQL: how many connections this server has at most, up to 256.
        "CHAT_DATABASE_CONNECTIONS" database_connections: Connections = "16";
        /// PostgreSQL: how long connecting may take. Shorter than `CHAT_DATABASE_TIMEOUT`.
        "CHAT_DATABASE_CONNECT_TIMEOUT" database_connect_timeout: Duration = "3s";
        /// PostgreSQL: how long a call waits for a connection while all are in use. Shorter than
        /// `CHAT_DATABASE_TIMEOUT`.
        "CHAT_DATABASE_ACQUIRE_TIMEOUT" database_acquire_timeout: Duration = "6s";
        /// PostgreSQL: how long one statement may take, waiting for others' locks included. Shorter
        /// than `CHAT_DATABASE_ACQUIRE_TIMEOUT`. A transaction that is idle for as long is
        /// undone by the database.
        "CHAT_DATABASE_STATEMENT_TIMEOUT" database_statement_timeout: Duration = "3s";
    }
    "Who may ask" {
        /// The secret that tokens are signed with (HS256), at least 32 bytes. Tokens need a `sub`,
        /// the user, and an `exp`. Unset: development mode, on loopback only, with a random secret
        /// in a file next to the database and a ready token printed at start.
        "CHAT_JWT_SECRET" jwt_secret: Option<JwtSecret>;
        /// The issuer (`iss`) that tokens must name. Unset: any.
        "CHAT_JWT_ISSUER" jwt_issuer: Option<String>;
        /// The audience (`aud`) that tokens must name. Unset: tokens must not name one.
        "CHAT_JWT_AUDIENCE" jwt_audience: Option<String>;
    }
    "The chat page" {
        /// The name of the agent on the page.
        "CHAT_PAGE_NAME" page_name: String = "Assistant";
        /// Suggestions for a first message, each a button, separated by `|`
        /// or, in a TOML file, as a list: such as `Where is my order?|What is new?`. Unset: what
        /// the `demo` agent understands; none with any other.
        "CHAT_PAGE_SUGGESTIONS" page_suggestions: Option<Suggestions>;
        /// Where the page sends people who need a token: an address of your own that signs them in
        /// and sends them back to the address in its parameter `return_to`, with
        /// `#token=<token>&state=<its parameter state>` behind it. Unset: in development mode the
        /// address that is printed at start signs in; otherwise the embedding page gives a token,
        /// or people paste one.
        "CHAT_PAGE_SIGN_IN" page_sign_in: Option<Address>;
        /// Pages of which origins may embed the chat page and give it a token, separated by commas
        /// or, in a TOML file, as a list: such as
        /// `https://intranet.example,https://shop.example:8443`. Unset: none.
        "CHAT_PAGE_EMBEDDERS" page_embedders: Option<Origins>;
        /// From which origins the page shows the pictures that messages name; others it shows as
        /// links. Unset: none.
        "CHAT_PAGE_IMAGES" page_images: Option<Origins>;
    }
    "Pages in browsers" {
        /// The origins whose pages may use this server from browsers, separated by commas or, in a
        /// TOML file, as a list: such as `https://app.example.com`. Pages need it for ChatKit and
        /// for all other routes alike; the server's own pages do not. Unset: none.
        "CHAT_CORS_ORIGINS" cors_origins: Option<Origins>;
        /// Whether `/chatkit-example` shows a page with OpenAI's ChatKit component, which comes
        /// from OpenAI's network. On this machine only, at the name `localhost`; the chat page is
        /// then at any other name, such as `127.0.0.1`, so that the component cannot read its
        /// token.
        "CHAT_CHATKIT_EXAMPLE" chatkit_example: bool = "false";
    }
    "The agent" {
        /// The agent: `demo`, offline rules that keep a task list, or `openai`, a server that
        /// speaks the chat completions protocol of OpenAI. Unset: `openai` if `CHAT_AGENT_URL` is
        /// set, else `demo`.
        "CHAT_AGENT" agent: Option<AgentKind>;
        /// The base of the agent's API, such as `http://127.0.0.1:11434/v1`; with
        /// `/chat/completions` behind it, it means the same. Required for `openai`. An `https`
        /// address needs CA certificates: see [agents.md](agents.md).
        "CHAT_AGENT_URL" agent_url: Option<SecretString>;
        /// The model to ask for. Required for `openai`.
        "CHAT_AGENT_MODEL" agent_model: Option<String>;
        /// The key sent to the agent as a bearer token. Unset: none is sent.
        "CHAT_AGENT_API_KEY" agent_api_key: Option<SecretString>;
        /// The system message before each conversation. Unset: none.
        "CHAT_AGENT_INSTRUCTIONS" agent_instructions: Option<String>;
        /// How long connecting to the agent may take.
        "CHAT_AGENT_CONNECT_TIMEOUT" agent_connect_timeout: Duration = "5s";
        /// How long the agent may take until its answer begins. A local model may have to be loaded
        /// first, and to read a long conversation.
        "CHAT_AGENT_FIRST_BYTE_TIMEOUT" agent_first_byte_timeout: Duration = "5m";
        /// How long the agent may pause within an answer.
        "CHAT_AGENT_IDLE_TIMEOUT" agent_idle_timeout: Duration = "2m";
        /// How long one request to the agent may take, with all tries and the whole answer. Not
        /// longer than `CHAT_TURN_TIMEOUT`. Unset: two thirds of `CHAT_TURN_TIMEOUT`.
        "CHAT_AGENT_STEP_TIMEOUT" agent_step_timeout: Option<Duration>;
        /// How often a request to the agent is tried, the first time included. It is not tried
        /// again once its answer has begun.
        "CHAT_AGENT_TRIES" agent_tries: NonZeroUsize = "3";
        /// How long the demo's agent waits before each word that it writes.
        "CHAT_DEMO_WORD_DELAY" demo_word_delay: Duration = "15ms";
    }
    "Tools" {
        /// MCP servers whose tools the agent may call, each started as a child process and spoken
        /// to over its standard input and output. In the environment JSON, either a list such as
        /// `[{"name": "files", "command": "mcp-files", "args": ["/srv"]}]` or the object that other
        /// programs use, `{"mcpServers": {"files": {"command": "mcp-files", "args": ["/srv"]}}}`.
        /// In a TOML file `[[mcp_servers]]` tables with a `name`, or `[mcp_servers.files]` tables.
        /// Keys: `command`, `args` (a list), `env` (a table), `cwd`, `start_timeout`,
        /// `call_timeout` (times, in place of `CHAT_TOOL_START_TIMEOUT` and `CHAT_TOOL_TIMEOUT`)
        /// and `disabled`; others are named in a warning. The order, by name in an object, decides
        /// which of two tools of one name has it. A server sees nothing of this program's
        /// environment but `PATH`, `HOME`, `LANG`, `LC_ALL`, `TMPDIR`, `TZ` and what `env` names.
        /// See [tools.md](tools.md).
        "CHAT_MCP_SERVERS" mcp_servers: McpServers = "[]";
        /// Whether the task list of the demo is among the tools; its tasks are kept in a file
        /// next to the database. Unset: only if the agent is `demo`.
        "CHAT_DEMO_TOOLS" demo_tools: Option<bool>;
        /// How long a tool server may take to start, from its process to its list of tools. A
        /// program that is downloaded first, by `npx` or `uvx`, needs long. Turns do not wait for
        /// it: they run without its tools until it is ready.
        "CHAT_TOOL_START_TIMEOUT" tool_start_timeout: Duration = "60s";
        /// How long one tool call may take. After that the call's outcome is unknown, unless the
        /// tool is repeatable.
        "CHAT_TOOL_TIMEOUT" tool_timeout: Duration = "30s";
    }
    "Limits" {
        /// The longest message of a user, in characters (Unicode scalar values).
        "CHAT_MESSAGE_LIMIT" message_limit: NonZeroUsize = "5000";
        /// The largest body of a request.
        "CHAT_BODY_LIMIT" body_limit: Bytes = "1MiB";
        /// How long a reply that is not a stream waits for the end of its turn. After that the
        /// client gets the address of the turn, which continues.
        "CHAT_REPLY_TIMEOUT" reply_timeout: Duration = "20m";
        /// How long a client may leave a reply or a stream unread once nothing more fits between it
        /// and the server. Then its connection is closed. The client of a stream may read on after
        /// the last event that it got.
        "CHAT_STREAM_WRITE_TIMEOUT" stream_write_timeout: Duration = "30s";
        /// How many connections clients may have at the same time; one more is answered 503
        /// `too_many_connections` and closed. Unset: half of the files that the process may open
        /// (`ulimit -n`), less 64, at most 16,384.
        "CHAT_CONNECTION_LIMIT" connection_limit: Option<NonZeroUsize>;
        /// How much memory unfinished request bodies and unread replies may hold, all connections
        /// together. What does not fit is answered 503 `server_overloaded`.
        "CHAT_REPLY_MEMORY" reply_memory: Bytes = "256MiB";
        /// How many messages may wait in one conversation.
        "CHAT_QUEUE_LIMIT" queue_limit: NonZeroU32 = "256";
        /// How many requests to the agent one turn may need.
        "CHAT_STEP_LIMIT" step_limit: NonZeroUsize = "16";
        /// How long a turn may run, over all its attempts.
        "CHAT_TURN_TIMEOUT" turn_timeout: Duration = "15m";
        /// How many attempts at a turn may be broken off before it ends as failed.
        "CHAT_ATTEMPT_LIMIT" attempt_limit: NonZeroU32 = "3";
        /// How many tool calls one step of the agent may make.
        "CHAT_CALLS_PER_STEP" calls_per_step: NonZeroUsize = "32";
        /// How many tool calls of one step run at the same time.
        "CHAT_CALLS_AT_ONCE" calls_at_once: NonZeroUsize = "8";
        /// The longest text of one step of the agent.
        "CHAT_ANSWER_LIMIT" answer_limit: Bytes = "1MiB";
        /// The largest answer of a tool.
        "CHAT_TOOL_OUTPUT_LIMIT" tool_output_limit: Bytes = "256KiB";
        /// How many tokens of history the agent is sent at most, by estimate; whole turns are left
        /// out, the oldest first. Nothing stored is ever cut. Unset: all of it, unless the agent
        /// refuses so much: then the oldest turns are left out, and the reply says how many.
        "CHAT_CONTEXT_TOKENS" context_tokens: Option<NonZeroUsize>;
    }
    "Several servers on one database" {
        /// How long a server that falls silent keeps its turns before another takes them over. At
        /// least twice `CHAT_HEARTBEAT`.
        "CHAT_LEASE" lease: Duration = "10s";
        /// How often a server renews its lease, saves half-written answers and learns of
        /// cancellations.
        "CHAT_HEARTBEAT" heartbeat: Duration = "1s";
        /// How often a server looks for turns of servers that died.
        "CHAT_SWEEP" sweep: Duration = "2s";
        /// How often a server looks at the database, once for all readers whose turns do not run on
        /// it.
        "CHAT_POLL" poll: Duration = "250ms";
    }
    "Logs" {
        /// How log lines are written, to standard error: `text` or `json`.
        "CHAT_LOG_FORMAT" log_format: LogFormat = "text";
        /// The log's filter: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels by
        /// module such as `info,chat_domain=debug`. Libraries log warnings only unless they are
        /// named too (`rmcp=debug`); then they may log content.
        "CHAT_LOG_FILTER" log_filter: LogFilter = "info";
    }
}

/// The configuration is wrong: each fault names the setting and what is expected of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is wrong:{}", faults.iter().map(|fault| format!("\n  {fault}")).collect::<String>())]
pub struct ConfigError {
    /// One sentence for each fault. Never holds a secret.
    pub faults: Vec<String>,
}

impl ConfigError {
    /// The one fault of this setting.
    pub(crate) fn of(variable: &str, fault: impl Display) -> Self {
        Self {
            faults: vec![format!("{variable}: {fault}")],
        }
    }
}

impl Config {
    /// Reads the settings: defaults, then the file if there is one, then the environment. White
    /// space around a value is removed; a variable that is empty then counts as unset.
    ///
    /// # Errors
    /// All faults at once.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let defaults = ROWS
            .iter()
            .filter_map(|row| Some((row.key.to_owned(), row.default?.into())));
        let mut figment = Figment::from(Layer::new(DEFAULTS, defaults));
        if let Some(path) = file {
            match read_file(path, &mut faults) {
                Some(values) => {
                    figment = figment.merge(Layer::new(path.display().to_string(), values))
                }
                None => return Err(ConfigError { faults }),
            }
        }
        let (values, unknown) = read_environment(environment, &mut faults);
        figment = figment.merge(Layer::new(ENVIRONMENT, values));
        let config = Self::read(&figment, unknown, faults)?;
        config.check()?;
        Ok(config)
    }

    /// The agent.
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

    /// How long one request to the agent may take. By default it ends before its turn does, so that
    /// the turn's failure says that the agent was slow.
    pub fn step_timeout(&self) -> Duration {
        self.agent_step_timeout.unwrap_or(self.turn_timeout * 2 / 3)
    }

    /// How much and how long, as the domain knows it.
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

    /// Limits on clients, and how long they wait.
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

    /// Checks that concern several settings.
    fn check(&self) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        if self.jwt_secret.is_none() && !self.listen.ip().is_loopback() {
            faults.push(format!(
                "CHAT_LISTEN: {} can be reached from elsewhere, and without CHAT_JWT_SECRET the server runs in development mode, \
                 which is for this machine alone; set CHAT_JWT_SECRET, or listen on 127.0.0.1",
                self.listen
            ));
        }
        if self.jwt_secret.is_none() && (self.jwt_issuer.is_some() || self.jwt_audience.is_some()) {
            faults.push("CHAT_JWT_ISSUER, CHAT_JWT_AUDIENCE: these need CHAT_JWT_SECRET; development mode makes its own tokens".to_owned());
        }
        if self.agent_kind() == AgentKind::OpenAi {
            if self.agent_url.is_none() {
                faults.push("CHAT_AGENT_URL: is required when CHAT_AGENT is openai".to_owned());
            }
            if self.agent_model.is_none() {
                faults.push(
                    "CHAT_AGENT_MODEL: is required when the agent is reached by CHAT_AGENT_URL"
                        .to_owned(),
                );
            }
        }
        if self.step_timeout() > self.turn_timeout {
            faults.push(
                "CHAT_AGENT_STEP_TIMEOUT: must not be longer than CHAT_TURN_TIMEOUT".to_owned(),
            );
        }
        if self.lease < self.heartbeat * 2 {
            faults.push(
                "CHAT_LEASE: must be at least twice as long as CHAT_HEARTBEAT, or servers would lose the turns that they run".to_owned(),
            );
        }
        let waits = [
            (
                "CHAT_DATABASE_STATEMENT_TIMEOUT",
                self.database_statement_timeout,
                "CHAT_DATABASE_ACQUIRE_TIMEOUT",
                self.database_acquire_timeout,
            ),
            (
                "CHAT_DATABASE_ACQUIRE_TIMEOUT",
                self.database_acquire_timeout,
                "CHAT_DATABASE_TIMEOUT",
                self.database_timeout,
            ),
            (
                "CHAT_DATABASE_CONNECT_TIMEOUT",
                self.database_connect_timeout,
                "CHAT_DATABASE_TIMEOUT",
                self.database_timeout,
            ),
        ];
        if self.database_url.is_shared() {
            let wrong = waits.iter().filter(|(_, inner, _, outer)| inner >= outer);
            faults.extend(wrong.map(|(inner, _, outer, _)| {
                format!("{inner}: must be shorter than {outer}, or nobody hears what was slow")
            }));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigError { faults })
        }
    }
}

const DEFAULTS: &str = "default";
const ENVIRONMENT: &str = "environment";

/// One of the layers of settings, by its name.
struct Layer {
    name: String,
    values: Dict,
}

impl Layer {
    fn new(name: impl Into<String>, values: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self {
            name: name.into(),
            values: values.into_iter().collect(),
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn read_file(path: &Path, faults: &mut Vec<String>) -> Option<Dict> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| {
            faults.push(format!(
                "{}: the file cannot be read: {error}",
                path.display()
            ))
        })
        .ok()?;
    let mut profiles = Toml::string(&text)
        .data()
        .map_err(|error| {
            faults.push(format!(
                "{}: {}",
                path.display(),
                without_excerpt(&error.kind.to_string())
            ))
        })
        .ok()?;
    let mut values = profiles.remove(&Profile::Default).unwrap_or_default();
    for value in values.values_mut() {
        if let Value::String(_, text) = value {
            *text = text.trim().to_owned();
        }
    }
    for key in values
        .keys()
        .filter(|key| ROWS.iter().all(|row| row.key != *key))
    {
        faults.push(format!("{}: there is no setting `{key}`", path.display()));
    }
    Some(values)
}

/// The parser's message without the line that it quotes, which may hold a secret.
fn without_excerpt(message: &str) -> String {
    message
        .lines()
        .filter(|line| !line.contains('|'))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The settings' variables, and the names of those that only look like them.
fn read_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    faults: &mut Vec<String>,
) -> (Vec<(String, Value)>, Vec<String>) {
    let (mut values, mut unknown) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        let Some(name) = name.to_str() else { continue };
        let Some(row) = ROWS.iter().find(|row| row.variable == name) else {
            if name.starts_with("CHAT_") && name != "CHAT_CONFIG" {
                unknown.push(name.to_owned());
            }
            continue;
        };
        match value.into_string() {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => values.push((row.key.to_owned(), text.trim().into())),
            Err(_) => faults.push(format!("{name}: the value is not UTF-8")),
        }
    }
    unknown.sort();
    (values, unknown)
}

/// One setting from the layers; a fault is noted.
fn field<T: Setting>(
    figment: &Figment,
    key: &str,
    variable: &str,
    faults: &mut Vec<String>,
) -> Option<T> {
    let value = figment.find_value(key).ok();
    if let Some(setting) = T::read(value.as_ref()) {
        return Some(setting);
    }
    let source = value
        .as_ref()
        .and_then(|value| figment.get_metadata(value.tag()))
        .map(|metadata| metadata.name.as_ref());
    let place = match source {
        Some(file) if file != ENVIRONMENT && file != DEFAULTS => {
            format!("{file}: {key} ({variable})")
        }
        _ => variable.to_owned(),
    };
    let exact = value.as_ref().map(T::faults).unwrap_or_default();
    if !exact.is_empty() {
        faults.extend(exact.into_iter().map(|fault| format!("{place}: {fault}")));
        return None;
    }
    faults.push(match value.as_ref().and_then(value::text) {
        Some(text) if !T::SECRET => format!("{place}: {text:?} {}", T::fault(&text)),
        Some(_) => format!("{place}: the value (not shown) is not {}", T::EXPECTED),
        None => format!("{place}: what is given is not {}", T::EXPECTED),
    });
    None
}

#[cfg(test)]
mod tests;
