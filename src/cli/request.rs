//! The options of `run`, and the request they make. Pure: what must be looked up is handed in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use crate::config::quantity::{duration, size};
use crate::proto::environment::Inherit;
use crate::proto::stdin::Mode;
use crate::proto::{self, Argv, ExecuteRequest, ExecutionOptions, Shell, StreamOptions, execute_request};

use super::follow::STREAM;

/// What to run and how.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct RunOptions {
    /// A script for the shell if it is one argument, else a program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Take COMMAND as a program and its arguments, even if it is one argument
    #[arg(long, conflicts_with = "shell")]
    argv: bool,
    /// Take COMMAND as a script, and hand it to this interpreter
    #[arg(long, value_name = "INTERPRETER", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    shell: Option<String>,
    /// The id of the run; the same id with the same command attaches to the run that exists [default: a new one]
    #[arg(long)]
    id: Option<String>,

    /// Run there [default: where the server was started]
    #[arg(long, value_name = "DIR", help_heading = "Surroundings")]
    cwd: Option<PathBuf>,
    /// Set a variable; without =VALUE it is taken from here
    #[arg(long, short, value_name = "NAME[=VALUE]", help_heading = "Surroundings")]
    env: Vec<String>,
    /// Remove a variable
    #[arg(long, value_name = "NAME", help_heading = "Surroundings")]
    unset: Vec<String>,
    /// What to take from the server's environment [default: allow-list]
    #[arg(long, value_name = "WHAT", help_heading = "Surroundings")]
    env_inherit: Option<EnvironmentBase>,
    /// Run as this user, by name or number (needs a server that runs as root)
    #[arg(long, help_heading = "Surroundings")]
    user: Option<String>,

    /// Pass standard input on [default: the run reads an immediate end of file]
    #[arg(long, short = 'i', help_heading = "Input and output")]
    pub(super) stdin: bool,
    /// Give the run this file as standard input
    #[arg(long, value_name = "FILE", conflicts_with = "stdin", help_heading = "Input and output")]
    pub(super) stdin_file: Option<PathBuf>,
    /// Give the run a terminal; keys typed here go to it
    #[arg(long, short = 't', conflicts_with_all = ["merge_stderr", "capture", "stdin_file", "json"], help_heading = "Input and output")]
    pub(super) tty: bool,
    /// The terminal's size [default: that of this one, else 24x80]
    #[arg(long, value_name = "ROWSxCOLUMNS", value_parser = terminal_size, requires = "tty", help_heading = "Input and output")]
    tty_size: Option<(u16, u16)>,
    /// Join stderr to stdout, in exact order
    #[arg(long, help_heading = "Input and output")]
    merge_stderr: bool,
    /// How output is captured; file is for programs that lose the end of large answers over a pipe [default: pipe]
    #[arg(long, value_name = "HOW", help_heading = "Input and output")]
    capture: Option<Capture>,

    /// Memory of all its processes, e.g. 512MiB
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Limits")]
    memory: Option<u64>,
    /// Number of processes and threads
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    processes: Option<u64>,
    /// CPUs, e.g. 1.5
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    cpus: Option<f64>,
    /// CPU time of each process
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    cpu_time: Option<Duration>,
    /// Open files of each process
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    open_files: Option<u64>,
    /// Output that is kept
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Limits")]
    output_limit: Option<u64>,
    /// What happens when that is used up [default: drop-oldest]
    #[arg(long, value_name = "WHAT", help_heading = "Limits")]
    on_output_limit: Option<OnOutputLimit>,

    /// End it after so long of running, e.g. 10s, 5m, 2h
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Timeouts")]
    timeout: Option<Duration>,
    /// End it after so long without output
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Timeouts")]
    idle_timeout: Option<Duration>,
    /// End it when there is no output so long after the start
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Timeouts")]
    first_output_timeout: Option<Duration>,
    /// End it so long after the request, queue and pauses counted
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Timeouts")]
    wall_timeout: Option<Duration>,
    /// Give up when it has not started by then
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Timeouts")]
    queue_timeout: Option<Duration>,
    /// End it when it is paused for so long [default: 1 day]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Timeouts")]
    max_pause: Option<Duration>,
    /// Between the stop signal and KILL [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Timeouts")]
    grace: Option<Duration>,
    /// For output of processes that outlive the command [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Timeouts")]
    drain: Option<Duration>,

    /// What happens to processes that outlive the command [default: kill]
    #[arg(long, value_name = "WHAT", help_heading = "Policies")]
    on_leak: Option<OnLeak>,
    /// What happens when nobody follows the run any more [default: keep-running]
    #[arg(long, value_name = "WHAT", help_heading = "Policies")]
    on_disconnect: Option<OnDisconnect>,
    /// How long nobody may follow before --on-disconnect acts [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Policies")]
    lease: Option<Duration>,
    /// The signal that cancel and timeouts send first, by name or number [default: TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = signal_number, help_heading = "Policies")]
    stop_signal: Option<i32>,
    /// Higher starts first, -100 to 100 [default: 0]
    #[arg(
        long,
        value_name = "NUMBER",
        allow_hyphen_values = true,
        default_value_t = 0,
        hide_default_value = true,
        help_heading = "Policies"
    )]
    priority: i32,
    /// Mark the run to find it by
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = pair, help_heading = "Policies")]
    label: Vec<(String, String)>,
    /// Keep record and output so long after the end
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Policies")]
    retention: Option<Duration>,
    /// Time between signs of life while nothing else is sent [default: 15s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Policies")]
    keepalive: Option<Duration>,
}

/// What the request needs from this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Relative directories are seen from here.
    pub(super) directory: PathBuf,
    /// Variables that `--env NAME` refers to, and TERM.
    pub(super) environment: BTreeMap<String, String>,
    /// Rows and columns of the terminal, where there is one.
    pub(super) terminal: Option<(u16, u16)>,
    /// Standard input.
    pub(super) input: Input,
}

/// How standard input reaches the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Input {
    /// Not at all.
    #[default]
    None,
    /// Within the request.
    Inline(Bytes),
    /// While it runs.
    Fed,
}

/// Generates an enum of the command line and its counterpart on the wire.
macro_rules! choices {
    ($(#[$meta:meta])* $name:ident => $wire:ty { $($choice:ident => $value:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, ValueEnum)]
        enum $name { $($choice),+ }

        impl From<$name> for i32 {
            fn from(choice: $name) -> i32 {
                match choice { $($name::$choice => <$wire>::$value as i32),+ }
            }
        }
    };
}

choices!(EnvironmentBase => Inherit { None => None, AllowList => AllowList, All => All });
choices!(Capture => proto::Capture { Pipe => Pipe, File => File });
choices!(OnOutputLimit => proto::OutputPolicy { DropOldest => DropOldest, DropNewest => DropNewest, Block => Block, Cancel => Cancel });
choices!(OnLeak => proto::LeakPolicy { Kill => Kill, Wait => Wait });
choices!(OnDisconnect => proto::DisconnectPolicy {
    KeepRunning => KeepRunning,
    CancelNow => CancelNow,
    CancelAfterLease => CancelAfterLease,
    PauseAfterLease => PauseAfterLease,
});

impl RunOptions {
    /// The id that was asked for.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The request, under this id.
    pub(super) fn request(&self, id: String, around: &Surroundings) -> Result<ExecuteRequest, String> {
        Ok(ExecuteRequest {
            execution_id: id,
            command: Some(self.command_line()),
            options: Some(ExecutionOptions {
                working_directory: self
                    .cwd
                    .as_deref()
                    .map_or(Ok(String::new()), |cwd| absolute(&around.directory, cwd))?,
                environment: self.environment(around)?,
                stdin: self.stdin(around),
                terminal: self.terminal(around),
                merge_stderr: self.merge_stderr,
                capture: self.capture.map_or(0, i32::from),
                user: self.user.clone().unwrap_or_default(),
                limits: self.limits(),
                on_output_limit: self.on_output_limit.map_or(0, i32::from),
                timeouts: self.timeouts(),
                on_leak: self.on_leak.map_or(0, i32::from),
                on_disconnect: self.on_disconnect.map_or(0, i32::from),
                disconnect_lease: self.lease.map(wire),
                priority: self.priority,
                labels: self.label.iter().cloned().collect(),
                retention: self.retention.map(wire),
                stop_signal: self.stop_signal.unwrap_or_default(),
            }),
            stream: Some(StreamOptions { keepalive_interval: self.keepalive.map(wire), ..STREAM }),
        })
    }

    fn command_line(&self) -> execute_request::Command {
        let (program, args) = self.command.split_first().expect("clap requires a command");
        if self.argv || (self.shell.is_none() && !args.is_empty()) {
            execute_request::Command::Argv(Argv { program: program.clone(), args: args.to_vec() })
        } else {
            let interpreter = self.shell.clone().unwrap_or_default();
            execute_request::Command::Shell(Shell { script: self.command.join(" "), interpreter })
        }
    }

    fn environment(&self, around: &Surroundings) -> Result<Option<proto::Environment>, String> {
        if self.env.is_empty() && self.unset.is_empty() && self.env_inherit.is_none() {
            return Ok(None);
        }
        let mut set = BTreeMap::new();
        for variable in &self.env {
            let (name, value) = match variable.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => match around.environment.get(variable) {
                    Some(value) => (variable.as_str(), value.clone()),
                    None => return Err(format!("flag --env: {variable} is not set here; write {variable}=VALUE")),
                },
            };
            set.insert(name.to_owned(), value);
        }
        let inherit = self.env_inherit.map_or(0, i32::from);
        Ok(Some(proto::Environment { inherit, set, unset: self.unset.clone() }))
    }

    fn stdin(&self, around: &Surroundings) -> Option<proto::Stdin> {
        let stdin = |mode: Mode, inline_data| Some(proto::Stdin { mode: mode.into(), inline_data });
        match &around.input {
            Input::None => None,
            // For a run with a terminal this means that its input comes through the terminal.
            Input::Fed => stdin(Mode::Pipe, Bytes::new()),
            Input::Inline(data) => stdin(Mode::Inline, data.clone()),
        }
    }

    fn terminal(&self, around: &Surroundings) -> Option<proto::Terminal> {
        let (rows, columns) = self.tty_size.or(around.terminal).unwrap_or((24, 80));
        let term = around.environment.get("TERM").cloned().unwrap_or_default();
        self.tty.then(|| proto::Terminal { rows: rows.into(), columns: columns.into(), term })
    }

    fn limits(&self) -> Option<proto::Limits> {
        let limits = proto::Limits {
            memory_bytes: self.memory,
            processes: self.processes,
            cpus: self.cpus,
            cpu_time: self.cpu_time.map(wire),
            open_files: self.open_files,
            output_bytes: self.output_limit,
        };
        (limits != proto::Limits::default()).then_some(limits)
    }

    fn timeouts(&self) -> Option<proto::Timeouts> {
        let timeouts = proto::Timeouts {
            queue: self.queue_timeout.map(wire),
            first_output: self.first_output_timeout.map(wire),
            idle: self.idle_timeout.map(wire),
            run: self.timeout.map(wire),
            wall: self.wall_timeout.map(wire),
            max_pause: self.max_pause.map(wire),
            grace: self.grace.map(wire),
            drain: self.drain.map(wire),
        };
        (timeouts != proto::Timeouts::default()).then_some(timeouts)
    }
}

/// A duration on the wire; one that does not fit becomes the longest there is, which the server refuses by name.
pub(super) fn wire(duration: Duration) -> prost_types::Duration {
    duration.try_into().unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

/// A signal by its name, with or without SIG, or its number.
pub(super) fn signal_number(text: &str) -> Result<i32, String> {
    let wrong = || format!("\"{text}\" is not a signal; write it like TERM, SIGINT or 15");
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let name = text.to_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    name.parse::<nix::sys::signal::Signal>().map(|signal| signal as i32).map_err(|_| wrong())
}

/// A key and a value, joined by an equals sign.
fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.ok_or_else(|| format!("\"{text}\" is not of the form KEY=VALUE"))
}

fn terminal_size(text: &str) -> Result<(u16, u16), String> {
    let side = |text: &str| text.parse().ok().filter(|side| (1..=10_000).contains(side));
    let size = text.split_once('x').and_then(|(rows, columns)| Some((side(rows)?, side(columns)?)));
    size.ok_or_else(|| format!("\"{text}\" is not a size; write it like 24x80"))
}

fn absolute(base: &Path, path: &Path) -> Result<String, String> {
    let path: PathBuf = base.join(path).components().collect();
    path.into_os_string().into_string().map_err(|path| format!("flag --cwd: {} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests;
