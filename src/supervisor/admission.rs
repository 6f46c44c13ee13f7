//! What may run: checks a request, fills in the server's defaults. Pure; what needs a look at the machine is looked up
//! by the caller and handed in.

use std::path::Path;
use std::time::Duration;

use super::Config;
use crate::execution::command::{
    Capture, Command, CommandLine, DisconnectPolicy, EffectiveTimeout, Environment, Limits, Options, OutputPolicy,
    Source, Stdin, Timeouts,
};
use crate::os;

/// The kernel's limit for one argument or variable, its NUL included.
const LONGEST_STRING: usize = 128 << 10;

/// Arguments in number.
const MOST_ARGUMENTS: usize = 4096;

/// All arguments together.
const LONGEST_ARGUMENTS: usize = 1 << 20;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A command that may run, with everything filled in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Admitted {
    /// The command, secrets included.
    pub(crate) command: Command,
    /// The clocks in force and who set them.
    pub(crate) timeouts: Vec<EffectiveTimeout>,
}

/// Why a command may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Fields are missing or wrong; all of them, not only the first.
    #[error("{}", .0.iter().map(|fault| format!("{}: {}", fault.field, fault.description)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Fault>),
    /// The platform cannot enforce a limit.
    #[error("this platform cannot enforce limits.{0}")]
    NotEnforceable(&'static str),
    /// Only root can become another user.
    #[error("running as {0:?} needs a server that runs as root")]
    NeedsRoot(String),
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its path in the request.
    pub field: String,
    /// What is wrong and what would be right.
    pub description: String,
}

/// What was found out about the machine for a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    /// The limits that can be enforced.
    pub(crate) enforceable: os::Enforceable,
    /// The working directory exists and is one.
    pub(crate) directory_exists: bool,
    /// The user, when one is named.
    pub(crate) user: UserStanding,
}

/// What is known of the user a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserStanding {
    /// None is named, or the server's own.
    Own,
    /// Another one, and the server is root.
    Other,
    /// Another one, and the server is not root.
    OtherWithoutRoot,
    /// There is no such user.
    Unknown,
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn check(&mut self, holds: bool, field: &str, description: impl Into<String>) {
        if !holds {
            self.0.push(Fault { field: field.to_owned(), description: description.into() });
        }
    }

    fn string(&mut self, text: &str, field: &str) {
        self.check(!text.contains('\0'), field, "must not hold a NUL byte");
        let most = LONGEST_STRING - 1;
        self.check(
            text.len() <= most,
            field,
            format!("is {} bytes; the kernel allows {most}: longer input belongs into stdin (mode INLINE)", text.len()),
        );
    }
}

/// The directory a command would start in.
pub(crate) fn working_directory<'a>(options: &'a Options, config: &'a Config) -> &'a Path {
    options.working_directory.as_deref().unwrap_or(&config.working_directory)
}

/// Checks a command and fills in the defaults.
pub(crate) fn admit(command: Command, config: &Config, circumstances: Circumstances) -> Result<Admitted, Rejection> {
    let mut faults = Faults::default();
    check_line(&command.line, &mut faults);
    check_options(&command.options, config, circumstances, &mut faults);
    if !faults.0.is_empty() {
        return Err(Rejection::Invalid(faults.0));
    }
    if circumstances.user == UserStanding::OtherWithoutRoot {
        return Err(Rejection::NeedsRoot(command.options.user.unwrap_or_default()));
    }
    check_enforceable(&command.options.limits, circumstances.enforceable)?;
    Ok(fill_in(command, config))
}

fn check_line(line: &CommandLine, faults: &mut Faults) {
    match line {
        CommandLine::Argv { program, args } => {
            faults.check(!program.is_empty(), "argv.program", "is required");
            faults.string(program, "argv.program");
            faults.check(
                args.len() <= MOST_ARGUMENTS,
                "argv.args",
                format!("are {}; at most {MOST_ARGUMENTS} are allowed", args.len()),
            );
            for (index, arg) in args.iter().enumerate() {
                faults.string(arg, &format!("argv.args[{index}]"));
            }
            let total: usize = args.iter().map(|arg| arg.len() + 1).sum();
            faults.check(
                total <= LONGEST_ARGUMENTS,
                "argv.args",
                format!("are {total} bytes; at most {LONGEST_ARGUMENTS} are allowed: longer input belongs into stdin"),
            );
        }
        CommandLine::Shell { script, interpreter } => {
            faults.check(!script.is_empty(), "shell.script", "is required");
            faults.string(script, "shell.script");
            faults.string(interpreter.as_deref().unwrap_or_default(), "shell.interpreter");
        }
    }
}

fn check_options(options: &Options, config: &Config, circumstances: Circumstances, faults: &mut Faults) {
    if let Some(directory) = &options.working_directory {
        let field = "options.working_directory";
        faults.string(&directory.to_string_lossy(), field);
        faults.check(directory.is_absolute(), field, "must be an absolute path");
    }
    let is_relative = options.working_directory.as_ref().is_some_and(|directory| directory.is_relative());
    faults.check(
        circumstances.directory_exists || is_relative,
        "options.working_directory",
        format!("{} is not an existing directory", working_directory(options, config).display()),
    );
    check_environment(&options.environment, faults);
    if let Some(terminal) = &options.terminal {
        let sizes = 1..=10_000;
        faults.check(sizes.contains(&terminal.rows), "options.terminal.rows", "must be 1 to 10,000");
        faults.check(sizes.contains(&terminal.columns), "options.terminal.columns", "must be 1 to 10,000");
        faults.string(&terminal.term, "options.terminal.term");
        faults.check(!options.merge_stderr, "options.merge_stderr", "a terminal has only one channel");
        faults.check(options.capture == Capture::Pipe, "options.capture", "FILE does not go with a terminal");
        faults.check(
            !matches!(options.stdin, Stdin::Inline(_)),
            "options.stdin.mode",
            "a terminal takes its input by WriteStdin, not INLINE",
        );
    }
    if options.capture == Capture::File {
        faults.check(
            !matches!(options.on_output_limit, OutputPolicy::DropNewest | OutputPolicy::Block),
            "options.on_output_limit",
            "with capture FILE only DROP_OLDEST and CANCEL are possible: a file cannot refuse a write",
        );
    }
    faults.check(
        circumstances.user != UserStanding::Unknown,
        "options.user",
        format!("there is no user {:?} on this machine", options.user.as_deref().unwrap_or_default()),
    );
    check_limits(&options.limits, config, faults);
    check_timeouts(&options.timeouts, config, faults);
    if let DisconnectPolicy::CancelAfterLease(lease) | DisconnectPolicy::PauseAfterLease(lease) = options.on_disconnect
    {
        faults.check(lease <= DAY, "options.disconnect_lease", "must be at most 24 h");
    }
    faults.check((-100..=100).contains(&options.priority), "options.priority", "must be -100 to 100");
    check_labels(options, faults);
    if let Some(retention) = options.retention {
        faults.check(
            !retention.is_zero() && retention <= config.retention_age,
            "options.retention",
            format!("must be above 0 s and at most the server's {}", humantime::format_duration(config.retention_age)),
        );
    }
    if let Some(signal) = options.stop_signal {
        faults.check((1..=64).contains(&signal), "options.stop_signal", "must be 1 to 64");
    }
}

fn check_environment(environment: &Environment, faults: &mut Faults) {
    for (name, value) in &environment.set {
        let field = "options.environment.set";
        let is_name = !name.is_empty() && !name.contains(['=', '\0']);
        faults.check(
            is_name,
            field,
            format!("{name:?} is not a variable's name: it must not be empty or hold '=' or NUL"),
        );
        faults.check(!value.contains('\0'), field, format!("the value of {name:?} must not hold a NUL byte"));
        let length = name.len() + value.len() + 2;
        faults.check(
            length <= LONGEST_STRING,
            field,
            format!("{name:?} with its value is {length} bytes; the kernel allows {LONGEST_STRING}"),
        );
        faults.check(name != os::MARKER, field, format!("{} is set by the server", os::MARKER));
    }
    let keeps_marker = environment.unset.iter().all(|name| name != os::MARKER);
    faults.check(keeps_marker, "options.environment.unset", format!("{} is set by the server", os::MARKER));
}

fn check_limits(limits: &Limits, config: &Config, faults: &mut Faults) {
    let mut at_least = |value: Option<u64>, least: u64, field: &str| {
        faults.check(value.is_none_or(|value| value >= least), field, format!("must be at least {least}"));
    };
    at_least(limits.memory_bytes, 1 << 20, "options.limits.memory_bytes");
    at_least(limits.processes, 1, "options.limits.processes");
    at_least(limits.open_files, 16, "options.limits.open_files");
    at_least(limits.output_bytes, 4 << 10, "options.limits.output_bytes");
    faults.check(
        limits.output_bytes.is_none_or(|bytes| bytes <= config.max_output_bytes),
        "options.limits.output_bytes",
        format!("must be at most the server's {}", config.max_output_bytes),
    );
    let cpus = limits.cpus.is_none_or(|cpus| cpus.is_finite() && (0.01..=100_000.0).contains(&cpus));
    faults.check(cpus, "options.limits.cpus", "must be 0.01 to 100,000");
    let cpu_time = limits.cpu_time.is_none_or(|time| time >= Duration::from_secs(1));
    faults.check(cpu_time, "options.limits.cpu_time", "must be at least 1 s");
}

/// The clocks by name: asked for, and the server's default.
fn clocks(asked: &Timeouts, default: &Timeouts) -> [(&'static str, Option<Duration>, Option<Duration>); 8] {
    [
        ("queue", asked.queue, default.queue),
        ("first_output", asked.first_output, default.first_output),
        ("idle", asked.idle, default.idle),
        ("run", asked.run, default.run),
        ("wall", asked.wall, default.wall),
        ("max_pause", asked.max_pause, default.max_pause),
        ("grace", asked.grace, default.grace),
        ("drain", asked.drain, default.drain),
    ]
}

fn check_timeouts(timeouts: &Timeouts, config: &Config, faults: &mut Faults) {
    for (name, asked, _) in clocks(timeouts, &config.timeouts) {
        let Some(asked) = asked else { continue };
        let field = format!("options.timeouts.{name}");
        let may_be_zero = matches!(name, "grace" | "drain");
        faults.check(may_be_zero || !asked.is_zero(), &field, "must be above 0 s; leave it out for none");
        let most = humantime::format_duration(config.max_timeout);
        faults.check(
            asked <= config.max_timeout,
            &field,
            format!("must be at most the server's max_timeout of {most}"),
        );
    }
}

fn check_labels(options: &Options, faults: &mut Faults) {
    let field = "options.labels";
    faults.check(options.labels.len() <= 64, field, "at most 64 are allowed");
    for (key, value) in &options.labels {
        let first = key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let rest =
            key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._/-".contains(&byte));
        let fits = first && rest && key.len() <= 63;
        faults.check(fits, field, format!("the key {key:?} must match [a-z0-9][a-z0-9._/-]{{0,62}}"));
        faults.check(value.len() <= 256, field, format!("the value of {key} must be at most 256 bytes"));
    }
}

fn check_enforceable(limits: &Limits, enforceable: os::Enforceable) -> Result<(), Rejection> {
    let wanted = [
        ("memory_bytes", limits.memory_bytes.is_some(), enforceable.memory),
        ("processes", limits.processes.is_some(), enforceable.processes),
        ("cpus", limits.cpus.is_some(), enforceable.cpus),
    ];
    match wanted.into_iter().find(|(_, wanted, possible)| *wanted && !possible) {
        Some((name, ..)) => Err(Rejection::NotEnforceable(name)),
        None => Ok(()),
    }
}

fn fill_in(mut command: Command, config: &Config) -> Admitted {
    if let CommandLine::Shell { interpreter, .. } = &mut command.line {
        *interpreter = interpreter.take().or_else(|| config.shell.clone());
    }
    let options = &mut command.options;
    options.working_directory = Some(working_directory(options, config).to_owned());
    options.retention = options.retention.or(Some(config.retention_age));
    options.limits.output_bytes = options.limits.output_bytes.or(Some(config.max_output_bytes));
    options.stop_signal = options.stop_signal.or(Some(libc::SIGTERM));
    let timeouts = clocks(&options.timeouts, &config.timeouts)
        .into_iter()
        .filter_map(|(name, asked, default)| {
            let source = if asked.is_some() { Source::Client } else { Source::Server };
            Some(EffectiveTimeout { name: name.to_owned(), value: asked.or(default)?, source })
        })
        .collect();
    let (asked, default) = (options.timeouts, config.timeouts);
    options.timeouts = Timeouts {
        queue: asked.queue.or(default.queue),
        first_output: asked.first_output.or(default.first_output),
        idle: asked.idle.or(default.idle),
        run: asked.run.or(default.run),
        wall: asked.wall.or(default.wall),
        max_pause: asked.max_pause.or(default.max_pause),
        grace: asked.grace.or(default.grace),
        drain: asked.drain.or(default.drain),
    };
    Admitted { command, timeouts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(program: &str, args: &[&str]) -> Command {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Command { line: CommandLine::Argv { program: program.to_owned(), args }, options: Options::default() }
    }

    fn usual() -> Circumstances {
        let enforceable = os::Enforceable { memory: false, processes: false, cpus: false };
        Circumstances { enforceable, directory_exists: true, user: UserStanding::Own }
    }

    fn fields(command: Command) -> Vec<String> {
        match admit(command, &Config::default(), usual()) {
            Err(Rejection::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let mut command = argv("", &["a\0b", &"x".repeat(LONGEST_STRING)]);
        command.options.timeouts.run = Some(Duration::ZERO);
        command.options.timeouts.wall = Some(Duration::MAX);
        command.options.priority = 101;
        command.options.labels.insert("Bad Key".to_owned(), String::new());
        assert_eq!(
            fields(command),
            [
                "argv.program",
                "argv.args[0]",
                "argv.args[1]",
                "options.timeouts.run",
                "options.timeouts.wall",
                "options.priority",
                "options.labels"
            ]
        );
    }

    #[test]
    fn a_limit_that_cannot_be_enforced_is_refused() {
        let mut command = argv("true", &[]);
        command.options.limits.memory_bytes = Some(64 << 20);
        let refused = admit(command, &Config::default(), usual());
        assert_eq!(refused, Err(Rejection::NotEnforceable("memory_bytes")));
    }

    #[test]
    fn a_clock_that_is_not_set_takes_the_servers_and_says_so() {
        let mut command = argv("true", &[]);
        command.options.timeouts.grace = Some(Duration::ZERO);
        let admitted = admit(command, &Config::default(), usual()).unwrap();
        let source = |name| admitted.timeouts.iter().find(|timeout| timeout.name == name).map(|timeout| timeout.source);
        assert_eq!(source("grace"), Some(Source::Client));
        assert_eq!(source("drain"), Some(Source::Server));
        assert_eq!(source("run"), None);
        assert_eq!(admitted.command.options.timeouts.grace, Some(Duration::ZERO));
    }
}
