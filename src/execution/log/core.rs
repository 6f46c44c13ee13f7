//! What the handles of one log share: its state under a lock, its files, and the job that writes behind. At most one job runs
//! for a log, and none while nothing waits for the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::disk::Disk;
use super::files::Files;
use super::scribe::Scribe;
use super::state::{Ending, State};

/// How long events may gather before they are written, so that small ones are written together.
const LINGER: Duration = Duration::from_millis(5);
/// How long to wait before a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// One log.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) files: Files,
    pub(super) disk: Arc<Disk>,
    state: Mutex<State>,
    /// Locked by the job alone.
    scribe: Mutex<Scribe>,
    /// Readers wait here for events.
    pub(super) grown: Notify,
    /// The writer waits here for the disk and the digest.
    pub(super) progress: Notify,
    /// The job waits here for events that should not wait.
    urgent: Notify,
}

impl Core {
    pub(super) fn new(disk: Arc<Disk>, files: Files, state: State, scribe: Scribe) -> Arc<Core> {
        Arc::new(Core {
            files,
            disk,
            state: Mutex::new(state),
            scribe: Mutex::new(scribe),
            grown: Notify::new(),
            progress: Notify::new(),
            urgent: Notify::new(),
        })
    }

    /// The state, for a line.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells readers of new events, and has them written soon; called after every change of the state by the writer.
    /// Needs a tokio runtime.
    pub(super) fn has_grown(self: &Arc<Self>) {
        let (starts, is_urgent) = {
            let mut state = self.state();
            (state.start_job(), state.is_urgent())
        };
        self.grown.notify_waiters();
        if starts {
            tokio::spawn(write_behind(Arc::clone(self)));
        }
        if is_urgent {
            self.hurry();
        }
    }

    /// Has everything written now.
    pub(super) fn hurry(&self) {
        self.urgent.notify_one();
    }

    /// Waits until `is_done` holds, which only the job can bring about. Cancel-safe.
    pub(super) async fn until(&self, is_done: impl Fn(&State) -> bool) {
        self.wait(&self.progress, is_done).await;
    }

    /// Waits until there is event `next`, or never will be. Cancel-safe.
    pub(super) async fn has_event(&self, next: u64) {
        self.wait(&self.grown, |state| state.tail.end().seq > next || state.ending().is_some()).await;
    }

    async fn wait(&self, notify: &Notify, is_done: impl Fn(&State) -> bool) {
        while !is_done(&self.state()) {
            let notified = notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if is_done(&self.state()) {
                return;
            }
            notified.await;
        }
    }

    /// Writes everything that waits; blocks. After a failure the rest waits.
    fn write_all(&self) {
        let mut scribe = self.scribe.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.digest();
            let (work, adopted) = {
                let mut state = self.state();
                (state.work(), state.adopted())
            };
            let Some(work) = work else { break };
            match scribe.write(&self.files, &work, adopted) {
                Ok(places) => self.state().spooled_to(&places, &work),
                Err(error) => {
                    if !self.state().spool_failed(error.to_string()) {
                        break;
                    }
                }
            }
            self.progress.notify_waiters();
        }
        self.finish(&mut scribe);
        if !self.state().is_pending() {
            scribe.close();
        }
        self.progress.notify_waiters();
    }

    /// Adds what is new to the digests.
    fn digest(&self) {
        let taken = self.state().take_undigested();
        if let Some(undigested) = taken {
            let digests = undigested.digest();
            self.state().digests = digests;
            self.progress.notify_waiters();
        }
    }

    /// Ends a log that has been asked to end and of which everything was tried.
    fn finish(&self, scribe: &mut Scribe) {
        let seal = {
            let state = self.state();
            if !state.is_closable() {
                return;
            }
            matches!(state.ending(), Some(Ending::Sealed(_))).then(|| (state.tail.end(), state.summaries(true)))
        };
        let sealed = seal.map_or(Ok(()), |(end, summaries)| scribe.seal(&self.files, end, summaries));
        let mut state = self.state();
        if let Err(error) = sealed {
            state.spool_failed(error.to_string());
            if !state.is_given_up() {
                return;
            }
            tracing::warn!(%error, "could not seal an event log");
        }
        state.finish();
    }
}

/// Writes what waits, and ends when nothing does.
async fn write_behind(core: Arc<Core>) {
    loop {
        let delay = {
            let state = core.state();
            if state.failure().is_some() { RETRY } else { LINGER }
        };
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = core.urgent.notified() => {}
        }
        let job = Arc::clone(&core);
        if core.disk.write(move || job.write_all()).await.is_none() {
            core.state().spool_failed("the writing job did not come to its end".to_owned());
        }
        if core.state().end_job() {
            return;
        }
    }
}
