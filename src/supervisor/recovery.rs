//! What a lost server left behind: its processes are ended, its runs recorded as lost, their output kept.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::{FindError, Parts};
use crate::execution::Snapshot;
use crate::execution::event::{Cursor, EventKind, Note};
use crate::execution::log::{From, Item, Log, LogError, ReadOptions};
use crate::execution::outcome::{Cause, Durations, Ending, NotStarted, Outcome, Step, Usage};
use crate::execution::state::State;
use crate::history::Record;

/// What the log of a lost run still tells.
#[derive(Default)]
struct Found {
    ending: Option<Ending>,
    outcome: Option<Outcome>,
    started: Option<Timestamp>,
    pid: Option<u32>,
    exited: Option<Timestamp>,
}

/// Ends and records the unfinished runs of instances that are no more.
pub(super) async fn settle(parts: &Arc<Parts>, is_alive: impl Fn(&str) -> bool + Send) -> Result<(), FindError> {
    let unfinished = parts.history.unfinished().await?;
    for id in unfinished.corrupt {
        warn!(%id, "the record of an unfinished run is damaged and removed");
        parts.history.delete(&id, crate::history::Deletion::ByRetention).await?;
    }
    let lost: Vec<Record> = unfinished.sound.into_iter().filter(|record| !is_alive(&record.instance)).collect();
    if !lost.is_empty() {
        settle_lost(parts, lost).await;
    }
    Ok(())
}

/// Ends what is left of these runs and records them as lost.
pub(super) async fn settle_lost(parts: &Arc<Parts>, lost: Vec<Record>) {
    let ids: Vec<String> = lost.iter().map(|record| record.snapshot.id.to_string()).collect();
    let ended: u32 = parts.world.host.sweep(&ids).await.into_iter().map(|(_, processes)| processes).sum();
    info!(runs = lost.len(), processes = ended, "lost runs are ended and recorded");
    for record in lost {
        let id = record.snapshot.id.clone();
        if let Err(error) = settle_one(parts, record).await {
            warn!(%id, %error, "a lost run could not be recorded; the next start tries again");
        }
    }
}

async fn settle_one(parts: &Arc<Parts>, begun: Record) -> Result<(), FindError> {
    let (spool, id) = (parts.spool.clone(), begun.snapshot.id.clone());
    let recovered = super::blocking(move || match spool.recover(&id) {
        // Sealed, and only the record is missing.
        Err(LogError::Sealed) => spool.load(&id).map(|log| (None, log)),
        recovered => recovered.map(|(writer, log)| (Some(writer), log)),
    });
    let (writer, log) = recovered.await?;
    let found = read(&log).await;
    let was_complete = found.outcome.is_some();
    let mut outcome = found.outcome.clone().unwrap_or_else(|| lost(found.ending.clone()));
    outcome.channels = log.summaries();
    let completed = Timestamp::now();
    outcome.durations.total = elapsed(begun.snapshot.created, completed);
    let last = log.last().seq + u64::from(!was_complete);
    let snapshot = Snapshot {
        state: State::Completed,
        started: found.started,
        exited: found.exited,
        completed: Some(completed),
        pid: found.pid,
        last_cursor: Cursor::at(last),
        channels: outcome.channels.clone(),
        outcome: Some(outcome.clone()),
        ..begun.snapshot.clone()
    };
    let record = Record { expires: Some(super::lifecycle::expiry(&snapshot)), snapshot, ..begun };
    parts.history.finish(&record).await?;
    if let Some(mut writer) = writer {
        if !was_complete {
            writer.note(Note::Completed(Box::new(outcome)));
        }
        writer.seal().await;
    }
    Ok(())
}

/// The record of a run whose log could not be made: it never started.
pub(super) fn refused(begun: Record, error: &LogError) -> Record {
    let message = format!("the spool could not be opened: {error}");
    let failure = NotStarted { step: Step::Spool, errno: 0, path: None, message: message.clone() };
    let outcome = Outcome {
        ending: Ending::NotStarted(failure),
        cause: Cause::SpawnFailed,
        reason: message,
        output_incomplete: false,
        ..lost(None)
    };
    let completed = Some(Timestamp::now());
    let snapshot = Snapshot { state: State::Completed, completed, outcome: Some(outcome), ..begun.snapshot };
    Record { expires: Some(super::lifecycle::expiry(&snapshot)), snapshot, ..begun }
}

/// The outcome of a run whose server was lost: never a success, whatever its process did.
fn lost(ending: Option<Ending>) -> Outcome {
    Outcome {
        ending: ending
            .unwrap_or_else(|| Ending::Unknown { why: "the server was lost while the run was alive".to_owned() }),
        cause: Cause::ServerLost,
        reason: "the server was killed or crashed while the run was alive".to_owned(),
        escalation: Vec::new(),
        usage: Usage::default(),
        durations: Durations::default(),
        channels: Vec::new(),
        output_incomplete: true,
        leaked: Vec::new(),
        survivors: Vec::new(),
    }
}

fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

async fn read(log: &Log) -> Found {
    let mut found = Found::default();
    let options = ReadOptions { channels: Some(Vec::new()), ..ReadOptions::default() };
    let Ok(mut reader) = log.read(From::Start, options) else { return found };
    while let Ok(Item::Event(event) | Item::Gap(event)) = reader.next().await {
        match event.kind {
            EventKind::Note(Note::Started { pid, .. }) => {
                found.started = Some(event.time);
                found.pid = Some(pid);
            }
            EventKind::Note(Note::Exited { ending, .. }) => {
                found.exited = Some(event.time);
                found.ending = Some(ending);
            }
            EventKind::Note(Note::Completed(outcome)) => found.outcome = Some(*outcome),
            EventKind::Note(_) | EventKind::Output { .. } => {}
        }
    }
    found
}
