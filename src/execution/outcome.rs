//! How a run ended, and what it used.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::Channel;

/// The final word on a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How the process ended.
    pub ending: Ending,
    /// Why.
    pub cause: Cause,
    /// A sentence, or the reason a caller gave; may be empty.
    pub reason: String,
    /// The signals we sent to end it.
    pub escalation: Vec<SentSignal>,
    /// CPU, memory, I/O.
    pub usage: Usage,
    /// The clocks.
    pub durations: Durations,
    /// One entry a channel.
    pub channels: Vec<ChannelSummary>,
    /// Output is missing at the end.
    pub output_incomplete: bool,
    /// Processes that outlived the command.
    pub leaked: Vec<Process>,
    /// Processes that could not be ended.
    pub survivors: Vec<Process>,
}

impl Outcome {
    /// The one place that says what success is.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.ending == Ending::Exited(0) && self.cause == Cause::Exited
    }
}

/// How the process ended. There is no default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// With an exit code.
    Exited(i32),
    /// By a signal.
    Signaled {
        /// The POSIX number.
        number: i32,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
    /// There never was a process.
    NotStarted(NotStarted),
    /// It cannot be known.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// Why there never was a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotStarted {
    /// The step that failed.
    pub step: Step,
    /// The system's error number, 0 where there is none.
    pub errno: i32,
    /// The path concerned, if any.
    pub path: Option<String>,
    /// One sentence.
    pub message: String,
}

/// The steps between acceptance and a running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Waiting for a slot.
    Queue,
    /// Pipes, processes, memory.
    Resources,
    /// cgroup or init process.
    Containment,
    /// The pseudo-terminal.
    Terminal,
    /// Limits.
    Limits,
    /// Becoming the user.
    User,
    /// Entering the directory.
    WorkingDirectory,
    /// Executing the program.
    Exec,
    /// Opening the spool.
    Spool,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Cause {
    /// By itself.
    Exited,
    /// By a caller.
    Cancelled,
    /// By a signal nobody here sent.
    SignalledExternally,
    /// The run clock.
    RunTimeout,
    /// The idle clock.
    IdleTimeout,
    /// The first-output clock.
    FirstOutputTimeout,
    /// The wall clock.
    WallTimeout,
    /// The queue clock.
    QueueTimeout,
    /// The pause clock.
    PauseLimit,
    /// The kernel, for memory, with evidence.
    OutOfMemory,
    /// The output limit with its policy.
    OutputLimit,
    /// It could not be started.
    SpawnFailed,
    /// The disconnect policy.
    ClientGone,
    /// The server was told to stop.
    ServerShutdown,
    /// The server was lost.
    ServerLost,
}

impl Cause {
    /// All of them, in the order of the protocol.
    pub const ALL: [Cause; 15] = [
        Cause::Exited,
        Cause::Cancelled,
        Cause::SignalledExternally,
        Cause::RunTimeout,
        Cause::IdleTimeout,
        Cause::FirstOutputTimeout,
        Cause::WallTimeout,
        Cause::QueueTimeout,
        Cause::PauseLimit,
        Cause::OutOfMemory,
        Cause::OutputLimit,
        Cause::SpawnFailed,
        Cause::ClientGone,
        Cause::ServerShutdown,
        Cause::ServerLost,
    ];

    /// The name used in filters and tables, for instance `RUN_TIMEOUT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cause::Exited => "EXITED",
            Cause::Cancelled => "CANCELLED",
            Cause::SignalledExternally => "SIGNALLED_EXTERNALLY",
            Cause::RunTimeout => "RUN_TIMEOUT",
            Cause::IdleTimeout => "IDLE_TIMEOUT",
            Cause::FirstOutputTimeout => "FIRST_OUTPUT_TIMEOUT",
            Cause::WallTimeout => "WALL_TIMEOUT",
            Cause::QueueTimeout => "QUEUE_TIMEOUT",
            Cause::PauseLimit => "PAUSE_LIMIT",
            Cause::OutOfMemory => "OUT_OF_MEMORY",
            Cause::OutputLimit => "OUTPUT_LIMIT",
            Cause::SpawnFailed => "SPAWN_FAILED",
            Cause::ClientGone => "CLIENT_GONE",
            Cause::ServerShutdown => "SERVER_SHUTDOWN",
            Cause::ServerLost => "SERVER_LOST",
        }
    }
}

/// A signal we sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentSignal {
    /// The POSIX number.
    pub number: i32,
    /// When.
    pub time: Timestamp,
    /// To how many processes.
    pub processes: u32,
}

/// What the tree used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// Peak memory, bytes.
    pub peak_memory_bytes: u64,
    /// Peak number of processes, where counted.
    pub peak_processes: Option<u32>,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written to block devices.
    pub written_bytes: u64,
    /// Who counted; `None` when nobody did.
    pub source: Option<UsageSource>,
}

/// Who counted usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The cgroup.
    Cgroup,
    /// The sum over reaped processes.
    Children,
}

/// How long each part of a life took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Durations {
    /// Waiting for a slot.
    pub queued: Duration,
    /// Running, pauses not counted.
    pub running: Duration,
    /// Paused.
    pub paused: Duration,
    /// From accepted to completed.
    pub total: Duration,
}

/// What came out of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelSummary {
    /// Which.
    pub channel: Channel,
    /// Bytes written, kept or not.
    pub bytes_total: u64,
    /// Bytes that can still be read.
    pub bytes_kept: u64,
    /// The first byte that can still be read.
    pub first_kept_offset: u64,
    /// SHA-256 over all bytes; `None` while open, or when the server was lost.
    pub sha256: Option<[u8; 32]>,
}

/// A process of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number while it lived.
    pub pid: u32,
    /// The first words of its command line.
    pub command: String,
}
