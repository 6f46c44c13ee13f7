//! What is to be started: everything decided, nothing left to a default.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;

use super::{SpawnError, SpawnStep, User};

/// One command, ready to be started by [`Host::spawn`](super::Host::spawn).
#[derive(Debug)]
pub struct Plan {
    /// The execution's id: names its cgroup directory and is the value of [`MARKER`](super::MARKER).
    /// One path component without `/`, and unique among the runs of this machine.
    pub id: String,
    /// What to run. With a `/` it is a path, relative to the working directory; without, it is looked for on the
    /// `PATH` of `environment`.
    pub program: OsString,
    /// What the program sees as its own name; `program` unless given.
    pub arg0: Option<OsString>,
    /// The arguments after the name.
    pub args: Vec<OsString>,
    /// The complete environment: nothing is added, not even the marker.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub working_directory: PathBuf,
    /// As whom it runs; as ourselves unless given.
    pub user: Option<User>,
    /// Where its input comes from.
    pub stdin: Stdin,
    /// Where its output goes.
    pub output: Output,
    /// What it may use at most.
    pub limits: ResourceLimits,
}

/// Where a command's standard input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stdin {
    /// `/dev/null`, also on a terminal.
    Null,
    /// These bytes and then the end, from memory: no pipe to fill, nobody to feed it.
    Inline(Bytes),
    /// A pipe whose other end is [`Child::stdin`](super::Child); with [`Output::Terminal`] the terminal.
    Pipe,
}

/// Where a command's standard output and error go.
#[derive(Debug)]
pub enum Output {
    /// Two pipes, or one for both in exact order.
    Pipes {
        /// One pipe for both.
        merge_stderr: bool,
    },
    /// Open files, written to by the command itself. They stay their owner's: another user that the command runs
    /// as can write to them, but not open `/dev/stdout` anew.
    Files {
        /// Receives standard output.
        stdout: File,
        /// Receives standard error; `None`: it goes to `stdout` as well.
        stderr: Option<File>,
    },
    /// A terminal of this size, the controlling terminal of the command's session.
    Terminal {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
}

/// What a command may use at most. The last three bound the whole tree and need a cgroup:
/// see [`Host::enforceable`](super::Host::enforceable).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ResourceLimits {
    /// Descriptors in each process; 1024 that it may raise itself, unless given.
    pub open_files: Option<u64>,
    /// Processor time of each process, rounded up to whole seconds: SIGXCPU then, SIGKILL 5 s later.
    pub cpu_time: Option<Duration>,
    /// Memory of the tree; swap is not granted on top.
    pub memory_bytes: Option<u64>,
    /// Processes and threads of the tree.
    pub processes: Option<u64>,
    /// Processors' worth of time for the tree, 1.5 being one and a half.
    pub cpus: Option<f64>,
}

impl Plan {
    /// Refuses what cannot be said to the kernel at all: NUL bytes, an id that is not one path component.
    pub(super) fn check(&self) -> Result<(), SpawnError> {
        let has_nul = |text: &OsStr| text.as_bytes().contains(&0);
        if self.id.is_empty() || self.id.starts_with('.') || self.id.contains(['/', '\0', '\n']) {
            return Err(SpawnError::new(SpawnStep::Containment, libc::EINVAL));
        }
        if has_nul(self.working_directory.as_os_str()) {
            return Err(SpawnError::new(SpawnStep::WorkingDirectory, libc::EINVAL));
        }
        let mut words = std::iter::once(&self.program)
            .chain(&self.arg0)
            .chain(&self.args)
            .chain(self.environment.iter().flat_map(|(name, value)| [name, value]));
        if words.any(|word| has_nul(word)) {
            return Err(SpawnError::new(SpawnStep::Exec, libc::EINVAL));
        }
        Ok(())
    }
}
