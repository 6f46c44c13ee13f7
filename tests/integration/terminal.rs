//! Runs on a pseudo-terminal.

use cc_executor::proto::control_request::Action;
use cc_executor::proto::execution_event::Event;
use cc_executor::proto::stdin::Mode;
use cc_executor::proto::{self, Channel, ExecuteRequest, ExecutionOptions, Resize, Terminal};
use tokio_stream::Stream;
use tonic::{Code, Status};

use crate::support::calls::{attach, input};
use crate::support::run::{HasEvent, With, argv};
use crate::support::{Events, Server, refusal, shell};

fn on_terminal(request: ExecuteRequest, terminal: Terminal) -> ExecuteRequest {
    request.options(ExecutionOptions { terminal: Some(terminal), ..ExecutionOptions::default() })
}

/// Reads until the terminal shows `text`.
async fn shows<S, R>(events: &mut Events<S>, text: &str)
where
    S: Stream<Item = Result<R, Status>> + Unpin,
    R: HasEvent,
{
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains(text) {
        let more = events.until(|event| if let Event::Output(it) = event { Some(it.data.clone()) } else { None }).await;
        shown.extend_from_slice(&more);
    }
}

#[tokio::test]
async fn the_run_has_a_terminal_for_input_output_and_errors() {
    let server = Server::start().await;
    let script =
        "for fd in 0 1 2; do [ -t $fd ] && echo tty$fd; done; stty size; echo $TERM; echo oops >&2; tty > /dev/tty";
    let seen = server.client().await.run(on_terminal(shell(script), Terminal::default())).await.whole();
    let text = String::from_utf8(seen.bytes(Channel::Terminal)).unwrap();
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(lines[..6], ["tty0", "tty1", "tty2", "24 80", "xterm-256color", "oops"], "{text}");
    assert!(lines[6].starts_with("/dev/pts/"), "it is the controlling terminal: {text}");
    assert_eq!(seen.outcome().channels.len(), 1, "there is one channel");
    assert!(seen.outcome().success && !seen.outcome().output_incomplete);
}

#[tokio::test]
async fn the_size_and_the_name_are_what_the_request_says_and_the_size_can_change() {
    let server = Server::start().await;
    let client = server.client().await;
    let terminal = Terminal { rows: 3, columns: 10_000, term: "dumb".to_owned() };
    let script = "trap 'stty size' WINCH; echo $TERM; stty size; while :; do read line && break; done; echo bye";
    let mut request = on_terminal(shell(script).id("resized"), terminal);
    if let Some(proto::execute_request::Command::Shell(shell)) = &mut request.command {
        shell.interpreter = "bash".to_owned();
    }
    let mut events = client.execute(request).await;
    shows(&mut events, "dumb\r\n3 10000\r\n").await;
    let resize = |rows, columns| Action::Resize(Resize { rows, columns });
    client.control("resized", resize(50, 132)).await.unwrap();
    client.write("resized", input(None, "\n", false)).await.unwrap();
    let seen = events.to_end().await;
    let text = String::from_utf8(seen.bytes(Channel::Terminal)).unwrap();
    assert!(text.contains("50 132") && text.ends_with("bye\r\n"), "{text:?}");
    for (rows, columns, field) in [(0, 80, "resize.rows"), (24, 0, "resize.columns"), (10_001, 80, "resize.rows")] {
        assert_eq!(refusal(client.control("resized", resize(rows, columns)).await).fields, [field]);
    }
}

#[tokio::test]
async fn what_is_typed_arrives_and_the_end_of_input_is_an_end_of_file() {
    let server = Server::start().await;
    let client = server.client().await;
    for (id, typed) in [("line", "typed\n"), ("no-line", "typed"), ("nothing", "")] {
        let script = "stty -echo; echo ready; cat; echo end";
        let mut events = client.execute(on_terminal(shell(script).id(id), Terminal::default())).await;
        shows(&mut events, "ready").await;
        assert_eq!(client.get(id).await.stdin_offset, Some(0), "{id}: a terminal takes input");
        client.write(id, input(Some(0), typed, true)).await.unwrap();
        let seen = events.to_end().await.whole();
        let text = String::from_utf8(seen.bytes(Channel::Terminal)).unwrap();
        assert_eq!(text, format!("ready\r\n{}end\r\n", typed.replace('\n', "\r\n")), "{id}");
        assert!(seen.outcome().success, "{id}");
    }
}

#[tokio::test]
async fn control_c_interrupts() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut events = client.execute(on_terminal(shell("echo ready; exec cat").id("int"), Terminal::default())).await;
    shows(&mut events, "ready").await;
    client.write("int", input(None, "\x03", false)).await.unwrap();
    match &events.to_end().await.outcome().ending {
        Some(proto::outcome::Ending::Signal(signal)) => {
            assert_eq!((signal.number, signal.name.as_str()), (2, "SIGINT"))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_terminal_keeps_the_last_byte_of_a_large_answer() {
    let server = Server::start().await;
    let client = server.client().await;
    let seen = client.run(on_terminal(shell("stty -onlcr; seq 1 200000").id("large"), Terminal::default())).await;
    let wanted: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(seen.whole().bytes(Channel::Terminal) == wanted.as_bytes());
    assert!(client.attach(attach("large")).await.whole().bytes(Channel::Terminal) == wanted.as_bytes());
    let request = proto::ReadOutputRequest { execution_id: "large".to_owned(), ..Default::default() };
    let bytes = client.output(request).await.unwrap();
    assert!(bytes == wanted.as_bytes(), "ReadOutput reads the terminal of a run that has one");
}

#[tokio::test]
async fn null_input_is_no_input_on_a_terminal_either() {
    let server = Server::start().await;
    let client = server.client().await;
    let stdin = Some(proto::Stdin { mode: Mode::Null.into(), ..Default::default() });
    let options = ExecutionOptions { stdin, terminal: Some(Terminal::default()), ..ExecutionOptions::default() };
    let seen = client.run(shell("cat; [ -t 0 ] || echo none; [ -t 1 ] && echo tty").options(options)).await;
    assert_eq!(seen.bytes(Channel::Terminal), b"none\r\ntty\r\n");
    assert_eq!(seen.accepted().0.stdin_offset, None);
}

#[tokio::test]
async fn only_a_terminal_has_a_size() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut events = client.execute(argv("sleep", &["1000"]).id("pipes")).await;
    events.until(|event| matches!(event, Event::Started(_)).then_some(())).await;
    let refused = refusal(client.control("pipes", Action::Resize(Resize { rows: 1, columns: 1 })).await);
    assert_eq!(refused.kind(), (Code::FailedPrecondition, "NOT_A_TERMINAL"));
    client.kill("pipes").await;
}
