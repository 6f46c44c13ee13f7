use clap::Parser;
use clap::error::ErrorKind;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: RunOptions,
    #[arg(long)]
    json: bool,
}

fn options(line: &[&str]) -> RunOptions {
    Line::try_parse_from([&["run"], line].concat()).unwrap_or_else(|error| panic!("{error}")).options
}

fn around() -> Surroundings {
    let environment = [("TERM", "vt100"), ("TOKEN", "secret")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Surroundings {
        directory: "/here".into(),
        environment: environment.into(),
        terminal: Some((50, 132)),
        input: Input::None,
    }
}

fn request(line: &[&str]) -> ExecuteRequest {
    options(line).request("id".to_owned(), &around()).unwrap()
}

fn shell(script: &str, interpreter: &str) -> Option<execute_request::Command> {
    Some(execute_request::Command::Shell(Shell { script: script.to_owned(), interpreter: interpreter.to_owned() }))
}

fn argv(program: &str, args: &[&str]) -> Option<execute_request::Command> {
    let args = args.iter().map(|text| (*text).to_owned()).collect();
    Some(execute_request::Command::Argv(Argv { program: program.to_owned(), args }))
}

#[test]
fn one_argument_is_a_script_and_several_are_a_program() {
    assert_eq!(request(&["echo hi; echo ho"]).command, shell("echo hi; echo ho", ""));
    assert_eq!(request(&["ls", "-l", "--", "a b"]).command, argv("ls", &["-l", "--", "a b"]));
    assert_eq!(request(&["--", "ls", "--json"]).command, argv("ls", &["--json"]));
    assert_eq!(request(&["--argv", "ls"]).command, argv("ls", &[]));
    assert_eq!(request(&["--shell", "ls", "-l"]).command, shell("ls -l", ""));
    assert_eq!(request(&["--shell=bash", "echo $0"]).command, shell("echo $0", "bash"));
}

#[test]
fn plain_run_asks_for_nothing() {
    let request = request(&["true"]);
    assert_eq!(request.options, Some(ExecutionOptions::default()));
    assert_eq!((request.execution_id.as_str(), request.stream), ("id", Some(STREAM)));
}

#[test]
fn every_option_reaches_the_request() {
    let line = "--cwd=sub --env=A=b=c --env=TOKEN --unset=X --env-inherit=all --user=nobody --merge-stderr --capture=file \
                --memory=1GiB --processes=7 --cpus=1.5 --cpu-time=9s --open-files=99 --output-limit=1MiB --on-output-limit=cancel \
                --timeout=1s --idle-timeout=2s --first-output-timeout=3s --wall-timeout=4s --queue-timeout=5s --max-pause=6s \
                --grace=0s --drain=8s --on-leak=wait --on-disconnect=cancel-after-lease --lease=40s --stop-signal=INT \
                --priority=-5 --label=team=web --label=x/y= --retention=2d --keepalive=20s";
    let line: Vec<&str> = line.split_whitespace().chain(["true"]).collect();
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let text = |text: &str| text.to_owned();
    let expected = ExecutionOptions {
        working_directory: text("/here/sub"),
        environment: Some(proto::Environment {
            inherit: Inherit::All.into(),
            set: [(text("A"), text("b=c")), (text("TOKEN"), text("secret"))].into(),
            unset: vec![text("X")],
        }),
        stdin: None,
        terminal: None,
        merge_stderr: true,
        capture: proto::Capture::File.into(),
        user: text("nobody"),
        limits: Some(proto::Limits {
            memory_bytes: Some(1 << 30),
            processes: Some(7),
            cpus: Some(1.5),
            cpu_time: seconds(9),
            open_files: Some(99),
            output_bytes: Some(1 << 20),
        }),
        on_output_limit: proto::OutputPolicy::Cancel.into(),
        timeouts: Some(proto::Timeouts {
            run: seconds(1),
            idle: seconds(2),
            first_output: seconds(3),
            wall: seconds(4),
            queue: seconds(5),
            max_pause: seconds(6),
            grace: seconds(0),
            drain: seconds(8),
        }),
        on_leak: proto::LeakPolicy::Wait.into(),
        on_disconnect: proto::DisconnectPolicy::CancelAfterLease.into(),
        disconnect_lease: seconds(40),
        priority: -5,
        labels: [(text("team"), text("web")), (text("x/y"), String::new())].into(),
        retention: seconds(172_800),
        stop_signal: 2,
    };
    let request = request(&line);
    assert_eq!(request.options, Some(expected));
    assert_eq!(request.stream.unwrap().keepalive_interval, seconds(20));
}

#[test]
fn terminal_takes_the_size_of_this_one() {
    let terminal = |line: &[&str], around: &Surroundings| {
        let request = options(line).request(String::new(), around).unwrap();
        let options = request.options.unwrap();
        assert_eq!(options.stdin.is_some(), around.input == Input::Fed);
        options.terminal.map(|terminal| (terminal.rows, terminal.columns, terminal.term))
    };
    let fed = Surroundings { input: Input::Fed, ..around() };
    assert_eq!(terminal(&["-t", "top"], &fed), Some((50, 132, "vt100".to_owned())));
    assert_eq!(terminal(&["-t", "--tty-size=5x6", "top"], &fed), Some((5, 6, "vt100".to_owned())));
    assert_eq!(terminal(&["-t", "top"], &Surroundings::default()), Some((24, 80, String::new())));
}

#[test]
fn input_goes_inline_or_is_fed() {
    let stdin = |input| {
        let request = options(&["cat"]).request(String::new(), &Surroundings { input, ..around() }).unwrap();
        request.options.unwrap().stdin.map(|stdin| (stdin.mode(), stdin.inline_data))
    };
    assert_eq!(stdin(Input::None), None);
    assert_eq!(stdin(Input::Fed), Some((Mode::Pipe, Bytes::new())));
    assert_eq!(stdin(Input::Inline("x".into())), Some((Mode::Inline, "x".into())));
}

#[test]
fn variable_that_is_not_set_here_is_named() {
    let fault = options(&["--env", "NOPE", "true"]).request(String::new(), &around()).unwrap_err();
    assert_eq!(fault, "flag --env: NOPE is not set here; write NOPE=VALUE");
}

#[test]
fn wrong_values_are_refused_by_name() {
    let kind = |line: &[&str]| Line::try_parse_from([&["run"], line].concat()).map(drop).unwrap_err().kind();
    for line in [
        &["--timeout=10", "true"][..],
        &["--memory=lots", "true"],
        &["--stop-signal=65", "true"],
        &["--stop-signal=NOPE", "true"],
        &["--label=x", "true"],
        &["--tty-size=0x9", "-t", "true"],
    ] {
        assert_eq!(kind(line), ErrorKind::ValueValidation, "{line:?}");
    }
    assert_eq!(kind(&["--on-leak=pray", "true"]), ErrorKind::InvalidValue);
    assert_eq!(kind(&["-t", "--merge-stderr", "true"]), ErrorKind::ArgumentConflict);
    assert_eq!(kind(&["-i", "--stdin-file=f", "cat"]), ErrorKind::ArgumentConflict);
    assert_eq!(kind(&[]), ErrorKind::MissingRequiredArgument);
}

#[test]
fn signals_have_names_and_numbers() {
    for (text, number) in [("TERM", 15), ("sigint", 2), ("9", 9), ("64", 64)] {
        assert_eq!(signal_number(text), Ok(number));
    }
    assert!(signal_number("0").is_err());
}
