//! What all logs of a spool share of the disk: how many of them use it at once, and how much is read ahead for readers that
//! are behind. It knows no log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// So many logs are written, and so many read, at once: more do not make a disk faster, and each takes a thread.
const AT_ONCE: usize = 8;
/// What readers hold together of what was read for them, bytes, as long as an event each is less.
const READ_AHEAD_BYTES: usize = 16 << 20;
/// What one reader holds at most, bytes.
pub(super) const BATCH_BYTES: usize = 256 << 10;

/// The turns at the disk.
#[derive(Debug)]
pub(super) struct Disk {
    writes: Semaphore,
    reads: Semaphore,
    holders: AtomicUsize,
}

/// The right of a reader to hold what was read for it.
#[derive(Debug)]
pub(super) struct Share {
    disk: Arc<Disk>,
    bytes: usize,
}

impl Disk {
    pub(super) fn new() -> Arc<Disk> {
        let turns = || Semaphore::new(AT_ONCE);
        Arc::new(Disk { writes: turns(), reads: turns(), holders: AtomicUsize::new(0) })
    }

    /// Does `job`, which writes and blocks, when it is its turn. `None` when it panicked, or the runtime ends.
    pub(super) async fn write(&self, job: impl FnOnce() + Send + 'static) -> Option<()> {
        in_turn(&self.writes, job).await
    }

    /// Does `job`, which reads and blocks, when it is its turn. `None` when it panicked, or the runtime ends.
    pub(super) async fn read<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        in_turn(&self.reads, job).await
    }

    /// A share of what may be read ahead: the smaller, the more readers hold one.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        let holders = self.holders.fetch_add(1, Ordering::Relaxed) + 1;
        Share { disk: Arc::clone(self), bytes: (READ_AHEAD_BYTES / holders).min(BATCH_BYTES) }
    }
}

impl Share {
    /// How much, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.disk.holders.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn in_turn<T: Send + 'static>(turns: &Semaphore, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let _turn = turns.acquire().await.ok()?;
    tokio::task::spawn_blocking(job).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_what_is_read_ahead() {
        let disk = Disk::new();
        let first = disk.share();
        let many: Vec<Share> = (0..999).map(|_| disk.share()).collect();
        assert_eq!((first.bytes(), many[998].bytes()), (BATCH_BYTES, READ_AHEAD_BYTES / 1000));
        drop(many);
        assert_eq!(disk.share().bytes(), BATCH_BYTES, "a share is given back");
    }
}
