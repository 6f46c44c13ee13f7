//! What to run: the command line and its options, as asked for and, after admission, as effective.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A command and everything that was asked for with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// What is executed.
    pub line: CommandLine,
    /// How.
    pub options: Options,
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandLine {
    /// A program and its arguments, no shell.
    Argv {
        /// A path or a bare name.
        program: String,
        /// The arguments behind the program's own name.
        args: Vec<String>,
    },
    /// A script for `interpreter -c`.
    Shell {
        /// The text.
        script: String,
        /// A path or a bare name; `None` before admission means the server's default.
        interpreter: Option<String>,
    },
}

/// Everything about a run beyond the command line. `None` means the server's default; admission fills those in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Absolute.
    pub working_directory: Option<PathBuf>,
    /// Base, additions and removals.
    pub environment: Environment,
    /// Where input comes from.
    pub stdin: Stdin,
    /// A pseudo-terminal instead of pipes.
    pub terminal: Option<Terminal>,
    /// stderr joined to stdout on the child's own descriptors.
    pub merge_stderr: bool,
    /// Pipes or files.
    pub capture: Capture,
    /// Name or number of the user to run as; `None` is the server's own.
    pub user: Option<String>,
    /// Enforced limits.
    pub limits: Limits,
    /// What happens when the room for output is used up.
    pub on_output_limit: OutputPolicy,
    /// The clocks.
    pub timeouts: Timeouts,
    /// What happens to processes that outlive the command.
    pub on_leak: LeakPolicy,
    /// What happens when nobody follows any more.
    pub on_disconnect: DisconnectPolicy,
    /// Higher starts first.
    pub priority: i32,
    /// Pairs to find the run by.
    pub labels: BTreeMap<String, String>,
    /// How long record and output are kept.
    pub retention: Option<Duration>,
    /// What cancel and timeouts send first; `None` is TERM.
    pub stop_signal: Option<i32>,
}

/// The environment of a run: a base, then `set`, then `unset`. Its `Debug` form hides the values.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// The base.
    pub inherit: Inherit,
    /// Variables to set.
    pub set: BTreeMap<String, String>,
    /// Variables to remove, after all else.
    pub unset: Vec<String>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("inherit", &self.inherit)
            .field("set", &self.set.keys())
            .field("unset", &self.unset)
            .finish()
    }
}

/// What a run takes from the server's own environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inherit {
    /// Nothing.
    None,
    /// The allowed names.
    #[default]
    AllowList,
    /// Everything.
    All,
}

/// Where standard input comes from. Its `Debug` form hides the data.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// End of file at once.
    #[default]
    Null,
    /// These bytes, then end of file.
    Inline(Bytes),
    /// Written by callers until closed.
    Pipe,
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stdin::Null => f.write_str("Null"),
            Stdin::Inline(data) => write!(f, "Inline({} bytes)", data.len()),
            Stdin::Pipe => f.write_str("Pipe"),
        }
    }
}

/// A pseudo-terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
    /// The TERM variable.
    pub term: String,
}

/// How output is captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// Through pipes.
    #[default]
    Pipe,
    /// The child writes into the spool itself.
    File,
}

/// Limits on a run; `None` is no limit, for `output_bytes` the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory of the tree, bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads of the tree.
    pub processes: Option<u64>,
    /// CPUs of the tree.
    pub cpus: Option<f64>,
    /// CPU time of each process.
    pub cpu_time: Option<Duration>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Output kept, bytes over all channels.
    pub output_bytes: Option<u64>,
}

/// What happens when the room for output is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputPolicy {
    /// Forget the beginning.
    #[default]
    DropOldest,
    /// Keep the beginning.
    DropNewest,
    /// Hold the child back.
    Block,
    /// End the run.
    Cancel,
}

/// The clocks of a run; `None` means none, or the server's default before admission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// In the queue.
    pub queue: Option<Duration>,
    /// Until the first output byte.
    pub first_output: Option<Duration>,
    /// Without output.
    pub idle: Option<Duration>,
    /// Of running.
    pub run: Option<Duration>,
    /// Since acceptance.
    pub wall: Option<Duration>,
    /// One pause.
    pub max_pause: Option<Duration>,
    /// Between the stop signal and KILL.
    pub grace: Option<Duration>,
    /// For output of processes that outlive the command.
    pub drain: Option<Duration>,
}

/// A clock in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveTimeout {
    /// Its name as in [`Timeouts`].
    pub name: String,
    /// Its length.
    pub value: Duration,
    /// Who set it.
    pub source: Source,
}

/// Who set a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The request.
    Client,
    /// The server's configuration.
    Server,
}

/// What happens to processes that outlive the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakPolicy {
    /// Ended after the drain time.
    #[default]
    Kill,
    /// Waited for.
    Wait,
}

/// What happens when nobody follows a run any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisconnectPolicy {
    /// Nothing.
    #[default]
    KeepRunning,
    /// Cancel at once.
    CancelNow,
    /// Cancel when nobody came back in time.
    CancelAfterLease(Duration),
    /// Pause when nobody came back in time.
    PauseAfterLease(Duration),
}

impl Command {
    /// The same command without what must never be shown or stored: environment values and inline input.
    #[must_use]
    pub fn redacted(&self) -> Command {
        let mut shown = self.clone();
        shown.options.environment.set.values_mut().for_each(String::clear);
        if let Stdin::Inline(data) = &mut shown.options.stdin {
            data.clear();
        }
        shown
    }
}

impl CommandLine {
    /// The command as one line for people and for the filter column `command`.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            CommandLine::Argv { program, args } => {
                std::iter::once(program).chain(args).map(String::as_str).collect::<Vec<_>>().join(" ")
            }
            CommandLine::Shell { script, .. } => script.clone(),
        }
    }

    /// What statistics group by: the program, or the first word of the script.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            CommandLine::Argv { program, .. } => program,
            CommandLine::Shell { script, .. } => script.split_whitespace().next().unwrap_or_default(),
        }
    }
}
