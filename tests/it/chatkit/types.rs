//! OpenAI's own types, in Python and in TypeScript, with every response of the server.
//!
//! The packages come from PyPI and npm, at these versions. They are downloaded once, into folders
//! below `target`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chat_test_support::stub_agent::{Answer, StubAgent, chunk};
use serde_json::{Value, json};

use super::client::{ChatKit, input, thread_of};
use chat_tests::client::token;
use chat_tests::server::Home;
use chat_tests::witness::Witness;

const PYTHON_PACKAGE: &str = "openai-chatkit==1.6.5";

/// Runs a command to its end and returns its output. `needs` describes the required software.
fn run(command: &mut Command, needs: &str) -> String {
    // The variables of the command are not shown, because one is a token.
    let shown = format!(
        "{} {:?}",
        command.get_program().display(),
        command.get_args().collect::<Vec<_>>()
    );
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{shown}: {error}\nThis test needs {needs}."));
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{shown}: {}\n{stdout}{stderr}\nThis test needs {needs}.",
        output.status
    );
    stdout.into_owned()
}

/// Returns a folder below `target` that `make` fills once. An unfinished folder is removed.
fn create_once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let done = folder.join("done");
    if !done.exists() {
        // The folder may not exist.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        make(&folder);
        fs::write(done, "").unwrap();
    }
    folder
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("chatkit")
}

/// Uses every request of the protocol, and returns all responses.
async fn all_responses() -> Vec<Value> {
    let half = format!("data: {}\n\n", chunk::text("Half")).len();
    let agent = StubAgent::start(move |recorded| {
        let messages = recorded.messages();
        let last = messages.last().unwrap();
        match (
            last["role"].as_str().unwrap(),
            last["content"].as_str().unwrap_or_default(),
        ) {
            ("user", "Use tools") => Answer::calls([
                ("look", r#"{"text":"é 🦀 ``` \u2028"}"#),
                ("fail", "{}"),
                ("no_such_tool", "{}"),
                ("die", "{}"),
            ]),
            ("user", "Fail") => Answer::error(401, "", "No"),
            ("user", "Hang") => Answer::text(["Half", "whole"]).hang_after(half),
            _ => Answer::text(["One ", "of **two**.\n\n```json\n{}\n```"]),
        }
    });
    let (_witness, home) =
        Witness::new(Home::with_agent(&agent.base_url()).set("CHAT_CALLS_AT_ONCE", "1"));
    let server = home.start();
    let ann = ChatKit::new(&server, "ann");
    let created = ann.create("Use tools").await;
    let thread = thread_of(&created);
    assert!(
        created
            .iter()
            .any(|event| event["item"]["type"] == "workflow"),
        "{created:?}"
    );
    let question = ann.add(&thread, "Hi").await[0]["item"]["id"].clone();
    ann.events(
        "threads.retry_after_item",
        json!({ "thread_id": thread, "item_id": question }),
    )
    .await;
    let failed = ann.add(&thread, "Fail").await;
    assert_eq!(failed.last().unwrap()["type"], "error", "{failed:?}");
    let tags = json!([
        { "type": "input_text", "text": "See " },
        { "type": "input_tag", "id": "d", "text": "Doc", "data": { "k": null } },
    ]);
    let rich = json!({
        "content": tags, "attachments": [], "quoted_text": "Hi",
        "inference_options": { "model": "m" },
    });
    ann.events(
        "threads.add_user_message",
        json!({ "thread_id": thread, "input": rich }),
    )
    .await;
    ann.events(
        "threads.add_client_tool_output",
        json!({ "thread_id": thread, "result": { "a": null } }),
    )
    .await;
    let form = json!({ "answers": { "q": { "values": ["a"] } } });
    ann.events(
        "threads.add_structured_input",
        json!({ "thread_id": thread, "item_id": "msg_1", "input": form }),
    )
    .await;
    ann.events(
        "threads.custom_action",
        json!({ "thread_id": thread, "item_id": null, "action": { "type": "buy" } }),
    )
    .await;
    ann.events("threads.create", json!({ "input": input(" ") }))
        .await;

    // The title changes, and the answer is stopped, while it is streamed.
    let mut stream = ann
        .open("threads.create", json!({ "input": input("Hang") }))
        .await;
    let stopped = thread_of(
        &stream
            .until("assistant_message.content_part.text_delta")
            .await,
    );
    let mut listener = ann
        .open(
            "threads.add_user_message",
            json!({ "thread_id": stopped, "input": input("Then") }),
        )
        .await;
    listener.until("stream_options").await;
    ann.ask(
        "threads.update",
        json!({ "thread_id": stopped, "title": "Renamed" }),
    )
    .await;
    drop(stream);
    assert_eq!(
        listener.rest().await.last().unwrap()["type"],
        "thread.updated"
    );

    for order in ["asc", "desc"] {
        ann.all("threads.list", json!({ "order": order })).await;
        for id in [&thread, &stopped] {
            ann.all("items.list", json!({ "thread_id": id, "order": order }))
                .await;
            ann.ask(
                "items.list",
                json!({ "thread_id": id, "order": order, "limit": 1 }),
            )
            .await;
        }
    }
    ann.ask("threads.get_by_id", json!({ "thread_id": stopped }))
        .await;
    let loaded = ann
        .ask("threads.get_by_id", json!({ "thread_id": thread }))
        .await;
    let rated: Vec<_> = loaded["items"]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].clone())
        .collect();
    ann.ask(
        "items.feedback",
        json!({ "thread_id": thread, "item_ids": rated, "kind": "negative" }),
    )
    .await;
    ann.ask("threads.delete", json!({ "thread_id": stopped }))
        .await;
    for (kind, params) in [
        (
            "threads.sync_custom_action",
            json!({ "thread_id": thread, "action": { "type": "buy" } }),
        ),
        (
            "attachments.create",
            json!({ "name": "a", "size": 1, "mime_type": "text/plain" }),
        ),
        ("attachments.delete", json!({ "attachment_id": "atc_1" })),
        (
            "input.transcribe",
            json!({ "audio_base64": "AA==", "mime_type": "audio/mp4" }),
        ),
    ] {
        let (status, problem) = ann.refused(kind, params).await;
        assert!(
            status == 501 && problem["message"].is_string(),
            "{kind}: {problem}"
        );
    }
    ann.record.lock().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_package_parses_every_response() {
    let needs = "python3 with venv (Debian: python3-venv), and PyPI the first time";
    let environment = create_once(
        &format!("chatkit-python-{}", PYTHON_PACKAGE.replace("==", "-")),
        |folder| {
            run(
                Command::new("python3")
                    .args(["-m", "venv"])
                    .arg(folder.join("venv")),
                needs,
            );
            run(
                Command::new(folder.join("venv/bin/pip")).args([
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    PYTHON_PACKAGE,
                ]),
                needs,
            );
        },
    );
    let output = all_responses().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("output.jsonl");
    fs::write(
        &file,
        output
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    )
    .unwrap();
    let seen = run(
        Command::new(environment.join("venv/bin/python"))
            .arg(sources().join("check.py"))
            .arg(&file),
        needs,
    );
    let seen: Value = serde_json::from_str(&seen).unwrap();
    // The server must have used every type, and the client all sixteen requests.
    for kind in [
        "event thread.created",
        "event thread.updated",
        "event thread.item.added",
        "event thread.item.done",
        "event stream_options",
        "event error",
        "event assistant_message.content_part.added",
        "event assistant_message.content_part.text_delta",
        "event assistant_message.content_part.done",
        "event workflow.task.added",
        "event workflow.task.updated",
        "item user_message",
        "item assistant_message",
        "item workflow",
        "item task",
        "response threads.get_by_id",
        "response threads.list",
        "response items.list",
        "response items.feedback",
        "response threads.update",
        "response threads.delete",
    ] {
        assert!(seen[kind].is_u64(), "{kind} is missing: {seen}");
    }
    assert_eq!(
        seen.as_object()
            .unwrap()
            .keys()
            .filter(|kind| kind.starts_with("request "))
            .count(),
        16,
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typescript_front_end_uses_the_server() {
    let needs = "node 20 or newer and npm, and the npm registry the first time";
    let lock = fs::read_to_string(sources().join("package-lock.json")).unwrap();
    let version = lock.bytes().fold(0_u64, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(byte.into())
    });
    let packages = create_once(&format!("chatkit-typescript-{version:016x}"), |folder| {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(sources().join(file), folder.join(file)).unwrap();
        }
        run(
            Command::new("npm")
                .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
                .current_dir(folder),
            needs,
        );
    });
    for file in ["client.ts", "tsconfig.json"] {
        fs::copy(sources().join(file), packages.join(file)).unwrap();
    }
    run(
        Command::new("node")
            .arg("node_modules/typescript/bin/tsc")
            .current_dir(&packages),
        needs,
    );
    let server = Home::new().set("CHAT_DEMO_WORD_DELAY", "20ms").start();
    let url = format!("http://{}/chatkit", server.address);
    let mut node = Command::new("node");
    node.arg("dist/client.js")
        .current_dir(&packages)
        .env("CHAT_URL", url)
        .env("CHAT_TOKEN", token("ann"));
    let output = tokio::task::spawn_blocking(move || run(&mut node, needs))
        .await
        .unwrap();
    assert_eq!(output.trim(), "ok");
}
