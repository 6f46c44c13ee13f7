//! What every test needs: a real server, a client, a look at the process table that does not trust the server.

pub(crate) mod calls;
pub(crate) mod life;
pub(crate) mod oracle;
pub(crate) mod protocol;
pub(crate) mod raw;
pub(crate) mod refusal;
pub(crate) mod run;
pub(crate) mod rung;
pub(crate) mod server;
pub(crate) mod small_disk;
pub(crate) mod ticks;

pub(crate) use life::Life;
pub(crate) use oracle::Cookie;
pub(crate) use refusal::{Refusal, refusal};
pub(crate) use run::{Events, shell};
pub(crate) use rung::on_every_rung;
pub(crate) use server::Server;

use std::time::Duration;

/// How long anything may take before a test gives up: generous, for a busy machine. Nothing waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `check` gives something.
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < give_up, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
