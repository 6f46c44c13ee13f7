//! What is too old or too large is removed: records with their output, oldest first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::Parts;
use crate::execution::ExecutionId;
use crate::history::{self, Deletion};

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(60);

/// Records looked at in one go.
const BATCH: usize = 500;

/// Keeps the state directory within its bounds until the server closes.
pub(super) async fn keep(parts: Arc<Parts>) {
    measure(&parts).await;
    loop {
        if let Err(error) = round(&parts).await {
            warn!(%error, "retention could not do its work; it tries again in a minute");
        }
        tokio::select! {
            () = parts.closed.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

async fn round(parts: &Parts) -> Result<(), history::Error> {
    let (mut removed, mut freed) = (0_usize, 0_u64);
    loop {
        let expired = parts.history.expired(Timestamp::now(), BATCH).await?;
        for id in &expired {
            freed += remove(parts, id).await?;
        }
        removed += expired.len();
        if expired.len() < BATCH {
            break;
        }
    }
    if parts.spool_bytes.load(Ordering::Relaxed) > parts.config.retention_bytes {
        measure(parts).await; // others may share the state directory: nothing is removed on hearsay
    }
    while parts.spool_bytes.load(Ordering::Relaxed) > parts.config.retention_bytes {
        let oldest = parts.history.oldest(BATCH).await?;
        if oldest.is_empty() {
            break;
        }
        for id in oldest {
            if parts.spool_bytes.load(Ordering::Relaxed) <= parts.config.retention_bytes {
                break;
            }
            freed += remove(parts, &id).await?;
            removed += 1;
        }
    }
    if removed > 0 {
        info!(records = removed, bytes = freed, "retention removed what was too old or too large");
    }
    Ok(())
}

/// The output first: what a crash leaves behind then still has a record by which it is removed the next time. Output that
/// cannot be removed keeps its record, and the round ends.
async fn remove(parts: &Parts, id: &ExecutionId) -> Result<u64, history::Error> {
    let freed = remove_output(parts, id).await.map_err(|error| history::Error::Unavailable(Box::new(error)))?;
    parts.history.delete(id, Deletion::ByRetention).await?;
    Ok(freed)
}

/// Removes the output of a run. Returns the bytes freed.
pub(super) async fn remove_output(parts: &Parts, id: &ExecutionId) -> io::Result<u64> {
    let (spool, id) = (parts.spool.clone(), id.clone());
    let freed = super::blocking(move || spool.remove(&id)).await?;
    let subtract = |bytes: u64| Some(bytes.saturating_sub(freed));
    let _updated = parts.spool_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
    Ok(freed)
}

/// Looks at what the spool really takes.
async fn measure(parts: &Parts) {
    let spool = parts.spool.clone();
    if let Ok(bytes) = super::blocking(move || spool.total_size()).await {
        parts.spool_bytes.store(bytes, Ordering::Relaxed);
    }
}

/// Adds the output of a run that ended to the total.
pub(super) async fn count_output(parts: &Parts, id: &ExecutionId) {
    let (spool, id) = (parts.spool.clone(), id.clone());
    if let Ok(Ok(bytes)) = tokio::task::spawn_blocking(move || spool.size(&id)).await {
        parts.spool_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
