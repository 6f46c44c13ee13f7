//! The init of one command: an early branch of our own binary that starts the command, owns its processes and reports.
//!
//! ```text
//! server ──spawn──▶ shim                                     argv[0] = "cc-executor-init", fd 0 = socket
//!   │ order (memfd) + 3 descriptors ───▶ │ subreaper, dies with the server
//!   │                                    ├──fork──▶ leader: cgroup, session, terminal, limits, user, directory, exec
//!   │ ◀── Started{pid} | Failed{step} ───┤
//!   │ ──── Signal Freeze Kill … ───────▶ │ walks what is below it and acts
//!   │ ◀── Answer ────────────────────────┤
//!   │ ◀── Exited | Signaled ─────────────┤ the leader ended: said at once, whatever else still runs
//!   │ ◀── Empty{usage} ──────────────────┤ no child is left: every orphan came to the shim and was reaped
//!   │ ──── Release, or end of file ────▶ │ kills what is left, removes the cgroup, exits
//! ```
//!
//! End of file on the socket means the server is gone, for whatever reason: nothing of the command survives it by
//! more than a moment. On the floor (`Containment::Group`) the shim does not stay: it becomes the command itself.
//!
//! It has one thread, makes no runtime and knows nothing of executions.

mod init;
mod leader;
pub(in crate::os) mod protocol;

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

pub(in crate::os) use leader::whole_seconds;

/// The name by which our binary knows that it is to be a shim.
pub(in crate::os) const NAME: &str = "cc-executor-init";
/// The name by which it knows that it is to be the command that tries out containment: it waits to be killed.
pub(in crate::os) const PROBE: &str = "cc-executor-probe";

/// Whether this process was started to be a shim. To be asked before anything else in `main`.
#[must_use]
pub fn is_shim() -> bool {
    matches!(name().as_deref(), Some(name) if name == NAME || name == PROBE)
}

/// Lives the shim's life; does not return.
pub fn main() -> ! {
    if name().is_some_and(|name| name == PROBE) {
        loop {
            nix::unistd::pause();
        }
    }
    std::process::exit(init::run())
}

fn name() -> Option<String> {
    let name = std::env::args_os().next()?;
    Some(OsStr::from_bytes(name.as_bytes()).to_str()?.to_owned())
}
