//! An MCP server for tests, which records its runs before it answers, and waits where a test
//! requires it.
//!
//! `witness-tools LOG GATE`: each tool call appends `begin TOOL CALL_ID USER` to the file `LOG`,
//! sends the same line to the address `GATE` and waits for an answer (`-` for no gate), and appends
//! `end TOOL CALL_ID USER`. Calls run concurrently; the argument `pause_ms` makes a call take that
//! long. At its start it appends its server's process id and its own to `witness.processes`. It
//! implements <https://modelcontextprotocol.io/specification/2025-06-18> without a library.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test program may panic"
)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use chat_tests::server::PROCESSES;
use serde_json::{Value, json};

fn main() {
    let mut args = std::env::args().skip(1);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(args.next().unwrap())
        .unwrap();
    let gate = args.next().filter(|gate| gate != "-");
    let processes = OpenOptions::new()
        .create(true)
        .append(true)
        .open(PROCESSES)
        .unwrap();
    log_line(
        &processes,
        &format!(
            "{} {}",
            std::os::unix::process::parent_id(),
            std::process::id()
        ),
    );
    let witness = Arc::new(Witness { log, gate });
    for line in std::io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let witness = Arc::clone(&witness);
        std::thread::spawn(move || witness.handle(&message));
    }
}

struct Witness {
    log: File,
    gate: Option<String>,
}

impl Witness {
    fn handle(&self, message: &Value) {
        let (id, params) = (&message["id"], &message["params"]);
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": params["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "witness", "version": "1" }
            }),
            Some("tools/list") => json!({ "tools": [
                tool("pay", json!({ "readOnlyHint": false })),
                tool("look", json!({ "readOnlyHint": true })),
                tool("fail", json!({})),
                tool("hang", json!({})),
                tool("die", json!({})),
                tool("big", json!({})),
            ] }),
            Some("tools/call") => match self.call(params) {
                Some(result) => result,
                None => return,
            },
            _ => return,
        };
        println!(
            "{}",
            json!({ "jsonrpc": "2.0", "id": id, "result": result })
        );
    }

    fn call(&self, params: &Value) -> Option<Value> {
        let tool = params["name"].as_str().unwrap();
        let meta = |key: &str| params["_meta"][key].as_str().unwrap_or("?").to_owned();
        let call = format!("{tool} {} {}", meta("chat/call_id"), meta("chat/user_id"));
        self.log_line(&format!("begin {call}"));
        if let Some(gate) = &self.gate {
            let mut stream = TcpStream::connect(gate).unwrap();
            writeln!(stream, "begin {call}").unwrap();
            BufReader::new(stream)
                .read_line(&mut String::new())
                .unwrap();
        }
        std::thread::sleep(Duration::from_millis(
            params["arguments"]["pause_ms"].as_u64().unwrap_or_default(),
        ));
        let answer = match tool {
            "fail" => {
                json!({ "content": [{ "type": "text", "text": "it is broken" }], "isError": true })
            }
            "hang" => return None,
            "die" => std::process::exit(7),
            "big" => {
                json!({ "content": [], "structuredContent": { "text": "x".repeat(10_000_000) } })
            }
            _ => {
                json!({
                    "content": [],
                    "structuredContent": { "call": meta("chat/call_id"), "done": tool },
                })
            }
        };
        self.log_line(&format!("end {call}"));
        Some(answer)
    }

    fn log_line(&self, line: &str) {
        log_line(&self.log, line);
    }
}

fn log_line(mut file: &File, line: &str) {
    // A single write keeps concurrent lines separate.
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
    file.sync_data().unwrap();
}

fn tool(name: &str, annotations: Value) -> Value {
    json!({
        "name": name, "description": format!("The tool {name}."),
        "inputSchema": { "type": "object" }, "annotations": annotations,
    })
}
