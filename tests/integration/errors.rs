//! Every way to be refused: the code, the reason, the details. What clients may rely on to tell errors apart.

use std::time::Duration;

use cc_executor::proto::control_request::Action;
use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{
    self, CreateExecutionRequest, Environment, ErrorReason, ExecutionOptions, ExecutionState, Limits, SendSignal,
    StreamOptions, Terminal, Timeouts,
};
use prost::Message;
use tonic::Code;

use crate::support::calls::{attach, attach_from, behind, input};
use crate::support::raw::Call;
use crate::support::run::{With, argv};
use crate::support::{Refusal, Server, refusal, shell};

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// What is refused of a request to create, and which fields it names.
async fn fields(server: &Server, request: CreateExecutionRequest) -> Vec<String> {
    let mut executions = server.executions().await;
    let refused = refusal(executions.create_execution(request).await);
    assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_FIELD"));
    refused.fields
}

/// Options, each with one thing wrong, and the field that must be named.
fn wrong_options() -> Vec<(&'static str, ExecutionOptions)> {
    let usual = ExecutionOptions::default;
    let limits = |limits| ExecutionOptions { limits: Some(limits), ..usual() };
    let timeouts = |timeouts| ExecutionOptions { timeouts: Some(timeouts), ..usual() };
    let terminal = |rows, columns| Some(Terminal { rows, columns, term: String::new() });
    let labels =
        |key: &str, value: &str| ExecutionOptions { labels: [(key.to_owned(), value.to_owned())].into(), ..usual() };
    let set = |name: &str, value: &str| {
        let set = [(name.to_owned(), value.to_owned())].into();
        ExecutionOptions { environment: Some(Environment { set, ..Environment::default() }), ..usual() }
    };
    let unset = |name: &str| {
        let unset = vec![name.to_owned()];
        ExecutionOptions { environment: Some(Environment { unset, ..Environment::default() }), ..usual() }
    };
    let inline = proto::Stdin { mode: proto::stdin::Mode::Inline.into(), ..Default::default() };
    let too_long = seconds(31 * 24 * 60 * 60);
    let zero = seconds(0);
    let many_labels = (0..65).map(|number| (format!("l{number}"), String::new())).collect();
    vec![
        ("options.working_directory", ExecutionOptions { working_directory: "usr".to_owned(), ..usual() }),
        ("options.working_directory", ExecutionOptions { working_directory: "/no/such".to_owned(), ..usual() }),
        ("options.working_directory", ExecutionOptions { working_directory: "/etc/passwd".to_owned(), ..usual() }),
        (
            "options.environment.inherit",
            ExecutionOptions { environment: Some(Environment { inherit: 9, ..Environment::default() }), ..usual() },
        ),
        ("options.environment.set", set("", "x")),
        ("options.environment.set", set("A=B", "x")),
        ("options.environment.set", set("A\0", "x")),
        ("options.environment.set", set("A", "x\0")),
        ("options.environment.set", set("A", &"x".repeat(128 << 10))),
        ("options.environment.set", set("CC_EXECUTION_ID", "x")),
        ("options.environment.unset", unset("CC_EXECUTION_ID")),
        (
            "options.stdin.mode",
            ExecutionOptions { stdin: Some(proto::Stdin { mode: 9, ..Default::default() }), ..usual() },
        ),
        ("options.stdin.mode", ExecutionOptions { stdin: Some(inline), terminal: terminal(0, 0), ..usual() }),
        ("options.terminal.rows", ExecutionOptions { terminal: terminal(10_001, 80), ..usual() }),
        ("options.terminal.columns", ExecutionOptions { terminal: terminal(24, 70_000), ..usual() }),
        ("options.merge_stderr", ExecutionOptions { merge_stderr: true, terminal: terminal(0, 0), ..usual() }),
        ("options.capture", ExecutionOptions { capture: 2, terminal: terminal(0, 0), ..usual() }),
        ("options.capture", ExecutionOptions { capture: 9, ..usual() }),
        ("options.user", ExecutionOptions { user: "no-such-user".to_owned(), ..usual() }),
        ("options.limits.memory_bytes", limits(Limits { memory_bytes: Some((1 << 20) - 1), ..Limits::default() })),
        ("options.limits.processes", limits(Limits { processes: Some(0), ..Limits::default() })),
        ("options.limits.cpus", limits(Limits { cpus: Some(0.009), ..Limits::default() })),
        ("options.limits.cpus", limits(Limits { cpus: Some(f64::NAN), ..Limits::default() })),
        ("options.limits.cpu_time", limits(Limits { cpu_time: zero, ..Limits::default() })),
        ("options.limits.open_files", limits(Limits { open_files: Some(15), ..Limits::default() })),
        ("options.limits.output_bytes", limits(Limits { output_bytes: Some(4095), ..Limits::default() })),
        ("options.limits.output_bytes", limits(Limits { output_bytes: Some((4 << 30) + 1), ..Limits::default() })),
        ("options.on_output_limit", ExecutionOptions { on_output_limit: 9, ..usual() }),
        ("options.on_output_limit", ExecutionOptions { on_output_limit: 2, capture: 2, ..usual() }),
        ("options.on_output_limit", ExecutionOptions { on_output_limit: 3, capture: 2, ..usual() }),
        ("options.timeouts.queue", timeouts(Timeouts { queue: zero, ..Timeouts::default() })),
        ("options.timeouts.first_output", timeouts(Timeouts { first_output: zero, ..Timeouts::default() })),
        ("options.timeouts.idle", timeouts(Timeouts { idle: too_long, ..Timeouts::default() })),
        ("options.timeouts.run", timeouts(Timeouts { run: seconds(-1), ..Timeouts::default() })),
        ("options.timeouts.wall", timeouts(Timeouts { wall: too_long, ..Timeouts::default() })),
        ("options.timeouts.max_pause", timeouts(Timeouts { max_pause: zero, ..Timeouts::default() })),
        ("options.timeouts.grace", timeouts(Timeouts { grace: seconds(-1), ..Timeouts::default() })),
        ("options.timeouts.drain", timeouts(Timeouts { drain: too_long, ..Timeouts::default() })),
        ("options.on_leak", ExecutionOptions { on_leak: 9, ..usual() }),
        ("options.on_disconnect", ExecutionOptions { on_disconnect: 9, ..usual() }),
        ("options.disconnect_lease", ExecutionOptions { disconnect_lease: seconds(1), ..usual() }),
        (
            "options.disconnect_lease",
            ExecutionOptions { disconnect_lease: seconds(24 * 60 * 60 + 1), on_disconnect: 3, ..usual() },
        ),
        ("options.priority", ExecutionOptions { priority: 101, ..usual() }),
        ("options.priority", ExecutionOptions { priority: -101, ..usual() }),
        ("options.labels", labels("", "x")),
        ("options.labels", labels("Upper", "x")),
        ("options.labels", labels("-first", "x")),
        ("options.labels", labels(&"x".repeat(64), "x")),
        ("options.labels", labels("key", &"x".repeat(257))),
        ("options.labels", ExecutionOptions { labels: many_labels, ..usual() }),
        ("options.retention", ExecutionOptions { retention: too_long, ..usual() }),
        ("options.retention", ExecutionOptions { retention: zero, ..usual() }),
        ("options.stop_signal", ExecutionOptions { stop_signal: 65, ..usual() }),
        ("options.stop_signal", ExecutionOptions { stop_signal: -1, ..usual() }),
    ]
}

#[tokio::test]
async fn every_option_is_refused_beyond_its_bounds_by_name() {
    let server = Server::start().await;
    for (field, options) in wrong_options() {
        let named = fields(&server, argv("true", &[]).options(options.clone()).create()).await;
        assert_eq!(named, [field], "{options:?}");
    }
}

#[tokio::test]
async fn every_option_is_taken_at_its_bounds() {
    let server = Server::start().await;
    let mut executions = server.executions().await;
    let most = seconds(30 * 24 * 60 * 60);
    let timeouts = Timeouts {
        queue: most,
        first_output: most,
        idle: most,
        run: most,
        wall: most,
        max_pause: most,
        grace: seconds(0),
        drain: seconds(0),
    };
    let limits = Limits { output_bytes: Some(4096), open_files: Some(16), cpu_time: seconds(1), ..Limits::default() };
    let labels = (0..64).map(|number| (format!("{number:0>63}"), "x".repeat(256))).collect();
    let options = ExecutionOptions {
        timeouts: Some(timeouts),
        limits: Some(limits),
        labels,
        priority: 100,
        retention: most,
        stop_signal: 64,
        on_disconnect: 3,
        disconnect_lease: seconds(24 * 60 * 60),
        ..ExecutionOptions::default()
    };
    let mut request = argv("true", &[]).options(options).create();
    request.validate_only = true;
    let shown = executions.create_execution(request).await.unwrap().into_inner().execution.unwrap();
    assert_eq!(shown.options.unwrap().timeouts, Some(timeouts));
}

#[tokio::test]
async fn every_part_of_a_command_is_refused_beyond_its_bounds_by_name() {
    let server = Server::start().await;
    let longest = "x".repeat((128 << 10) - 1);
    let many: Vec<&str> = vec!["x"; 4097];
    let cases = [
        ("command", CreateExecutionRequest::default()),
        ("argv.program", argv("", &[]).create()),
        ("argv.program", argv("a\0b", &[]).create()),
        ("argv.args[1]", argv("true", &["ok", "a\0b"]).create()),
        ("argv.args[0]", argv("true", &[&format!("{longest}x")]).create()),
        ("argv.args", argv("true", &many).create()),
        ("argv.args", argv("true", &[longest.as_str(); 9]).create()),
        ("shell.script", shell("").create()),
        ("shell.script", shell("a\0b").create()),
        ("shell.script", shell(format!("{longest}x")).create()),
    ];
    for (field, request) in cases {
        assert_eq!(fields(&server, request).await, [field]);
    }
    let seen = server.client().await.run(argv("true", &many[..4096])).await;
    assert!(seen.outcome().success, "as many as allowed: {:?}", seen.outcome());
    let seen = server.client().await.run(argv("true", &[&longest])).await;
    assert!(seen.outcome().success, "as long as allowed: {:?}", seen.outcome());
}

#[tokio::test]
async fn all_that_is_wrong_is_named_at_once_in_a_short_message() {
    let server = Server::start().await;
    let labels = (0..60).map(|number| (format!("BAD{number}"), String::new())).collect();
    let options = ExecutionOptions { labels, priority: 1000, stop_signal: 99, ..ExecutionOptions::default() };
    let mut executions = server.executions().await;
    let status = executions.create_execution(argv("", &[]).options(options).create()).await.unwrap_err();
    assert!(status.message().len() < 1024);
    assert!(status.message().contains("options.labels: the key \"BAD0\" must match"), "{}", status.message());
    let named = Refusal::of(&status).fields;
    assert_eq!(named[..3], ["argv.program", "options.priority", "options.labels"]);
    assert!(named.len() > 20 && named.len() < 60, "what a trailer can carry: {named:?}");
    assert_eq!(named[named.len() - 1], "request", "how many more there are");

    let name = "x".repeat(1 << 20);
    let set = [(format!("={name}"), String::new())].into();
    let environment = Some(Environment { set, ..Environment::default() });
    let options = ExecutionOptions { environment, user: name.clone(), working_directory: name, ..Default::default() };
    let named = fields(&server, argv("true", &[]).options(options).create()).await;
    for field in ["options.environment.set", "options.user", "options.working_directory"] {
        assert!(named.iter().any(|name| name == field), "{field}");
    }
    let filter = format!("{} = 1", "x".repeat(1 << 20));
    let list = proto::ListRecordsRequest { filter, ..Default::default() };
    assert_eq!(refusal(server.history().await.list_records(list).await).fields, ["filter"]);
}

#[tokio::test]
async fn requests_are_refused_beyond_their_bounds_by_name() {
    let server = Server::start().await;
    let client = server.client().await;
    client.run(shell("true").id("done")).await;
    let mut running = client.execute(argv("sleep", &["1000"]).id("on")).await;
    running.until(|event| matches!(event, Event::Started(_)).then_some(())).await;
    let mut executions = client.executions.clone();

    for (stream, field) in [
        (StreamOptions { keepalive_interval: seconds(4), max_output_bytes: 0 }, "stream.keepalive_interval"),
        (StreamOptions { keepalive_interval: seconds(61), max_output_bytes: 0 }, "stream.keepalive_interval"),
        (StreamOptions { keepalive_interval: None, max_output_bytes: 4095 }, "stream.max_output_bytes"),
        (StreamOptions { keepalive_interval: None, max_output_bytes: 262_145 }, "stream.max_output_bytes"),
    ] {
        let request = proto::AttachRequest { stream: Some(stream), ..attach("done") };
        assert_eq!(refusal(executions.attach(request).await).fields, [field]);
        let request = proto::ExecuteRequest { stream: Some(stream), ..shell("echo ran > ran") };
        assert_eq!(refusal(executions.execute(request).await).fields, [field]);
    }
    assert!(!server.path("ran").exists());
    for (wait_timeout, field) in [(seconds(601), "wait_timeout"), (seconds(-1), "wait_timeout")] {
        let request = proto::WaitExecutionRequest { execution_id: "done".to_owned(), wait_timeout };
        assert_eq!(refusal(executions.wait_execution(request).await).fields, [field]);
    }
    let control = |action: Action| proto::ControlRequest {
        execution_id: "on".to_owned(),
        action: Some(action),
        ..Default::default()
    };
    let pause = || control(Action::Pause(proto::Pause {}));
    for (request, field) in [
        (proto::ControlRequest { action: None, ..pause() }, "action"),
        (proto::ControlRequest { execution_id: String::new(), ..pause() }, "execution_id"),
        (proto::ControlRequest { reason: "x".repeat(1025), ..pause() }, "reason"),
        (proto::ControlRequest { request_id: "x".repeat(129), ..pause() }, "request_id"),
        (proto::ControlRequest { wait_for: 9, ..pause() }, "wait_for"),
        (proto::ControlRequest { expected_states: vec![0], ..pause() }, "expected_states"),
        (proto::ControlRequest { expected_states: vec![9], ..pause() }, "expected_states"),
        (proto::ControlRequest { expected_states: vec![i32::MIN], ..pause() }, "expected_states"),
        (control(Action::Signal(SendSignal { number: 0, scope: 0 })), "signal.number"),
        (control(Action::Signal(SendSignal { number: 65, scope: 0 })), "signal.number"),
        (control(Action::Signal(SendSignal { number: 10, scope: 9 })), "signal.scope"),
        (control(Action::Cancel(proto::Cancel { grace_period: seconds(-1), signal: 0 })), "cancel.grace_period"),
        (control(Action::Cancel(proto::Cancel { grace_period: None, signal: 65 })), "cancel.signal"),
        (control(Action::Extend(proto::Extend::default())), "extend"),
        (control(Action::Extend(proto::Extend { run_by: seconds(-1), wall_by: None })), "extend.run_by"),
    ] {
        assert_eq!(refusal(executions.control(request).await).fields, [field]);
    }
    let mut history = client.history.clone();
    let output = proto::ReadOutputRequest { execution_id: "done".to_owned(), channel: 9, ..Default::default() };
    assert_eq!(refusal(history.read_output(output).await).fields, ["channel"]);
    let export = proto::ExportRecordsRequest { format: 9, ..Default::default() };
    assert_eq!(refusal(history.export_records(export).await).fields, ["format"]);
    let group = Some(proto::get_stats_request::Group::ByLabel(String::new()));
    let stats = proto::GetStatsRequest { group, ..Default::default() };
    assert_eq!(refusal(history.get_stats(stats).await).fields, ["by_label"]);
    let list = proto::ListRecordsRequest { page_size: -1, ..Default::default() };
    assert_eq!(refusal(history.list_records(list).await).fields, ["page_size"]);
    client.kill("on").await;
}

#[tokio::test]
async fn filters_and_tokens_that_are_not_ours_are_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut history = client.history.clone();
    let mut executions = client.executions.clone();
    let filters = ["nope = 1", "exit_code = abc", "cause = NOPE", "(state = COMPLETED", "create_time > yesterday"];
    for filter in filters.map(str::to_owned) {
        let list = proto::ListRecordsRequest { filter: filter.clone(), ..Default::default() };
        let live = proto::ListExecutionsRequest { filter: filter.clone(), ..Default::default() };
        let export = proto::ExportRecordsRequest { filter: filter.clone(), ..Default::default() };
        let stats = proto::GetStatsRequest { filter: filter.clone(), ..Default::default() };
        for refused in [
            refusal(history.list_records(list).await),
            refusal(executions.list_executions(live).await),
            refusal(history.export_records(export).await),
            refusal(history.get_stats(stats).await),
        ] {
            assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_FILTER"), "{filter}");
            assert_eq!(refused.fields, ["filter"], "{filter}");
        }
    }
    for _ in 0..2 {
        client.run(argv("true", &[])).await;
    }
    let page = |filter: &str, token: &str| proto::ListRecordsRequest {
        filter: filter.to_owned(),
        page_size: 1,
        page_token: token.to_owned(),
    };
    let token = history.list_records(page("", "")).await.unwrap().into_inner().next_page_token;
    assert!(!token.is_empty());
    for request in [page("", "nonsense"), page("", "%%%"), page("success = true", &token)] {
        let refused = refusal(history.list_records(request).await);
        assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_PAGE_TOKEN"));
        assert_eq!(refused.fields, ["page_token"]);
    }
    let export = proto::ExportRecordsRequest { resume_token: "nonsense".to_owned(), ..Default::default() };
    assert_eq!(refusal(history.export_records(export).await).fields, ["resume_token"]);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = Server::start().await;
    let client = server.client().await;
    let id = || "nobody".to_owned();
    let (mut executions, mut history) = (client.executions.clone(), client.history.clone());
    let chunk = proto::StreamStdinRequest { execution_id: id(), chunk: Some(input(None, "x", false)) };
    for refused in [
        refusal(executions.attach(attach("nobody")).await),
        refusal(executions.get_execution(proto::GetExecutionRequest { execution_id: id() }).await),
        refusal(
            executions.wait_execution(proto::WaitExecutionRequest { execution_id: id(), wait_timeout: None }).await,
        ),
        refusal(client.control("nobody", Action::Pause(proto::Pause {})).await),
        refusal(client.write("nobody", input(None, "x", false)).await),
        refusal(executions.stream_stdin(tokio_stream::iter([chunk])).await),
        refusal(history.get_record(proto::GetRecordRequest { execution_id: id() }).await),
        refusal(history.delete_record(proto::DeleteRecordRequest { execution_id: id() }).await),
        refusal(history.read_output(proto::ReadOutputRequest { execution_id: id(), ..Default::default() }).await),
    ] {
        assert_eq!(refused.kind(), (Code::NotFound, "EXECUTION_NOT_FOUND"));
    }
}

#[tokio::test]
async fn an_expected_state_is_looked_at_even_after_the_end() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut running = client.execute(argv("sleep", &["1000"]).id("state")).await;
    running.until(|event| matches!(event, Event::Started(_)).then_some(())).await;
    let cancel = |expected: ExecutionState| proto::ControlRequest {
        execution_id: "state".to_owned(),
        expected_states: vec![expected.into()],
        action: Some(Action::Kill(proto::Kill {})),
        ..Default::default()
    };
    let mut executions = client.executions.clone();
    let refused = refusal(executions.control(cancel(ExecutionState::Paused)).await);
    assert_eq!(refused.kind(), (Code::Aborted, "STATE_MISMATCH"));
    assert_eq!(refused.metadata["state"], "RUNNING");
    executions.control(cancel(ExecutionState::Running)).await.unwrap();
    running.to_end().await;
    client.ended("state").await;
    let refused = refusal(executions.control(cancel(ExecutionState::Running)).await);
    assert_eq!(refused.kind(), (Code::Aborted, "STATE_MISMATCH"));
    assert_eq!(refused.metadata["state"], "COMPLETED");
    let over = executions.control(cancel(ExecutionState::Completed)).await.unwrap().into_inner();
    assert_eq!(over.result(), proto::control_response::Result::AlreadyTerminal);
}

#[tokio::test]
async fn a_full_queue_and_a_wrong_state_are_refused() {
    let server = Server::setup().settings("[limits]\nmax_concurrent = 1\nmax_queued = 1").start().await;
    let client = server.client().await;
    client.create(argv("sleep", &["1000"]).id("runs")).await;
    client.create(argv("sleep", &["1000"]).id("waits")).await;
    let full = refusal(client.executions.clone().create_execution(argv("true", &[]).id("third").create()).await);
    assert_eq!(full.kind(), (Code::ResourceExhausted, "QUEUE_FULL"));
    assert_eq!(full.retry, Some(Duration::from_secs(1)));
    let pause = refusal(client.control("waits", Action::Pause(proto::Pause {})).await);
    assert_eq!(pause.kind(), (Code::FailedPrecondition, "WRONG_STATE"));
    let extend = proto::Extend { run_by: seconds(1), wall_by: None };
    let extend = refusal(client.control("runs", Action::Extend(extend)).await);
    assert_eq!(extend.kind(), (Code::FailedPrecondition, "WRONG_STATE"));
    for refused in [
        refusal(client.record("runs").await),
        refusal(
            client.history.clone().delete_record(proto::DeleteRecordRequest { execution_id: "runs".to_owned() }).await,
        ),
    ] {
        assert_eq!(refused.kind(), (Code::FailedPrecondition, "WRONG_STATE"));
    }
    client.kill("waits").await;
    client.kill("runs").await;
    client.ended("waits").await;
    let seen = client.run(argv("true", &[]).id("third")).await;
    assert!(seen.outcome().success, "the id of a refused run is free");
}

#[tokio::test]
async fn another_user_needs_root() {
    let is_root = nix::unistd::Uid::effective().is_root();
    let setup = Server::setup();
    let server = if is_root { setup.user(65534) } else { setup }.start().await;
    let options = |user: &str| ExecutionOptions { user: user.to_owned(), ..ExecutionOptions::default() };
    let mut executions = server.executions().await;
    let refused = refusal(executions.create_execution(argv("true", &[]).options(options("root")).create()).await);
    assert_eq!(refused.kind(), (Code::FailedPrecondition, "NEEDS_ROOT"));
    let own = if is_root { "nobody".to_owned() } else { nix::unistd::Uid::effective().to_string() };
    let seen = server.client().await.run(argv("true", &[]).options(options(&own))).await;
    assert!(seen.outcome().success, "its own user is no other: {:?}", seen.outcome());
}

#[tokio::test]
async fn a_limit_that_cannot_be_enforced_is_unimplemented() {
    let server = Server::setup().arg("--containment").arg("group").start().await;
    let info = server.server().await.get_server_info(proto::GetServerInfoRequest {}).await.unwrap().into_inner();
    for (name, limits) in [
        ("memory_bytes", Limits { memory_bytes: Some(1 << 30), ..Limits::default() }),
        ("processes", Limits { processes: Some(100), ..Limits::default() }),
        ("cpus", Limits { cpus: Some(0.5), ..Limits::default() }),
    ] {
        let options = ExecutionOptions { limits: Some(limits), ..ExecutionOptions::default() };
        let refused =
            refusal(server.executions().await.create_execution(argv("true", &[]).options(options).create()).await);
        assert_eq!(refused.kind(), (Code::Unimplemented, "LIMIT_NOT_ENFORCEABLE"));
        assert_eq!(refused.metadata["limit"], name);
        assert!(!info.enforceable_limits.iter().any(|limit| limit == name), "the server said so beforehand");
    }
}

#[tokio::test]
async fn a_stopping_server_takes_no_new_runs_and_shows_the_old_ones() {
    let server = Server::setup().arg("--drain").arg("50s").start().await;
    let client = server.client().await;
    let mut running = client.execute(argv("sleep", &["1000"]).id("last")).await;
    running.until(|event| matches!(event, Event::Started(_)).then_some(())).await;
    server.signal(nix::sys::signal::Signal::SIGTERM);
    running.until(|event| matches!(event, Event::Warning(_)).then_some(())).await;
    let refused = refusal(client.executions.clone().create_execution(argv("true", &[]).create()).await);
    assert_eq!(refused.kind(), (Code::Unavailable, "SHUTTING_DOWN"));
    let mut again = client.follow(attach("last")).await;
    again.until(|event| matches!(event, Event::Live(_)).then_some(())).await;
    client.kill("last").await;
    assert_eq!(again.to_end().await.outcome(), running.to_end().await.outcome());
}

#[tokio::test]
async fn a_run_of_another_process_of_the_server_is_unavailable_until_it_has_ended() {
    let owner = Server::start().await;
    let (client, other) = (owner.client().await, Server::setup().beside(&owner).start().await);
    let mut running = client.execute(argv("sleep", &["1000"]).id("theirs")).await;
    running.until(|event| matches!(event, Event::Started(_)).then_some(())).await;
    let ours = other.client().await;
    let get = proto::GetExecutionRequest { execution_id: "theirs".to_owned() };
    for refused in [
        refusal(ours.executions.clone().get_execution(get).await),
        refusal(ours.executions.clone().attach(attach("theirs")).await),
        refusal(ours.executions.clone().execute(argv("sleep", &["1000"]).id("theirs")).await),
    ] {
        assert_eq!(refused.kind(), (Code::Unavailable, "OWNED_ELSEWHERE"));
    }
    client.kill("theirs").await;
    let seen = running.to_end().await;
    client.ended("theirs").await;
    assert_eq!(ours.attach(attach("theirs")).await.outcome(), seen.outcome());
}

#[tokio::test]
async fn a_damaged_log_is_data_loss() {
    let server = Server::start().await;
    let client = server.client().await;
    client.run(shell("echo x").id("damaged")).await;
    server.damage("damaged.log");
    let (state, _) = server.stop().await;
    let server = Server::setup().state(state).start().await;
    let client = server.client().await;
    let output = proto::ReadOutputRequest { execution_id: "damaged".to_owned(), ..Default::default() };
    for refused in [
        refusal(client.executions.clone().attach(attach("damaged")).await),
        refusal(client.executions.clone().attach(attach_from("damaged", behind(1))).await),
        refusal(client.output(output).await),
    ] {
        assert_eq!(refused.kind(), (Code::DataLoss, "CORRUPT"));
    }
    assert!(client.record("damaged").await.is_ok(), "the record is still there");
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_in_our_words() {
    let server = Server::start().await;
    let get = "/ccexecutor.v1.ExecutionService/GetExecution";
    let execute = "/ccexecutor.v1.ExecutionService/Execute";
    let export = "/ccexecutor.v1.HistoryService/ExportRecords";
    for path in [get, execute, export] {
        // A wrong wire type, a length beyond the end, a text that is not UTF-8.
        for message in [vec![0x08, 0x01], vec![0x0a, 0x7f, b'x'], vec![0x0a, 0x01, 0xff]] {
            let status = Call { path, message: message.clone(), timeout: None }.status(&server).await;
            let refused = Refusal::of(&status);
            assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_FIELD"), "{path} {message:?}");
        }
        let message = vec![0x0a; (4 << 20) + 1];
        let refused = Refusal::of(&Call { path, message, timeout: None }.status(&server).await);
        assert_eq!(refused.kind(), (Code::ResourceExhausted, "REQUEST_TOO_LARGE"), "{path}");
    }
}

#[tokio::test]
async fn unknown_methods_and_services_are_unimplemented() {
    let server = Server::start().await;
    for path in ["/ccexecutor.v1.ExecutionService/Nope", "/ccexecutor.v1.Nope/Execute", "/nope"] {
        let status = Call { path, message: Vec::new(), timeout: None }.status(&server).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn the_deadline_of_a_call_is_the_calls_and_never_the_runs() {
    let server = Server::start().await;
    let client = server.client().await;
    client.create(argv("sleep", &["1000"]).id("long")).await;
    let path = "/ccexecutor.v1.ExecutionService/WaitExecution";
    let message = proto::WaitExecutionRequest { execution_id: "long".to_owned(), wait_timeout: seconds(60) };
    let status = Call { path, message: message.encode_to_vec(), timeout: Some("100m") }.status(&server).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_ne!(client.get("long").await.state(), ExecutionState::Completed);
    let request = proto::WaitExecutionRequest { execution_id: "long".to_owned(), wait_timeout: seconds(0) };
    let answer = client.executions.clone().wait_execution(request).await.unwrap().into_inner();
    assert!(answer.execution.unwrap().outcome.is_none(), "wait_timeout answers with the state of that moment");
    client.kill("long").await;
}

/// What no test of this file or its neighbours produces, and why.
const NOT_PRODUCED: [(ErrorReason, &str); 3] = [
    (ErrorReason::Unspecified, "is never sent"),
    (ErrorReason::StoreUnavailable, "takes a store that is away: tested with the store"),
    (ErrorReason::Internal, "takes a bug"),
];

#[test]
fn every_reason_has_a_test_or_an_excuse() {
    let tests = [
        include_str!("errors.rs"),
        include_str!("attach.rs"),
        include_str!("create.rs"),
        include_str!("stdin.rs"),
        include_str!("terminal.rs"),
        include_str!("watchers.rs"),
    ];
    for number in 0.. {
        let Ok(reason) = ErrorReason::try_from(number) else { break };
        let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
        let is_tested = tests.iter().any(|text| text.contains(&format!("\"{name}\"")));
        let is_excused = NOT_PRODUCED.iter().any(|(excused, _)| *excused == reason);
        assert!(is_tested != is_excused, "{name}");
    }
}
