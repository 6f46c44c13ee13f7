use std::path::Path;
use std::time::Duration;

use super::*;
use crate::execution::Containment;
use crate::server::Listen;
use crate::telemetry::Format;

/// What a file's text, an environment and flags come to.
fn resolve(file: &str, environment: &Environment, flags: &Flags) -> Result<Config, Faults> {
    let mut faults = Faults(Vec::new());
    let mut given = sources::entries(Path::new("cc-executor.toml"), file, &mut faults);
    given.extend(sources::environment(environment, &mut faults));
    given.extend(sources::flags(flags));
    sum(given, environment, faults)
}

fn from_file(file: &str) -> Result<Config, Faults> {
    resolve(file, &Environment::default(), &Flags::default())
}

fn tcp(text: &str) -> Listen {
    Listen::Tcp(text.parse().unwrap())
}

#[test]
fn flags_win_over_environment_over_dotenv_over_file() {
    let file = "listen = ['127.0.0.1:1']\nstate_dir = '/file'\n[log]\nlevel = 'error'\nformat = 'json'";
    let environment = Environment::of(
        [("CC_EXECUTOR_LISTEN", "127.0.0.1:3"), ("LOG_LEVEL", "info")],
        [("CC_EXECUTOR_LISTEN", "127.0.0.1:2"), ("LOG_LEVEL", "debug"), ("CC_EXECUTOR_STATE_DIR", "/dotenv")],
    );
    let flags = Flags::default().with("listen", Some(vec!["127.0.0.1:4".to_owned(), "unix:/s".to_owned()]));
    let config = resolve(file, &environment, &flags).unwrap();
    assert_eq!(config.server.listen, [tcp("127.0.0.1:4"), Listen::Unix("/s".into())]);
    assert_eq!(config.log.level.as_deref(), Some("info"));
    assert_eq!(config.server.state_dir, Path::new("/dotenv"));
    assert_eq!(config.log.format, Format::Json);
}

#[test]
fn every_fault_is_reported_with_its_source() {
    let file =
        "drain = 5\nlisten = ['nowhere']\nnonsense = 1\n[limits]\nmax_concurent = 1\nmax_queued = 0\nmemory = '1KiB'";
    let environment = Environment::of([("LOG_FORMAT", "xml")], [("CC_EXECUTOR_LISTEN", "127.0.0.1:x")]);
    let flags = Flags::default().with("limits.max_concurrent", Some("many")).with("containment", Some("jail"));
    let faults = resolve(file, &environment, &flags).unwrap_err();
    let expected = [
        "cc-executor.toml: drain: must be a duration like \"10s\", not a number",
        "cc-executor.toml: limits.max_concurent: there is no such setting; did you mean limits.max_concurrent?",
        "cc-executor.toml: limits.max_queued: must be a whole number from 1 to 1000000",
        "cc-executor.toml: limits.memory: must be at least 4KiB",
        "cc-executor.toml: listen: \"nowhere\" is not an address; write it like 127.0.0.1:50051, [::1]:50051 or unix:/run/cc-executor.sock",
        "cc-executor.toml: nonsense: there is no such setting; `cc-executor init` writes a file with all of them",
        ".env CC_EXECUTOR_LISTEN: \"127.0.0.1:x\" is not an address; write it like 127.0.0.1:50051, [::1]:50051 or unix:/run/cc-executor.sock",
        "environment LOG_FORMAT: \"xml\" must be text or json",
        "flag --max-concurrent: must be a whole number from 1 to 1000000",
        "flag --containment: \"jail\" must be auto, cgroup, shim or group",
    ];
    assert_eq!(faults.as_slice(), expected);
}

#[test]
fn broken_toml_names_its_line_and_the_other_sources_are_still_checked() {
    let environment = Environment::of([("LOG_FORMAT", "xml")], []);
    let faults = resolve("node = 'a'\nlisten = [", &environment, &Flags::default()).unwrap_err();
    assert!(faults.as_slice()[0].starts_with("cc-executor.toml:2: "), "{faults}");
    assert!(faults.as_slice()[1].starts_with("environment LOG_FORMAT: "), "{faults}");
}

#[test]
fn listening_for_other_machines_must_be_allowed() {
    let environment = Environment::of([("CC_EXECUTOR_LISTEN", "0.0.0.0:50051")], []);
    let faults = resolve("", &environment, &Flags::default()).unwrap_err();
    assert!(
        faults.as_slice()[0].starts_with("environment CC_EXECUTOR_LISTEN: 0.0.0.0:50051 can be reached"),
        "{faults}"
    );
    let allowed = Flags::default().with("allow_remote", Some(true));
    assert_eq!(resolve("", &environment, &allowed).unwrap().server.listen, [tcp("0.0.0.0:50051")]);
}

#[test]
fn clocks_fit_under_the_longest_timeout() {
    let faults = from_file("[limits]\nmax_timeout = '1h'\n[timeouts]\nrun = '2h'").unwrap_err();
    assert_eq!(
        faults.as_slice(),
        [
            "cc-executor.toml: timeouts.run: is longer than limits.max_timeout (1h)",
            "default of timeouts.max_pause: is longer than limits.max_timeout (1h)",
        ]
    );
}

#[test]
fn every_kind_of_value_is_read() {
    let config = from_file(
        "allow_remote = true\nnode = 'n'\ncontainment = 'shim'\nshell = 'bash'\nallowed_environment = ['CARGO_*']\n\
         [limits]\nmax_output = 65536\nmemory = '64KiB'\n[timeouts]\nidle = '1m'\nmax_pause = 'none'\ngrace = '0s'",
    )
    .unwrap();
    let runs = &config.server.supervisor;
    assert!(config.server.allow_remote);
    assert_eq!(config.server.node, "n");
    assert_eq!(config.server.containment, Some(Containment::Shim));
    assert_eq!(runs.shell.as_deref(), Some("bash"));
    assert_eq!(runs.allowed_environment, ["CARGO_*"]);
    assert_eq!((runs.max_output_bytes, runs.memory_bytes), (65_536, 65_536));
    assert_eq!(runs.timeouts.idle, Some(Duration::from_secs(60)));
    assert_eq!((runs.timeouts.max_pause, runs.timeouts.grace), (None, Some(Duration::ZERO)));
}

#[test]
fn log_level_must_be_a_filter() {
    let level = |text| resolve("", &Environment::of([("LOG_LEVEL", text)], []), &Flags::default());
    assert_eq!(level("warn,cc_executor=debug").unwrap().log.level.as_deref(), Some("warn,cc_executor=debug"));
    let faults = level("cc_executor=loud").unwrap_err();
    assert!(
        faults.as_slice()[0].starts_with("environment LOG_LEVEL: \"cc_executor=loud\" is not a log filter"),
        "{faults}"
    );
}

#[test]
fn zero_is_no_timeout() {
    let faults = from_file("drain = '0s'\n[timeouts]\nrun = '0s'").unwrap_err();
    assert_eq!(
        faults.as_slice(),
        [
            "cc-executor.toml: drain: must be longer than zero",
            "cc-executor.toml: timeouts.run: must be longer than zero"
        ]
    );
}

#[test]
fn empty_variables_count_as_unset() {
    let environment = Environment::of([("CC_EXECUTOR_LISTEN", ""), ("HOME", "/home/a")], [("XDG_STATE_HOME", "")]);
    let config = resolve("", &environment, &Flags::default()).unwrap();
    assert_eq!(config.server.listen, [tcp("127.0.0.1:50051")]);
    assert_eq!(config.server.state_dir, Path::new("/home/a/.local/state/cc-executor"));
}

#[test]
fn state_directory_follows_the_user() {
    let at = |environment: Environment| state_dir(&environment);
    assert_eq!(at(Environment::of([("XDG_STATE_HOME", "/x"), ("HOME", "/h")], [])), Path::new("/x/cc-executor"));
    assert_eq!(at(Environment::of([], [])), Path::new("/var/lib/cc-executor"));
}

#[test]
fn named_file_must_exist() {
    let flags = Flags::default().file(Some("/no/such/file.toml".into()));
    let faults = load(&flags, &Environment::default()).unwrap_err();
    assert!(faults.as_slice()[0].starts_with("/no/such/file.toml: cannot be read: "), "{faults}");
}

#[test]
fn template_shows_every_setting_with_its_default() {
    let environment = Environment::of([("HOME", "/home/a")], []);
    let template = template(&environment);
    let uncommented: String = template
        .lines()
        .filter_map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ')) => Some(rest),
            Some(_) => None,
            None => Some(line),
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let mut config = resolve(&uncommented, &environment, &Flags::default()).unwrap();
    for setting in SETTINGS {
        assert!(uncommented.contains(&format!("{} = ", setting.key.rsplit('.').next().unwrap())), "{}", setting.key);
    }
    // Examples stand where there is no default; everything else must be the default.
    let runs = &mut config.server.supervisor;
    runs.shell = None;
    config.log.level = None;
    for clock in [
        &mut runs.timeouts.queue,
        &mut runs.timeouts.first_output,
        &mut runs.timeouts.idle,
        &mut runs.timeouts.run,
        &mut runs.timeouts.wall,
    ] {
        *clock = None;
    }
    assert_eq!(config, defaults(&environment));
    assert_eq!(resolve(&template, &environment, &Flags::default()).unwrap(), defaults(&environment));
}
