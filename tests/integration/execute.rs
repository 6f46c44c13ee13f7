//! Running commands and following them: what runs, with what surroundings, and the events of a life.

use std::time::Duration;

use cc_executor::proto::control_request::Action;
use cc_executor::proto::environment::Inherit;
use cc_executor::proto::execution_event::Event;
use cc_executor::proto::not_started::Step;
use cc_executor::proto::{
    self, Cause, Channel, Containment, Environment, ExecutionOptions, ExecutionState, StreamOptions, effective_timeout,
    outcome,
};

use crate::support::calls::{attach, input};
use crate::support::run::{Seen, With, argv};
use crate::support::{Server, shell};

fn environment(inherit: Inherit, set: &[(&str, &str)], unset: &[&str]) -> ExecutionOptions {
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let unset = unset.iter().map(|name| (*name).to_owned()).collect();
    let environment = Some(Environment { inherit: inherit.into(), set, unset });
    ExecutionOptions { environment, ..ExecutionOptions::default() }
}

fn not_started(seen: &Seen) -> &proto::NotStarted {
    assert_eq!(seen.outcome().cause(), Cause::SpawnFailed);
    assert!(!seen.outcome().success);
    match &seen.outcome().ending {
        Some(outcome::Ending::NotStarted(failure)) => failure,
        other => panic!("it ended with {other:?}"),
    }
}

#[tokio::test]
async fn output_arrives_apart_in_order_and_whole() {
    let server = Server::start().await;
    let seen = server.client().await.run(shell("echo one; echo two >&2; printf three; exit 3")).await.whole();
    assert_eq!(seen.stdout(), "one\nthree");
    assert_eq!(seen.stderr(), "two\n");
    assert_eq!(seen.exit_code(), 3);
    assert_eq!(seen.outcome().cause(), Cause::Exited);
    assert!(!seen.outcome().success);
    let (accepted, attached) = seen.accepted();
    assert!(!attached);
    assert!(accepted.outcome.is_none());
    let stdout = seen.summary(Channel::Stdout);
    assert_eq!((stdout.bytes_total, stdout.bytes_kept, stdout.sha256.len()), (9, 9, 32));
}

#[tokio::test]
async fn a_life_is_told_in_order() {
    let server = Server::start().await;
    let client = server.client().await;
    let timeouts =
        proto::Timeouts { run: Some(prost_types::Duration { seconds: 60, nanos: 0 }), ..proto::Timeouts::default() };
    let options = ExecutionOptions { timeouts: Some(timeouts), ..ExecutionOptions::default() };
    let seen = client.run(shell("echo hi").options(options)).await.whole();
    let names: Vec<&str> = seen
        .kinds()
        .filter_map(|event| match event {
            Event::Accepted(_) => Some("accepted"),
            Event::Started(_) => Some("started"),
            Event::Output(_) => Some("output"),
            Event::Exited(_) => Some("exited"),
            Event::Completed(_) => Some("completed"),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["accepted", "started", "output", "exited", "completed"]);
    let started = seen.kinds().find_map(|event| if let Event::Started(it) = event { Some(it) } else { None }).unwrap();
    assert!(started.pid > 1);
    assert_ne!(started.containment(), Containment::Unspecified);
    let clock = |name: &str| {
        let clock = started.timeouts.iter().find(|clock| clock.name == name)?;
        Some((clock.value.unwrap().seconds, clock.source()))
    };
    assert_eq!(clock("run"), Some((60, effective_timeout::Source::Client)));
    assert_eq!(clock("grace"), Some((10, effective_timeout::Source::Server)));
    assert_eq!(clock("drain"), Some((2, effective_timeout::Source::Server)));
    assert_eq!(clock("max_pause"), Some((24 * 60 * 60, effective_timeout::Source::Server)));
    assert_eq!(clock("idle"), None);
    assert_eq!(started.limits.unwrap().output_bytes, Some(4 << 30));
    let exited = seen.kinds().find_map(|event| if let Event::Exited(it) = event { Some(it) } else { None }).unwrap();
    assert_eq!(exited.ending, Some(proto::exited::Ending::ExitCode(0)));
    let outcome = seen.outcome();
    assert!(outcome.success && outcome.reason.is_empty() && outcome.escalation.is_empty());
    assert!(!outcome.output_incomplete && outcome.leaked.is_empty() && outcome.survivors.is_empty());
    assert_ne!(outcome.usage.unwrap().source(), proto::usage::Source::Unspecified);
    let durations = outcome.durations.unwrap();
    let length = |span: Option<prost_types::Duration>| Duration::try_from(span.unwrap()).unwrap();
    assert!(length(durations.total) >= length(durations.running) + length(durations.queued));
}

#[tokio::test]
async fn a_snapshot_follows_the_life() {
    let server = Server::start().await;
    let client = server.client().await;
    let stdin = Some(proto::Stdin { mode: proto::stdin::Mode::Pipe.into(), ..Default::default() });
    let request =
        shell("echo up; read line; exit 4").id("life").options(ExecutionOptions { stdin, ..Default::default() });
    let mut events = client.execute(request).await;
    events.until(|event| matches!(event, Event::Output(_)).then_some(())).await;
    let running = client.get("life").await;
    assert_eq!(running.state(), ExecutionState::Running);
    assert!(running.start_time.is_some() && running.exit_time.is_none() && running.complete_time.is_none());
    assert!(running.pid.is_some() && running.outcome.is_none());
    assert_eq!((running.watchers, running.stdin_offset), (1, Some(0)));
    assert_eq!(running.channels.iter().find(|channel| channel.channel() == Channel::Stdout).unwrap().bytes_total, 3);
    assert!(running.channels.iter().all(|channel| channel.sha256.is_empty()), "nothing is sealed yet");
    client.write("life", input(None, "x\n", false)).await.unwrap();
    let seen = events.to_end().await.whole();
    let ended = client.ended("life").await;
    assert_eq!(ended.outcome.as_ref(), Some(seen.outcome()));
    assert_eq!((ended.watchers, ended.stdin_offset, ended.queue_position), (0, None, None));
    assert_eq!(ended.last_cursor.unwrap().seq, *seen.seqs().last().unwrap());
    assert_eq!(ended.channels, ended.outcome.unwrap().channels);
    let times = [ended.create_time, ended.start_time, ended.exit_time, ended.complete_time].map(Option::unwrap);
    assert!(times.is_sorted_by_key(|time| (time.seconds, time.nanos)), "{times:?}");
}

#[tokio::test]
async fn a_program_runs_without_a_shell() {
    let server = Server::start().await;
    let seen = server.client().await.run(argv("echo", &["$HOME;", "a b", ""])).await;
    assert_eq!(seen.stdout(), "$HOME; a b \n");
}

#[tokio::test]
async fn the_environment_is_what_the_request_says() {
    let server = Server::setup().env("CCX_SECRET", "s3cret").env("LC_CCX", "allowed").start().await;
    let client = server.client().await;
    let names = async |options: ExecutionOptions| -> Vec<String> {
        let seen = client.run(argv("env", &[]).options(options)).await;
        seen.stdout().lines().map(str::to_owned).collect()
    };
    let has = |all: &[String], line: &str| all.iter().any(|one| one == line);
    let has_name = |all: &[String], name: &str| all.iter().any(|one| one.split('=').next() == Some(name));

    let usual = names(ExecutionOptions::default()).await;
    assert!(has(&usual, "LC_CCX=allowed") && has_name(&usual, "PATH") && !has_name(&usual, "CCX_SECRET"), "{usual:?}");
    assert!(has(&usual, "PYTHONUNBUFFERED=1") && has(&usual, "NODE_NO_READLINE=1"), "{usual:?}");
    assert!(has_name(&usual, "CC_EXECUTION_ID"), "{usual:?}");

    let none = names(environment(Inherit::None, &[("A", "1"), ("PYTHONUNBUFFERED", "")], &["NODE_NO_READLINE"])).await;
    assert!(has(&none, "A=1") && has(&none, "PYTHONUNBUFFERED=") && !has_name(&none, "NODE_NO_READLINE"), "{none:?}");
    assert!(!has_name(&none, "HOME") && !has_name(&none, "LC_CCX"), "{none:?}");

    let all = names(environment(Inherit::All, &[("B", "2"), ("A", "1")], &["A", "LC_CCX"])).await;
    assert!(has(&all, "CCX_SECRET=s3cret") && has(&all, "B=2"), "{all:?}");
    assert!(!has_name(&all, "A") && !has_name(&all, "LC_CCX"), "unset comes last: {all:?}");
}

#[tokio::test]
async fn values_of_variables_and_inline_stdin_are_given_out_nowhere() {
    let server = Server::setup().arg("--log-level").arg("trace").start().await;
    let client = server.client().await;
    let mut options = environment(Inherit::AllowList, &[("CCX_TOKEN", "w0rd-of-honour")], &[]);
    let mode = proto::stdin::Mode::Inline.into();
    options.stdin = Some(proto::Stdin { mode, inline_data: "w0rd-of-honour".into() });
    let seen = client.run(argv("true", &[]).id("secret").options(options)).await;
    assert!(seen.outcome().success);
    let (accepted, _) = seen.accepted();
    let options = accepted.options.as_ref().unwrap();
    assert_eq!(options.environment.as_ref().unwrap().set["CCX_TOKEN"], "", "the name is known, the value is not");
    assert_eq!(options.stdin.as_ref().unwrap().mode(), proto::stdin::Mode::Inline);
    let told = [
        format!("{:?}", seen.0),
        format!("{:?}", client.get("secret").await),
        format!("{:?}", client.record("secret").await.unwrap()),
        format!("{:?}", client.attach(attach("secret")).await.0),
        server.log(),
    ];
    for text in told {
        assert!(!text.contains("w0rd-of-honour"), "{text}");
    }
    assert!(server.log().contains("secret"), "the log was looked at");
    server.assert_nowhere_on_disk("w0rd-of-honour");
}

#[tokio::test]
async fn a_run_starts_where_it_is_told() {
    let server = Server::start().await;
    let client = server.client().await;
    let here = client.run(argv("pwd", &["-P"])).await;
    assert_eq!(here.stdout().trim_end(), server.state.path().canonicalize().unwrap().to_str().unwrap());
    let options = ExecutionOptions { working_directory: "/usr".to_owned(), ..ExecutionOptions::default() };
    assert_eq!(client.run(argv("pwd", &["-P"]).options(options)).await.stdout(), "/usr\n");
}

#[tokio::test]
async fn a_program_is_looked_for_on_the_path_of_the_run() {
    let server = Server::start().await;
    let client = server.client().await;
    let program = server.program("bin/hello", "#!/bin/sh\necho hello from $0\n");
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let options = environment(Inherit::AllowList, &[("PATH", &path)], &[]);
    let seen = client.run(argv("hello", &[]).options(options)).await;
    assert_eq!(seen.stdout(), format!("hello from {}\n", program.display()));
    let relative = client.run(argv("bin/hello", &[])).await;
    assert!(relative.outcome().success, "a path relative to the working directory: {:?}", relative.outcome());
}

#[tokio::test]
async fn what_cannot_be_started_says_at_which_step_and_why() {
    let server = Server::start().await;
    let client = server.client().await;
    server.program("plain", "no program\n");
    std::fs::write(server.path("data"), "data").unwrap();
    let mut missing_shell = shell("echo never");
    if let Some(proto::execute_request::Command::Shell(shell)) = &mut missing_shell.command {
        shell.interpreter = "no-such-shell".to_owned();
    }
    let cases = [
        (missing_shell, "ENOENT"),
        (argv("no-such-program", &[]), "ENOENT"),
        (argv("./no/such/path", &[]), "ENOENT"),
        (argv("./data", &[]), "EACCES"),
        (argv("/usr", &[]), "EACCES"),
        (argv("./plain", &[]), "ENOEXEC"),
    ];
    for (request, errno) in cases {
        let what = format!("{:?}", request.command);
        let seen = client.run(request).await.whole();
        let failure = not_started(&seen);
        assert_eq!((failure.step(), failure.errno_name.as_str()), (Step::Exec, errno), "{what}");
        assert!(failure.errno > 0 && !failure.message.is_empty() && !failure.path.is_empty(), "{what}: {failure:?}");
        assert!(!seen.kinds().any(|event| matches!(event, Event::Started(_) | Event::Exited(_))), "{what}");
        let ended = client.ended(&seen.accepted().0.execution_id).await;
        assert_eq!((ended.pid, ended.containment()), (None, Containment::Unspecified), "{what}");
    }
}

#[tokio::test]
async fn a_run_becomes_the_user_it_is_told() {
    if !nix::unistd::Uid::effective().is_root() {
        return; // what happens then is in `errors`
    }
    let server = Server::start().await;
    let client = server.client().await;
    let user = |name: &str| ExecutionOptions {
        user: name.to_owned(),
        working_directory: "/".to_owned(),
        ..ExecutionOptions::default()
    };
    let seen = client.run(shell("id -un; id -G; echo $USER $LOGNAME").options(user("nobody"))).await;
    let told = seen.stdout();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((lines[0], lines[2]), ("nobody", "nobody nobody"));
    assert!(!lines[1].split(' ').any(|group| group == "0"), "no group of root is left: {}", lines[1]);
    let number = client.run(shell("id -u").options(user("65534"))).await;
    assert_eq!(number.stdout(), "65534\n");
}

#[tokio::test]
async fn merged_output_keeps_the_order_of_the_writes() {
    let server = Server::start().await;
    let script = "i=0; while [ $i -lt 300 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done";
    let options = ExecutionOptions { merge_stderr: true, ..ExecutionOptions::default() };
    let seen = server.client().await.run(shell(script).options(options)).await.whole();
    let wanted: String = (0..300).map(|index| format!("o{index}\ne{index}\n")).collect();
    assert_eq!(seen.stdout(), wanted);
    assert_eq!(seen.stderr(), "");
    assert_eq!(seen.outcome().channels.len(), 1, "there is only one channel");
}

#[tokio::test]
async fn silence_is_filled_with_signs_of_life() {
    let server = Server::start().await;
    let client = server.client().await;
    let keepalive_interval = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    let mut request = argv("sleep", &["1000"]).id("silent");
    request.stream = Some(StreamOptions { keepalive_interval, max_output_bytes: 0 });
    let wall = Some(prost_types::Duration { seconds: 1000, nanos: 0 });
    let timeouts = Some(proto::Timeouts { wall, ..Default::default() });
    request.options = Some(ExecutionOptions { timeouts, ..Default::default() });
    let mut events = client.execute(request).await;
    let sign = events.until(|event| if let Event::Keepalive(sign) = event { Some(*sign) } else { None }).await;
    assert_eq!(sign.state(), ExecutionState::Running);
    assert_eq!(sign.last_cursor, client.get("silent").await.last_cursor);
    let [idle, elapsed, remaining] = [sign.idle, sign.elapsed, sign.remaining].map(|span| span.unwrap().seconds);
    assert!(idle >= 4 && elapsed >= 4, "idle for {idle} s, running for {elapsed} s");
    assert!((900..1000).contains(&remaining), "{remaining} s remain");
    client.control("silent", Action::Kill(proto::Kill {})).await.unwrap();
    assert_eq!(events.to_end().await.outcome().cause(), Cause::Cancelled);
}

#[tokio::test]
async fn the_run_goes_on_when_the_client_goes_away() {
    let server = Server::start().await;
    let client = server.client().await;
    let fifo = server.path("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut events = client.execute(shell("echo before; cat go; echo after").id("alone")).await;
    events.until(|event| matches!(event, Event::Output(_)).then_some(())).await;
    drop(events);
    client.until("alone", |run| run.watchers == 0).await;
    tokio::fs::write(&fifo, "between\n").await.unwrap();
    let seen = client.attach(attach("alone")).await.whole();
    assert_eq!(seen.stdout(), "before\nbetween\nafter\n");
}

#[tokio::test]
async fn what_was_written_before_the_exit_is_read_before_the_exit_is_told() {
    let server = Server::start().await;
    let client = server.client().await;
    let drain = Some(prost_types::Duration::default());
    let timeouts = Some(proto::Timeouts { drain, ..Default::default() });
    for _ in 0..30 {
        let options = ExecutionOptions { timeouts, ..Default::default() };
        let seen = client.run(shell("echo out; echo err >&2").options(options)).await.whole();
        assert_eq!((seen.stdout(), seen.stderr()), ("out\n".to_owned(), "err\n".to_owned()));
        assert!(!seen.outcome().output_incomplete);
        let behind: Vec<&Event> = seen.kinds().skip_while(|event| !matches!(event, Event::Exited(_))).collect();
        assert!(!behind.iter().any(|event| matches!(event, Event::Output(_))), "nobody else could write");
        assert!(matches!(behind[0], Event::Exited(exited) if exited.open_channels.is_empty()), "{:?}", behind[0]);
    }
}
