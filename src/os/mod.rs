//! The operating system: the only place with processes, signals, `/proc`, cgroups and unsafe code.
//!
//! [`Host::spawn`] starts a [`Plan`] and gives a [`Child`]: its exit, its pipes, and a [`Tree`] to signal, freeze and
//! kill all of its processes. How that is done depends on the [`Containment`] that works on the machine, and nobody
//! outside needs to know which. This module knows nothing of executions, only of processes.
//!
//! ```text
//! Host ── Spawner (one permanent thread) ──▶ shim ──▶ leader ──▶ its descendants
//!  │                                          ▲ │
//!  └─▶ Child ── Tree ── Link (one task) ──────┘ │       socket: requests, answers, exit
//!       │                                       │
//!       └── Reader, Writer ◀────────────────────┴─────  pipes, terminal: never through the shim
//! ```

mod cgroup;
mod child;
mod crowd;
mod failure;
pub mod files;
mod floor;
mod hierarchy;
mod host;
mod link;
mod pipe;
mod plan;
mod process;
mod reaper;
pub mod shim;
mod spawner;
mod stdio;
mod sweep;
mod syscall;
mod tree;
mod usage;
mod user;
mod watch;

use std::fmt;

pub use child::{Child, Exit};
pub use failure::{SpawnError, SpawnStep};
pub use host::{Enforceable, Host, HostConfig, OpenError};
pub use pipe::{Reader, Writer};
pub use plan::{Output, Plan, ResourceLimits, Stdin};
pub use tree::{Frozen, Killed, Member, Scope, Tree, TreeError};
pub use usage::{Usage, UsageSource};
pub use user::User;

/// The environment variable whose value is the execution's id. The caller puts it into [`Plan::environment`]; by it
/// leftovers are found after a crash, and processes that left everything else behind.
pub const MARKER: &str = "CC_EXECUTION_ID";

/// What makes a command's processes findable as one thing, from the strongest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Containment {
    /// A cgroup for each command, and a shim: nothing escapes.
    Cgroup,
    /// A shim for each command that adopts every orphan: only what another service starts escapes.
    Shim,
    /// Session, process group and marker: a daemon that empties its environment escapes.
    Group,
}

impl fmt::Display for Containment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Containment::Cgroup => "cgroup",
            Containment::Shim => "shim",
            Containment::Group => "group",
        })
    }
}
