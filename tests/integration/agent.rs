//! The real Claude Code command line, against an imitation of its API on loopback. `tests/run` installs it from npm
//! and names its path in `CLAUDE`; without that the tests are not run.

#![expect(clippy::unwrap_used, reason = "the imitation panics like a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cc_executor::proto::control_request::{Action, WaitFor};
use cc_executor::proto::{self, Capture, Cause, ControlRequest, Environment, ExecuteRequest, ExecutionOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::run::{With, argv};
use crate::support::{Cookie, Events, Server, eventually};

/// Bytes of the large answer: enough to lose its end over a pipe more often than not.
const LARGE: usize = 1_000_000;

/// An imitation of the Messages API: a prompt with TOOL makes the agent run `command`, one with LARGE gets a large answer.
struct Api {
    address: String,
}

impl Api {
    async fn start(command: String) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, command.clone()));
            }
        });
        Api { address }
    }
}

async fn answer(connection: TcpStream, command: String) {
    let mut connection = BufReader::new(connection);
    let (mut length, mut first) = (0, String::new());
    connection.read_line(&mut first).await.unwrap();
    loop {
        let mut header = String::new();
        connection.read_line(&mut header).await.unwrap();
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if header.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.unwrap();
    let mut reply = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_owned();
    if first.starts_with("POST") {
        let request: Value = serde_json::from_slice(&body).unwrap_or_default();
        for event in events(&request["messages"].to_string(), &command) {
            reply.push_str(&format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()));
        }
    }
    // The agent may be gone by now: it was cancelled.
    let _gone = connection.write_all(reply.as_bytes()).await;
}

fn events(messages: &str, command: &str) -> Vec<Value> {
    let (block, delta, stop) = if messages.contains("TOOL") && !messages.contains("tool_result") {
        let input = json!({ "command": command, "description": "tool" }).to_string();
        (
            json!({ "type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {} }),
            json!({ "type": "input_json_delta", "partial_json": input }),
            "tool_use",
        )
    } else {
        let text = if messages.contains("LARGE") { "x".repeat(LARGE) } else { "hello".to_owned() };
        (json!({ "type": "text", "text": "" }), json!({ "type": "text_delta", "text": text }), "end_turn")
    };
    let usage = json!({ "input_tokens": 1, "output_tokens": 1 });
    vec![
        json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message", "role": "assistant",
            "model": "imitation", "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": block }),
        json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": usage }),
        json!({ "type": "message_stop" }),
    ]
}

/// A request to run the agent on a prompt, as the README advises: FILE capture, prompt by stdin.
fn agent(api: &Api, cookie: &Cookie, home: &Path, prompt: &str) -> ExecuteRequest {
    let claude = std::env::var("CLAUDE").expect("tests/run names the agent in CLAUDE");
    let variables = [
        ("ANTHROPIC_BASE_URL", api.address.as_str()),
        ("ANTHROPIC_API_KEY", "sk-imitation"),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("DISABLE_AUTOUPDATER", "1"),
        ("HOME", home.to_str().unwrap()),
        ("COOKIE", cookie.0.as_str()),
    ];
    let set: BTreeMap<_, _> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let stdin = proto::Stdin { mode: proto::stdin::Mode::Inline.into(), inline_data: prompt.to_owned().into() };
    argv(&claude, &["-p", "--output-format=stream-json", "--verbose", "--allowedTools=Bash"]).options(
        ExecutionOptions {
            working_directory: home.to_str().unwrap().to_owned(),
            environment: Some(Environment { set, ..Environment::default() }),
            stdin: Some(stdin),
            capture: Capture::File.into(),
            ..ExecutionOptions::default()
        },
    )
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

fn control(id: &str, action: Action) -> ControlRequest {
    ControlRequest {
        execution_id: id.to_owned(),
        wait_for: WaitFor::Effect.into(),
        action: Some(action),
        ..ControlRequest::default()
    }
}

#[tokio::test]
#[ignore = "needs the real agent: run by tests/run"]
async fn a_large_answer_of_an_agent_is_kept_whole() {
    let api = Api::start(String::new()).await;
    let server = Server::start().await;
    let home = server.path("home");
    std::fs::create_dir(&home).unwrap();
    for _ in 0..3 {
        let request = agent(&api, &Cookie::new(), &home, "LARGE");
        let stream = server.executions().await.execute(request).await.unwrap().into_inner();
        let seen = Events::of(stream).to_end().await;
        assert_eq!(seen.exit_code(), 0, "{}", seen.stderr());
        let last: Value = serde_json::from_str(seen.stdout().lines().last().unwrap()).expect("a whole line");
        assert_eq!(last["type"], "result");
        assert_eq!(last["result"].as_str().map(str::len), Some(LARGE));
    }
}

#[tokio::test]
#[ignore = "needs the real agent: run by tests/run"]
async fn pause_and_cancel_reach_the_tool_of_an_agent() {
    for rung in ["cgroup", "shim", "group"] {
        let server = Server::setup().arg("--containment").arg(rung).start().await;
        let home = server.path("home");
        std::fs::create_dir(&home).unwrap();
        let ticks: PathBuf = server.path("ticks");
        let api = Api::start(format!("while :; do echo tick >> {}; sleep 0.02; done", ticks.display())).await;
        let cookie = Cookie::new();
        let mut client = server.executions().await;
        client.create_execution(agent(&api, &cookie, &home, "TOOL").id("agent").create()).await.unwrap();
        eventually("the tool runs", async || (lines(&ticks) > 3).then_some(())).await;

        client.control(control("agent", Action::Pause(proto::Pause {}))).await.unwrap();
        let paused_at = lines(&ticks);
        // A process of ours doing the tool's work fifty times shows that there was time to go on.
        let yardstick = argv("sh", &["-c", "for i in $(seq 50); do sleep 0.02; done"]);
        Events::of(client.execute(yardstick).await.unwrap().into_inner()).to_end().await;
        assert_eq!(lines(&ticks), paused_at, "the tool went on through the pause ({rung})");

        client.control(control("agent", Action::Resume(proto::Resume {}))).await.unwrap();
        eventually("the tool goes on", async || (lines(&ticks) > paused_at).then_some(())).await;

        let cancelled = client.control(control("agent", Action::Cancel(proto::Cancel::default()))).await.unwrap();
        let outcome = cancelled.into_inner().execution.unwrap().outcome.unwrap();
        assert_eq!(outcome.cause(), Cause::Cancelled);
        assert!(outcome.survivors.is_empty());
        cookie.wait_for_none().await;
    }
}
