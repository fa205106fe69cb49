//! The tool servers: a list, or the `mcpServers` object that other programs use.

use std::time::Duration;

use chat_tools_mcp::McpServer;
use figment::value::Value as Layered;
use serde_json::{Map, Value};

use super::value::{Setting, text};

/// MCP servers that are started as child processes.
#[derive(Clone, Debug, Default)]
pub struct McpServers {
    /// The servers. If two have a tool of the same name, the first one keeps it.
    pub servers: Vec<ConfiguredServer>,
    /// Unknown keys, such as `files.icon`.
    pub unknown_keys: Vec<String>,
}

/// A server with optional limits of its own.
#[derive(Clone, Debug)]
pub struct ConfiguredServer {
    /// The server, with default limits.
    pub server: McpServer,
    /// Its own limit of a start.
    pub start_timeout: Option<Duration>,
    /// Its own limit of a call.
    pub call_timeout: Option<Duration>,
}

impl ConfiguredServer {
    /// The server with its own limits, or with these defaults.
    pub fn with_limits(&self, start_timeout: Duration, call_timeout: Duration) -> McpServer {
        McpServer {
            start_timeout: self.start_timeout.unwrap_or(start_timeout),
            call_timeout: self.call_timeout.unwrap_or(call_timeout),
            ..self.server.clone()
        }
    }
}

impl Setting for McpServers {
    const EXPECTED: &'static str =
        "a list of MCP servers, or an object `mcpServers` of servers by name";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        read(&serde_json::from_str(text).ok()?).ok()
    }

    fn read(value: Option<&Layered>) -> Option<Self> {
        read(&json(value?).ok()?).ok()
    }

    fn faults(value: &Layered) -> Vec<String> {
        json(value).map_or_else(
            |fault| vec![fault],
            |json| read(&json).err().unwrap_or_default(),
        )
    }
}

fn json(value: &Layered) -> Result<Value, String> {
    match text(value) {
        // The parser's message has the position, and no part of the text.
        Some(text) => serde_json::from_str(&text).map_err(|error| format!("is not JSON: {error}")),
        None => value
            .deserialize()
            .map_err(|_| format!("is not {}", McpServers::EXPECTED)),
    }
}

/// Reads all servers. Faults name the server and the key, and no value, which may be a secret.
fn read(json: &Value) -> Result<McpServers, Vec<String>> {
    let mut read = McpServers::default();
    let mut faults = Vec::new();
    let named: Vec<(String, Option<&Map<String, Value>>)> = match json {
        Value::Array(servers) => servers
            .iter()
            .enumerate()
            .map(|(index, server)| label(index, server))
            .collect(),
        Value::Object(object) => {
            let inner = ["mcpServers", "mcp_servers", "servers"]
                .into_iter()
                .find(|key| object.get(*key).is_some_and(Value::is_object));
            read.unknown_keys.extend(
                object
                    .keys()
                    .filter(|key| inner.is_some_and(|inner| inner != *key))
                    .cloned(),
            );
            let servers = inner
                .and_then(|inner| object.get(inner)?.as_object())
                .unwrap_or(object);
            let mut servers: Vec<_> = servers
                .iter()
                .map(|(name, server)| (name.clone(), server.as_object()))
                .collect();
            servers.sort_by(|(one, _), (other, _)| one.cmp(other));
            servers
        }
        _ => return Err(vec![format!("is not {}", McpServers::EXPECTED)]),
    };
    for (label, members) in named {
        let Some(members) = members else {
            faults.push(format!("{label}: is not an object with a `command`"));
            continue;
        };
        let mut server = Reader {
            label: &label,
            members,
            faults: &mut faults,
        };
        if let Some(configured) = server.configured(json.is_array()) {
            read.servers.push(configured);
        }
        read.unknown_keys.extend(
            members
                .keys()
                .filter(|key| !KEYS.contains(&key.as_str()))
                .map(|key| format!("{label}.{key}")),
        );
    }
    if faults.is_empty() {
        Ok(read)
    } else {
        Err(faults)
    }
}

/// The known keys of a server. `type` and `transport` may only be `stdio`.
const KEYS: [&str; 10] = [
    "name",
    "command",
    "args",
    "env",
    "cwd",
    "start_timeout",
    "call_timeout",
    "disabled",
    "type",
    "transport",
];

/// The keys that other programs use for a server over HTTP.
const ADDRESSES: [&str; 4] = ["url", "serverUrl", "httpUrl", "headers"];

fn label(index: usize, server: &Value) -> (String, Option<&Map<String, Value>>) {
    let name = server
        .get("name")
        .and_then(Value::as_str)
        .filter(|name| !name.trim().is_empty());
    (
        name.map_or(format!("the server at index {index}"), str::to_owned),
        server.as_object(),
    )
}

/// Reads one server, and collects its faults.
struct Reader<'a> {
    label: &'a str,
    members: &'a Map<String, Value>,
    faults: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn fault(&mut self, key: &str, fault: &str) {
        self.faults.push(format!("{}: `{key}` {fault}", self.label));
    }

    /// The server; `None` if it has faults, or is disabled.
    fn configured(&mut self, is_named_by_member: bool) -> Option<ConfiguredServer> {
        if let Some(Value::Bool(true)) = self.members.get("disabled") {
            return None;
        }
        let before = self.faults.len();
        if is_named_by_member && self.text("name").is_none() {
            self.fault("name", "is not a text with more than white space");
        }
        let remote = ADDRESSES
            .into_iter()
            .find(|key| self.members.contains_key(*key));
        let kind = ["type", "transport"]
            .into_iter()
            .find(|key| self.members.get(*key).is_some_and(|kind| kind != "stdio"));
        if let Some(key) = remote.or(kind) {
            self.fault(
                key,
                "is rejected: streamable HTTP is not supported yet; name a `command` that bridges \
                 to it, such as mcp-remote",
            );
            return None;
        }
        let Some(command) = self.text("command") else {
            self.fault("command", "is not a text with more than white space");
            return None;
        };
        let mut server = McpServer::new(self.label, command);
        server.args = self.args();
        server.env = self.env();
        if self.members.contains_key("cwd") {
            server.cwd = self.text("cwd").map(Into::into);
            if server.cwd.is_none() {
                self.fault("cwd", "is not a path");
            }
        }
        let (start_timeout, call_timeout) = (self.time("start_timeout"), self.time("call_timeout"));
        (self.faults.len() == before).then_some(ConfiguredServer {
            server,
            start_timeout,
            call_timeout,
        })
    }

    fn text(&self, key: &str) -> Option<String> {
        self.members
            .get(key)?
            .as_str()
            .filter(|text| !text.trim().is_empty())
            .map(str::to_owned)
    }

    fn args(&mut self) -> Vec<String> {
        let args = match self.members.get("args") {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(args)) => args.iter().map(scalar).collect::<Option<_>>(),
            Some(_) => None,
        };
        args.unwrap_or_else(|| {
            self.fault("args", "is not a list of texts");
            Vec::new()
        })
    }

    fn env(&mut self) -> std::collections::BTreeMap<String, String> {
        let members = match self.members.get("env") {
            None | Some(Value::Null) => return Default::default(),
            Some(Value::Object(members)) => members,
            Some(_) => {
                self.fault("env", "is not an object of texts");
                return Default::default();
            }
        };
        let mut env = std::collections::BTreeMap::new();
        for (name, value) in members {
            match scalar(value) {
                Some(_) if name.is_empty() || name.contains(['=', '\0']) => {
                    self.fault("env", "has an invalid name of a variable")
                }
                Some(value) if value.contains('\0') => {
                    self.fault(&format!("env.{name}"), "has the character U+0000")
                }
                Some(value) => drop(env.insert(name.clone(), value)),
                None => self.fault(
                    &format!("env.{name}"),
                    "is not a text, a number or a boolean",
                ),
            }
        }
        env
    }

    fn time(&mut self, key: &str) -> Option<Duration> {
        let written = self
            .members
            .get(key)
            .filter(|value| !value.is_null())
            .map(|value| scalar(value).unwrap_or_default())?;
        let time = Duration::parse(&written);
        if time.is_none() {
            self.fault(key, &Duration::fault(&written));
        }
        time
    }
}

/// A text, or a number or boolean as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(servers: &McpServers) -> Vec<&str> {
        servers
            .servers
            .iter()
            .map(|server| server.server.name.as_str())
            .collect()
    }

    #[test]
    fn the_format_of_other_programs_is_read() {
        let servers = json!({ "mcpServers": {
            "time": {
                "command": "uvx",
                "args": ["mcp-server-time", 7],
                "env": { "PORT": 8080, "DEBUG": true, "KEY": "k" },
                "cwd": "/srv",
            },
            "files": {
                "type": "stdio",
                "command": "npx",
                "start_timeout": "90s",
                "call_timeout": "2m",
                "icon": "x",
                "autoApprove": [],
            },
            "off": { "command": "npx", "disabled": true },
        }, "inputs": [] });
        let read = read(&servers).unwrap();
        assert_eq!(names(&read), ["files", "time"]);
        assert_eq!(
            read.unknown_keys,
            ["inputs", "files.autoApprove", "files.icon"]
        );
        let [files, time] = read.servers.as_slice() else {
            panic!("two servers")
        };
        let limits = |server: &ConfiguredServer| {
            let server = server.with_limits(Duration::from_secs(60), Duration::from_secs(30));
            (
                server.start_timeout.as_secs(),
                server.call_timeout.as_secs(),
            )
        };
        assert_eq!((limits(files), limits(time)), ((90, 120), (60, 30)));
        assert_eq!(
            (time.server.args.join(" "), time.server.cwd.clone()),
            ("mcp-server-time 7".to_owned(), Some("/srv".into()))
        );
        assert_eq!(
            time.server
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>(),
            ["DEBUG=true", "KEY=k", "PORT=8080"]
        );
        let plain = json!({ "time": { "command": "uvx" } });
        assert_eq!(names(&super::read(&plain).unwrap()), ["time"]);
    }

    #[test]
    fn a_list_keeps_its_order() {
        let servers =
            json!([{ "name": "b", "command": "x" }, { "name": "a", "command": "y", "colour": 1 }]);
        let read = read(&servers).unwrap();
        assert_eq!(
            (names(&read), read.unknown_keys.as_slice()),
            (vec!["b", "a"], ["a.colour".to_owned()].as_slice())
        );
    }

    #[test]
    fn faults_name_the_server_and_the_key_and_no_value() {
        for (servers, expected) in [
            (
                json!({ "mcpServers": { "a": { "url": "https://hunter2" } } }),
                "a: `url` is rejected: streamable HTTP is not supported yet",
            ),
            (
                json!([{ "name": "a", "type": "http", "command": "x" }]),
                "a: `type` is rejected: streamable HTTP",
            ),
            (json!([{ "name": "a" }]), "a: `command` is not a text"),
            (
                json!([{ "name": "a", "command": " " }]),
                "a: `command` is not a text",
            ),
            (
                json!([{ "command": "hunter2" }]),
                "the server at index 0: `name` is not a text",
            ),
            (
                json!([{ "name": "a", "command": "x" }, "hunter2"]),
                "the server at index 1: is not an object",
            ),
            (
                json!([{ "name": "a", "command": "x", "args": "hunter2" }]),
                "a: `args` is not a list of texts",
            ),
            (
                json!([{ "name": "a", "command": "x", "args": [["hunter2"]] }]),
                "a: `args` is not a list of texts",
            ),
            (
                json!([{ "name": "a", "command": "x", "env": "hunter2" }]),
                "a: `env` is not an object",
            ),
            (
                json!([{ "name": "a", "command": "x", "env": { "KEY": ["hunter2"] } }]),
                "a: `env.KEY` is not a text, a number or a boolean",
            ),
            (
                json!([{ "name": "a", "command": "x", "cwd": 7 }]),
                "a: `cwd` is not a path",
            ),
            (
                json!([{ "name": "a", "command": "x", "start_timeout": 90 }]),
                "a: `start_timeout` has no unit",
            ),
            (
                json!([{ "name": "a", "command": "x", "call_timeout": "soon" }]),
                "a: `call_timeout` is not a time",
            ),
            (
                json!("hunter2"),
                "is not a list of MCP servers, or an object",
            ),
        ] {
            let faults = read(&servers).unwrap_err().join("\n");
            assert!(
                faults.contains(expected) && !faults.contains("hunter2"),
                "{servers}: {faults}"
            );
        }
        let both = json!([{ "name": "a", "command": "x", "args": 1, "env": 2 }, { "name": "b" }]);
        assert_eq!(read(&both).unwrap_err().len(), 3);
    }

    #[test]
    fn values_are_never_shown() {
        let servers =
            McpServers::parse(r#"[{"name": "a", "command": "x", "env": {"TOKEN": "hunter2"}}]"#)
                .unwrap();
        assert!(!format!("{servers:?}").contains("hunter2"));
        assert!(McpServers::parse("files").is_none());
    }
}
