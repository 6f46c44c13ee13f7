//! A started command, from the side of whoever drives it.

use std::fmt;

use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use super::{Reader, SpawnError, Tree, Usage, Writer, syscall::Ended};

/// A command that executes. Dropping it kills its whole tree, in the background.
#[derive(Debug)]
pub struct Child {
    /// The leader: the process that executes the program.
    pub pid: u32,
    /// Its input, with `Stdin::Pipe`.
    pub stdin: Option<Writer>,
    /// Its output, unless it goes to files; the terminal, if it has one.
    pub stdout: Option<Reader>,
    /// Its error output, if apart.
    pub stderr: Option<Reader>,
    /// All of its processes.
    pub tree: Tree,
    pub(super) progress: watch::Receiver<Progress>,
    /// Ends the run when the child is dropped.
    pub(super) _guard: DropGuard,
}

/// How the leader ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal {
        /// Which.
        number: i32,
        /// Whether the kernel wrote (or piped) a core dump.
        core_dumped: bool,
    },
    /// Nobody knows: its shim was killed, and it with it.
    Unknown {
        /// A lower-case sentence for people.
        why: String,
    },
}

/// What has become known of a run; written by one task only.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) start: Option<Result<u32, SpawnError>>,
    pub(super) exit: Option<Exit>,
    /// Set once no process is left.
    pub(super) usage: Option<Usage>,
    /// Nothing remains, not even a shim or a directory.
    pub(super) is_over: bool,
}

impl Child {
    /// Waits until the leader has ended. Does not wait for its descendants or for the end of its output.
    ///
    /// Cancel-safe; gives the same answer again when called again.
    pub async fn exited(&mut self) -> Exit {
        match self.progress.wait_for(|progress| progress.exit.is_some()).await {
            Ok(progress) => progress.exit.clone().expect("it was waited for"),
            Err(_) => Exit::Unknown { why: "the runtime that watched it has ended".to_owned() },
        }
    }

    /// Waits until no process of the tree is left, which is after the leader's end, and says what they have used.
    ///
    /// Cancel-safe; gives the same answer again when called again.
    pub async fn emptied(&mut self) -> Usage {
        match self.progress.wait_for(|progress| progress.usage.is_some()).await {
            Ok(progress) => progress.usage.expect("it was waited for"),
            Err(_) => Usage::default(),
        }
    }
}

impl From<Ended> for Exit {
    fn from(ended: Ended) -> Exit {
        match ended {
            Ended::Code(code) => Exit::Code(code),
            Ended::Signal { number, core_dumped } => Exit::Signal { number, core_dumped },
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(formatter, "exit code {code}"),
            Exit::Signal { number, core_dumped: false } => write!(formatter, "signal {number}"),
            Exit::Signal { number, core_dumped: true } => write!(formatter, "signal {number}, core dumped"),
            Exit::Unknown { why } => write!(formatter, "unknown end: {why}"),
        }
    }
}
