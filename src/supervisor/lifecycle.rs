//! The life of one execution, from the queue to its record.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tracing::{error, info, warn};

use super::Parts;
use super::slots::Entry;
use crate::execution::driver::Driver;
use crate::history::Record;

/// How long a record that cannot be written holds back the last event; then it is written when the store is back.
const RECORD_PATIENCE: Duration = Duration::from_secs(5);

const RECORD_RETRY: Duration = Duration::from_millis(200);

/// Lives one execution, whatever happens: should that end in a panic, its processes are ended and it is recorded as lost.
pub(super) async fn run(parts: Arc<Parts>, driver: Driver, entry: Entry, begun: Record) {
    let id = begun.snapshot.id.clone();
    if AssertUnwindSafe(live(&parts, driver, entry, begun.clone())).catch_unwind().await.is_err() {
        error!(%id, "the driver panicked; the execution is recorded as lost");
        super::recovery::settle_lost(&parts, vec![begun]).await;
    }
    let live = parts.live().remove(&id);
    live.inspect(|live| live.gone.cancel());
}

async fn live(parts: &Arc<Parts>, mut driver: Driver, entry: Entry, begun: Record) {
    let position = entry.ticket().position();
    let outcome = match driver.wait_for(entry.admitted(), position).await {
        Ok(_slot) => driver.run(&parts.world).await,
        Err(outcome) => outcome,
    };

    let snapshot = driver.conclude(outcome).await;
    let record = Record { expires: Some(expiry(&snapshot)), snapshot, ..begun };
    remember(parts, &record).await;
    driver.complete(&record.snapshot).await;
    super::retention::count_output(parts, &record.snapshot.id).await;

    let outcome = record.snapshot.outcome.as_ref().expect("a concluded run has an outcome");
    let running = outcome.durations.running;
    info!(id = %record.snapshot.id, cause = outcome.cause.name(), ending = ?outcome.ending, ?running, "execution finished");
}

pub(super) fn expiry(snapshot: &crate::execution::Snapshot) -> Timestamp {
    let now = snapshot.completed.unwrap_or_else(Timestamp::now);
    let kept =
        SignedDuration::try_from(snapshot.command.options.retention.unwrap_or_default()).unwrap_or(SignedDuration::MAX);
    now.saturating_add(kept).unwrap_or(Timestamp::MAX)
}

/// Writes the record. A store that does not take it is tried again, at first before anybody is told of the end, then
/// in the background for as long as the server lives; a crash before that leaves it to recovery.
async fn remember(parts: &Arc<Parts>, record: &Record) {
    let Err(failure) = parts.history.finish(record).await else { return };
    warn!(id = %record.snapshot.id, error = %failure, "the record could not be written; trying again");
    parts.history_failures.fetch_add(1, Ordering::Relaxed);
    let persist = persist(Arc::clone(parts), record.clone());
    let mut persisting = parts.tasks.spawn(persist);
    if tokio::time::timeout(RECORD_PATIENCE, &mut persisting).await.is_err() {
        error!(id = %record.snapshot.id, "the history store is away; the record waits in memory");
    }
}

async fn persist(parts: Arc<Parts>, record: Record) {
    while parts.history.finish(&record).await.is_err() {
        if parts.closed.is_cancelled() {
            error!(id = %record.snapshot.id, "the server stops with a record unwritten; the next start recovers it");
            return;
        }
        tokio::time::sleep(RECORD_RETRY).await;
    }
    parts.history_failures.fetch_sub(1, Ordering::Relaxed);
}
