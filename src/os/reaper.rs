//! Reaps what no shim can: orphans that came up to this process because their shim is gone or there never was one.
//!
//! Every child we started is owned by the task that waits for it and is left alone here. So are children that some
//! other part of this program started: those are in our own session, and no process of a command ever is.

use std::{
    collections::BTreeSet,
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    process::{self, Process},
    syscall::{self, Waited},
};

/// Passes are not made more often than this, however many children end.
const SPACING: Duration = Duration::from_millis(50);

/// The children that somebody waits for. Children belong to the process, so there is one list for all hosts in it.
static OWNED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Knows which children have an owner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reaper;

impl Reaper {
    /// Starts a child with `start` and records that somebody waits for it, with no moment in between.
    pub(super) fn own(&self, start: impl FnOnce() -> io::Result<i32>) -> io::Result<i32> {
        let mut owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = start()?;
        owned.insert(pid);
        Ok(pid)
    }

    /// The child was reaped; its number may come back as somebody else's.
    pub(super) fn disown(&self, pid: i32) {
        OWNED.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }

    /// Waits for `pid`, one of ours that is about to end, and reaps it; kills it if it does not end in time.
    pub(super) async fn finish(&self, pid: i32) {
        let mut wait = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        while syscall::reap(pid) == Waited::Running {
            if waited > Duration::from_secs(1) {
                let _ = syscall::signal_process(pid, libc::SIGKILL);
            }
            tokio::time::sleep(wait).await;
            waited += wait;
            wait = (wait * 2).min(Duration::from_millis(50));
        }
        self.disown(pid);
    }

    /// Reaps orphans whenever a child ends. Never returns; to be run as a task of its own.
    pub(super) async fn run(self) {
        let Ok(mut ended) = signal(SignalKind::child()) else { return };
        while ended.recv().await.is_some() {
            // Reading /proc is quick, but not for a worker of the runtime.
            let _ = tokio::task::spawn_blocking(move || self.reap_orphans()).await;
            tokio::time::sleep(SPACING).await;
        }
    }

    fn reap_orphans(self) {
        let Ok(own) = i32::try_from(std::process::id()) else { return };
        let Some(session) = Process::read(own).map(|process| process.session) else { return };
        // Held for the pass, so that no child is started and met here before it is known.
        let owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
        for pid in process::children(own).into_iter().filter(|pid| !owned.contains(pid)) {
            let is_orphan = Process::read(pid).is_some_and(|child| !child.is_alive() && child.session != session);
            if is_orphan {
                syscall::reap(pid);
            }
        }
    }
}
