//! What a run has cost so far.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the processes of one tree have used, as far as the source can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// With a cgroup's memory controller the peak of the whole tree, else of its largest process. Bytes.
    pub peak_memory_bytes: u64,
    /// Most processes at one time, if the cgroup counts them.
    pub peak_processes: Option<u32>,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written to block devices.
    pub written_bytes: u64,
    /// Processes ended by the kernel for want of memory, if the cgroup counts them.
    pub oom_kills: Option<u64>,
    /// Where the processor time comes from.
    pub source: UsageSource,
}

/// Who did the counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UsageSource {
    /// The cgroup: every process, whoever its parent was.
    Cgroup,
    /// The processes themselves, summed up as they were reaped; misses what was never waited for.
    #[default]
    Children,
}
