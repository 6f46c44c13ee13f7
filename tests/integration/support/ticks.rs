//! Work that can be seen from outside: a loop that appends to a file. What stands still can only be told beside
//! something that goes on.

use std::path::PathBuf;

use super::{Life, Server, eventually, shell};

/// A file that grows by one byte at a time.
pub(crate) struct Ticks(PathBuf);

impl Ticks {
    pub(crate) fn new(server: &Server, name: &str) -> Ticks {
        Ticks(server.path(name))
    }

    /// A shell loop that makes it grow until it is ended.
    pub(crate) fn forever(&self) -> String {
        format!("while :; do printf . >> {}; sleep 0.005; done", self.0.display())
    }

    pub(crate) fn count(&self) -> u64 {
        std::fs::metadata(&self.0).map_or(0, |file| file.len())
    }

    /// Waits for so many more.
    pub(crate) async fn grows_by(&self, more: u64) {
        let goal = self.count() + more;
        eventually(&format!("{} grows", self.0.display()), async || (self.count() >= goal).then_some(())).await;
    }
}

/// A run that does nothing but tick: the others' clock.
pub(crate) struct Witness {
    ticks: Ticks,
    life: Life,
}

impl Witness {
    pub(crate) async fn of(server: &Server) -> Witness {
        let ticks = Ticks::new(server, "witness");
        let life = Life::begin(server, shell(ticks.forever())).await;
        ticks.grows_by(1).await;
        Witness { ticks, life }
    }

    /// Whether none of these grew while this one did, by enough that each would have had many turns.
    pub(crate) async fn sees_still(&self, others: &[&Ticks]) -> bool {
        let before: Vec<u64> = others.iter().map(|ticks| ticks.count()).collect();
        self.ticks.grows_by(30).await;
        before == others.iter().map(|ticks| ticks.count()).collect::<Vec<_>>()
    }

    pub(crate) async fn end(self) {
        self.life.bring(super::life::KILL).await;
    }
}
