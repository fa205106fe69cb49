//! An MCP server for tests that misbehaves on demand. It implements
//! <https://modelcontextprotocol.io/specification/2025-06-18> without the library under test.
//!
//! `mcp-test-server LOG [OPTION…]` appends one line to the file `LOG` for its start and for each
//! message. Options: `tools=a,b` lists only these tools; `paged` lists one tool per page; `garbage`
//! writes invalid lines between its answers; `needs=FILE` exits at the start if the file does not
//! exist; `slow=FILE` answers `initialize` only when the file exists; `list=FILE`, `init=FILE` and
//! `raw=FILE` answer `tools/list`, `initialize` and the tools `raw` and `raw_read` with the bytes
//! of the file, in which `$ID` is replaced by the request's id; `cursor=TEXT` gives each page the
//! same next cursor; `stubborn` survives the end of its standard input.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test program may panic"
)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

fn main() {
    let mut args = std::env::args().skip(1);
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(args.next().unwrap())
        .unwrap();
    let options: Vec<String> = args.collect();
    log_line(&mut log, "start");
    if let Some(file) = option(&options, "needs")
        && !Path::new(file).exists()
    {
        eprintln!("cannot start without {file}");
        std::process::exit(1);
    }
    let mut server = Server {
        log,
        options,
        grown: false,
        cancelled: Vec::new(),
        waiting: None,
    };
    for line in std::io::stdin().lock().lines() {
        server.handle(&serde_json::from_str(&line.unwrap()).unwrap());
    }
    log_line(&mut server.log, "end");
    while server.options.iter().any(|option| option == "stubborn") {
        std::thread::park();
    }
}

fn option<'a>(options: &'a [String], name: &str) -> Option<&'a str> {
    options
        .iter()
        .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
}

fn log_line(log: &mut File, line: &str) {
    writeln!(log, "{line}").unwrap();
}

struct Server {
    log: File,
    options: Vec<String>,
    grown: bool,
    /// Requests that the client cancelled.
    cancelled: Vec<Value>,
    /// The request that is answered at the next cancellation.
    waiting: Option<Value>,
}

impl Server {
    fn handle(&mut self, message: &Value) {
        let (id, params) = (&message["id"], &message["params"]);
        match message["method"].as_str() {
            Some("initialize") => {
                while option(&self.options, "slow").is_some_and(|file| !Path::new(file).exists()) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                if self.answer_raw("init", id) {
                    return;
                }
                self.answer(
                    id,
                    json!({
                        "protocolVersion": params["protocolVersion"],
                        "capabilities": { "tools": { "listChanged": true } },
                        "serverInfo": { "name": "test", "version": "1" },
                    }),
                );
            }
            Some("ping") => self.answer(id, json!({})),
            Some("tools/list") => {
                log_line(&mut self.log, "list");
                if self.answer_raw("list", id) {
                    return;
                }
                let page = self.page(params["cursor"].as_str());
                self.answer(id, page);
            }
            Some("tools/call") => {
                log_line(
                    &mut self.log,
                    &format!(
                        "call {} {}",
                        params["name"].as_str().unwrap(),
                        params["arguments"]
                    ),
                );
                self.call(id, params);
            }
            Some("notifications/cancelled") => {
                self.cancelled.push(params["requestId"].clone());
                if let Some(waiting) = self.waiting.take() {
                    self.tell_cancelled(&waiting);
                }
            }
            _ => {}
        }
    }

    fn page(&self, cursor: Option<&str>) -> Value {
        let mut tools = all_tools();
        if self.grown {
            tools.push(tool("grown", json!({})));
        }
        if let Some(names) = option(&self.options, "tools") {
            tools.retain(|tool| names.split(',').any(|name| tool["name"] == name));
        }
        if let Some(cursor) = option(&self.options, "cursor") {
            return json!({ "tools": tools, "nextCursor": cursor });
        }
        if !self.options.iter().any(|option| option == "paged") {
            return json!({ "tools": tools });
        }
        let at: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        match at + 1 < tools.len() {
            true => json!({ "tools": [tools[at]], "nextCursor": (at + 1).to_string() }),
            false => json!({ "tools": [tools[at]] }),
        }
    }

    fn call(&mut self, id: &Value, params: &Value) {
        let text = |text: &str| json!({ "content": [{ "type": "text", "text": text }] });
        match params["name"].as_str().unwrap() {
            "echo" => {
                let echo = json!({ "arguments": params["arguments"], "meta": params["_meta"] });
                self.answer(id, json!({ "content": [], "structuredContent": echo }));
            }
            "environment" => {
                let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
                self.answer(
                    id,
                    json!({
                        "content": [],
                        "structuredContent": {
                            "names": names, "SPECIAL": std::env::var("SPECIAL").ok(),
                        },
                    }),
                );
            }
            "words" => self.answer(id, text("just words")),
            "nul" => self.answer(
                id,
                json!({ "content": [], "structuredContent": { "a\0": "b\0c" } }),
            ),
            "fail" => self.answer(
                id,
                json!({ "content": [{ "type": "text", "text": "it is broken" }], "isError": true }),
            ),
            "big" => {
                let big = "x".repeat(10_000_000);
                self.answer(id, text(&big));
            }
            "huge" => {
                // The id is the last member, as in the output of a program that sorts its keys.
                let mut stdout = std::io::stdout().lock();
                stdout
                    .write_all(br#"{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":""#)
                    .unwrap();
                (0..60).for_each(|_| stdout.write_all("x".repeat(1 << 20).as_bytes()).unwrap());
                writeln!(stdout, r#""}}]}},"id":{id}}}"#).unwrap();
                stdout.flush().unwrap();
            }
            "raw" | "raw_read" => assert!(self.answer_raw("raw", id)),
            "hang" => {}
            "freeze" => loop {
                std::thread::park();
            },
            "cancelled" if self.cancelled.is_empty() => self.waiting = Some(id.clone()),
            "cancelled" => self.tell_cancelled(id),
            "die" => std::process::exit(7),
            "grow" => {
                self.grown = true;
                self.send(
                    &json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }),
                );
                self.answer(id, text("grown"));
            }
            "refuse" => {
                let error = json!({ "code": -32602, "message": "not like this" });
                self.send(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
            }
            "close_stdin" => {
                // Answers, and then neither reads nor exits, so that later calls are written but
                // never read.
                self.answer(id, text("deaf"));
                log_line(&mut self.log, "deaf");
                loop {
                    std::thread::park();
                }
            }
            other => panic!("no tool {other}"),
        }
    }

    fn tell_cancelled(&self, id: &Value) {
        self.answer(
            id,
            json!({ "content": [], "structuredContent": { "requests": self.cancelled.len() } }),
        );
    }

    fn answer(&self, id: &Value, result: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
    }

    /// Answers with the bytes of the option's file. Returns false without the option.
    fn answer_raw(&self, name: &str, id: &Value) -> bool {
        let Some(file) = option(&self.options, name) else {
            return false;
        };
        let mut bytes = Vec::new();
        for (at, piece) in std::fs::read(file)
            .unwrap()
            .split(|byte| *byte == b'$')
            .enumerate()
        {
            match piece.strip_prefix(b"ID") {
                Some(rest) if at > 0 => bytes.extend([id.to_string().as_bytes(), rest].concat()),
                _ => bytes.extend(piece),
            }
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&bytes).unwrap();
        stdout.write_all(b"\n").unwrap();
        stdout.flush().unwrap();
        true
    }

    fn send(&self, message: &Value) {
        let mut stdout = std::io::stdout().lock();
        if self.options.iter().any(|option| option == "garbage") {
            stdout
                .write_all(b"Loading\xff plugins...\n\n{\"half\": \n[]\n{\"jsonrpc\":\"2.0\"}\n")
                .unwrap();
        }
        writeln!(stdout, "{message}").unwrap();
        stdout.flush().unwrap();
    }
}

fn tool(name: &str, annotations: Value) -> Value {
    json!({
        "name": name, "description": format!("The tool {name}."),
        "inputSchema": { "type": "object" }, "annotations": annotations,
    })
}

fn all_tools() -> Vec<Value> {
    let mut tools = vec![
        tool("echo", json!({ "readOnlyHint": true })),
        tool("words", json!({ "idempotentHint": true })),
        tool("raw_read", json!({ "readOnlyHint": true })),
        tool(
            "nul",
            json!({ "readOnlyHint": false, "idempotentHint": false }),
        ),
    ];
    tools.extend(
        [
            "environment",
            "fail",
            "big",
            "huge",
            "raw",
            "hang",
            "freeze",
            "cancelled",
            "die",
            "grow",
            "refuse",
            "close_stdin",
        ]
        .map(|name| tool(name, json!({}))),
    );
    tools
}
