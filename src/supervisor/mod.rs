//! The set of all executions; the one door for the api.
//!
//! A request is admitted ([`admission`]), its id claimed in the history, and then lived by one task ([`lifecycle`])
//! that waits for a slot, drives the process and remembers the outcome. What a lost server left behind is dealt with
//! in [`recovery`]; what is too old or too large is removed in [`retention`].

pub mod admission;
mod config;
mod lifecycle;
mod recovery;
mod retention;
mod slots;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nix::unistd::Uid;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use admission::{Fault, Rejection};
pub use config::Config;

use crate::execution::command::{Command, EffectiveTimeout};
use crate::execution::driver::{self, World};
use crate::execution::event::WarningKind;
use crate::execution::handle::{Execution, Follower, Identity};
use crate::execution::launch::Surroundings;
use crate::execution::log::{Log, LogConfig, LogError, Spool};
use crate::execution::outcome::{Cause, Outcome};
use crate::execution::state::State;
use crate::execution::{ExecutionId, Snapshot};
use crate::history::filter::Filter;
use crate::history::page::PageKey;
use crate::history::{self, Claim, Deletion, Entry, History, Query, Record};
use crate::os;
use admission::{Admitted, Circumstances, UserStanding};
use slots::{Slots, Ticket};

/// Claims of one id wait for each other; so many groups of ids do not.
const CLAIM_GROUPS: usize = 64;

/// Who the server is, for records.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The machine.
    pub node: String,
    /// Version and build.
    pub build: String,
    /// This process of the server.
    pub instance: String,
}

/// The set of all executions. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor(Arc<Parts>);

struct Parts {
    config: Config,
    signature: Signature,
    world: World,
    spool: Spool,
    history: Arc<dyn History>,
    slots: Slots,
    live: Mutex<HashMap<ExecutionId, Live>>,
    claims: Vec<tokio::sync::Mutex<()>>,
    hasher: RandomState,
    tasks: TaskTracker,
    draining: AtomicBool,
    /// The upkeep ends with this.
    closed: CancellationToken,
    history_failures: AtomicU64,
    spool_bytes: AtomicU64,
}

#[derive(Clone)]
struct Live {
    execution: Execution,
    ticket: Ticket,
    /// Its log is sealed and it is live no more.
    gone: CancellationToken,
}

/// A run, as it was found.
pub enum Run {
    /// It has not ended.
    Live(Execution),
    /// It has.
    Ended(Box<Record>),
}

/// A run that was asked for.
pub struct Started {
    /// The run.
    pub run: Run,
    /// It existed before.
    pub existed: bool,
}

/// Why a run was not started. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The request is not acceptable.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The id belongs to another command.
    #[error("the execution id {0} is taken by another command")]
    IdTaken(ExecutionId),
    /// Too many wait already.
    #[error("the queue is full: {0} runs are waiting")]
    QueueFull(usize),
    /// No new runs are taken.
    #[error("the server is stopping and takes no new runs")]
    ShuttingDown,
    /// The run exists, but it cannot be had here.
    #[error(transparent)]
    Find(#[from] FindError),
}

/// Why a run was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is none.
    #[error("there is no execution {0}")]
    NotFound(ExecutionId),
    /// Another process of the server owns it.
    #[error("execution {0} is owned by another process of the server")]
    OwnedElsewhere(ExecutionId),
    /// It has not ended.
    #[error("execution {0} has not ended")]
    NotEnded(ExecutionId),
    /// The history did not answer.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The log is not readable.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// How busy the server is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Runs with a slot.
    pub running: usize,
    /// Runs without.
    pub queued: usize,
    /// Clients that follow.
    pub watchers: u64,
    /// Bytes in the spool.
    pub spool_bytes: u64,
}

/// Listed runs, newest first.
pub struct Listing {
    /// One page.
    pub snapshots: Vec<Snapshot>,
    /// Where the next page begins.
    pub next: Option<PageKey>,
}

impl Supervisor {
    /// Takes over the state directory: ends and records what lost servers left behind, then starts the upkeep.
    ///
    /// `is_alive` tells whether another instance that shares the state directory still runs.
    pub async fn open(
        config: Config,
        signature: Signature,
        host: os::Host,
        spool: Spool,
        history: Arc<dyn History>,
        is_alive: impl Fn(&str) -> bool + Send,
    ) -> Result<Supervisor, FindError> {
        let surroundings =
            Surroundings { environment: std::env::vars_os().collect(), allowed: config.allowed_environment.clone() };
        let parts = Parts {
            slots: Slots::new(config.max_concurrent, config.max_queued),
            config,
            signature,
            world: World { host, surroundings: Arc::new(surroundings) },
            spool,
            history,
            live: Mutex::default(),
            claims: (0..CLAIM_GROUPS).map(|_| tokio::sync::Mutex::default()).collect(),
            hasher: RandomState::new(),
            tasks: TaskTracker::new(),
            draining: AtomicBool::new(false),
            closed: CancellationToken::new(),
            history_failures: AtomicU64::new(0),
            spool_bytes: AtomicU64::new(0),
        };
        let parts = Arc::new(parts);
        recovery::settle(&parts, is_alive).await?;
        parts.tasks.spawn(retention::keep(Arc::clone(&parts)));
        Ok(Supervisor(parts))
    }

    /// Checks a command without starting it: what it would be, or the run that has the id and the command already.
    pub async fn validate(
        &self,
        id: Option<ExecutionId>,
        command: Command,
        spec_sha256: [u8; 32],
    ) -> Result<(Snapshot, bool), StartError> {
        if let Some(id) = &id
            && let Some(known) = self.known(id, spec_sha256).await?
        {
            return Ok((self.snapshot(&known.run), true));
        }
        let Admitted { command, .. } = self.admit(command).await?;
        let now = Timestamp::now();
        Ok((accepted(id.unwrap_or_else(ExecutionId::generate), command.redacted(), now), false))
    }

    /// Starts a run, or finds the one that has the id and the command already.
    ///
    /// Cancel-safe: there is no half-started run, it is there or it is not.
    pub async fn start(
        &self,
        id: Option<ExecutionId>,
        command: Command,
        spec_sha256: [u8; 32],
    ) -> Result<Started, StartError> {
        let supervisor = self.clone();
        self.to_the_end(async move { supervisor.claim(id, command, spec_sha256).await }).await
    }

    /// As [`Supervisor::start`], for a caller who follows a run that lives from its first moment on: one who goes away
    /// before this returns has followed it.
    pub async fn start_followed(
        &self,
        id: Option<ExecutionId>,
        command: Command,
        spec_sha256: [u8; 32],
    ) -> Result<(Started, Option<Follower>), StartError> {
        let supervisor = self.clone();
        let start = async move {
            let started = supervisor.claim(id, command, spec_sha256).await?;
            let follower = match &started.run {
                Run::Live(execution) => Some(execution.follow()),
                Run::Ended(_) => None,
            };
            Ok((started, follower))
        };
        self.to_the_end(start).await
    }

    /// Does it whether or not anybody goes on waiting for it.
    async fn to_the_end<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.0.tasks.spawn(work).await {
            Ok(done) => done,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    async fn claim(
        &self,
        id: Option<ExecutionId>,
        command: Command,
        spec_sha256: [u8; 32],
    ) -> Result<Started, StartError> {
        let Some(id) = id else { return self.launch(ExecutionId::generate(), command, spec_sha256).await };
        let group = usize::try_from(self.0.hasher.hash_one(&id) % CLAIM_GROUPS as u64).unwrap_or_default();
        let _others_wait = self.0.claims[group].lock().await;
        match self.known(&id, spec_sha256).await? {
            Some(known) => Ok(known),
            None => self.launch(id, command, spec_sha256).await,
        }
    }

    /// The run that has the id, if there is one.
    async fn known(&self, id: &ExecutionId, spec_sha256: [u8; 32]) -> Result<Option<Started>, StartError> {
        if let Some(live) = self.live(id) {
            let same = live.execution.identity().spec_sha256 == spec_sha256;
            return if same {
                Ok(Some(existing(Run::Live(live.execution))))
            } else {
                Err(StartError::IdTaken(id.clone()))
            };
        }
        let entry = self.0.history.get(id).await.map_err(FindError::from)?;
        entry.map(|entry| self.existing_entry(entry, id.clone(), spec_sha256)).transpose()
    }

    fn existing_entry(&self, entry: Entry, id: ExecutionId, spec_sha256: [u8; 32]) -> Result<Started, StartError> {
        match entry {
            Entry::Record(record) if record.spec_sha256 != spec_sha256 => Err(StartError::IdTaken(id)),
            Entry::Record(record) => Ok(existing(self.run_of(record)?)),
            Entry::Deleted { .. } => Err(StartError::IdTaken(id)),
        }
    }

    async fn launch(&self, id: ExecutionId, command: Command, spec_sha256: [u8; 32]) -> Result<Started, StartError> {
        if self.is_draining() {
            return Err(StartError::ShuttingDown);
        }
        let Admitted { command, timeouts } = self.admit(command).await?;
        let entry = self
            .0
            .slots
            .enter(command.options.priority)
            .map_err(|_| StartError::QueueFull(self.0.config.max_queued))?;
        let shown = command.redacted();
        let created = Timestamp::now();
        let record = self.0.record(accepted(id.clone(), shown.clone(), created), spec_sha256, timeouts.clone());
        // A spool that cannot even be looked at is to be found out before the run is on record.
        let is_littered = self.0.spool.exists(&id).map_err(|error| FindError::from(LogError::from(error)))?;
        match self.0.history.begin(&record).await.map_err(FindError::from)? {
            Claim::New => {}
            Claim::Exists(found) => return self.existing_entry(found, id, spec_sha256),
        }
        if is_littered {
            // The id is ours now, so what lies there has lost its record: it must not pass for this run's.
            let removed = retention::remove_output(&self.0, &id).await;
            tracing::warn!(%id, ?removed, "output without a record was removed");
        }
        let limits = LogConfig {
            memory_bytes: self.0.config.memory_bytes,
            output_bytes: command.options.limits.output_bytes.unwrap_or(self.0.config.max_output_bytes),
            policy: command.options.on_output_limit,
        };
        let (writer, log) = match self.0.spool.create(&id, limits) {
            Ok(created) => created,
            Err(error) => {
                self.0.history.finish(&recovery::refused(record, &error)).await.map_err(FindError::from)?;
                return Err(FindError::from(error).into());
            }
        };
        let identity = Identity { id: id.clone(), spec_sha256, command: shown, timeouts, created };
        let (execution, driver) = driver::pair(identity, command, writer, log, self.0.config.stdin_window_bytes);
        let live = Live { execution: execution.clone(), ticket: entry.ticket(), gone: CancellationToken::new() };
        self.0.live().insert(id, live);
        self.0.tasks.spawn(lifecycle::run(Arc::clone(&self.0), driver, entry, record));
        if self.0.closed.is_cancelled() {
            // It slipped in while the server was closing, after the others were told.
            execution.end(Cause::ServerShutdown, "the server is stopping", None).await;
        }
        Ok(Started { run: Run::Live(execution), existed: false })
    }

    async fn admit(&self, command: Command) -> Result<Admitted, StartError> {
        let circumstances = Circumstances {
            enforceable: self.0.world.host.enforceable(),
            directory_exists: is_directory(admission::working_directory(&command.options, &self.0.config)).await,
            user: standing(command.options.user.as_deref()).await,
        };
        Ok(admission::admit(command, &self.0.config, circumstances)?)
    }

    fn live(&self, id: &ExecutionId) -> Option<Live> {
        self.0.live().get(id).cloned()
    }

    /// A run that has not ended and belongs to another process cannot be had here.
    fn run_of(&self, record: Box<Record>) -> Result<Run, FindError> {
        let id = record.snapshot.id.clone();
        match (&record.snapshot.outcome, self.live(&id)) {
            (Some(_), _) => Ok(Run::Ended(record)),
            (None, Some(live)) => Ok(Run::Live(live.execution)),
            (None, None) => Err(FindError::OwnedElsewhere(id)),
        }
    }

    /// The run of this id, live or ended.
    pub async fn find(&self, id: &ExecutionId) -> Result<Run, FindError> {
        if let Some(live) = self.live(id) {
            return Ok(Run::Live(live.execution));
        }
        match self.0.history.get(id).await? {
            Some(Entry::Record(record)) => self.run_of(record),
            Some(Entry::Deleted { .. }) | None => Err(FindError::NotFound(id.clone())),
        }
    }

    /// The run as it is now.
    #[must_use]
    pub fn snapshot(&self, run: &Run) -> Snapshot {
        match run {
            Run::Live(execution) => Snapshot {
                queue_position: self.live(execution.id()).and_then(|live| live.ticket.position()),
                ..execution.snapshot()
            },
            Run::Ended(record) => record.snapshot.clone(),
        }
    }

    /// The event log of a run.
    pub async fn log(&self, run: &Run) -> Result<Log, FindError> {
        match run {
            Run::Live(execution) => Ok(execution.log().clone()),
            Run::Ended(record) => {
                let (spool, id) = (self.0.spool.clone(), record.snapshot.id.clone());
                Ok(blocking(move || spool.load(&id)).await?)
            }
        }
    }

    /// The record of a run that has ended.
    pub async fn record(&self, id: &ExecutionId) -> Result<Record, FindError> {
        // The history knows first: a run is recorded before anybody is told that it has ended.
        match self.0.history.get(id).await? {
            Some(Entry::Record(record)) if record.snapshot.outcome.is_some() => Ok(*record),
            Some(Entry::Record(_)) => Err(FindError::NotEnded(id.clone())),
            Some(Entry::Deleted { .. }) | None => Err(FindError::NotFound(id.clone())),
        }
    }

    /// The history, for reading.
    #[must_use]
    pub fn history(&self) -> &dyn History {
        &*self.0.history
    }

    /// Removes a record and its output. Returns the bytes freed.
    pub async fn delete(&self, id: &ExecutionId) -> Result<u64, FindError> {
        let record = self.record(id).await?;
        if let Some(live) = self.live(id) {
            live.gone.cancelled().await; // its log is being sealed
        }
        // The output first: should that fail, the record is still there to try again by.
        let freed = retention::remove_output(&self.0, id).await.map_err(LogError::from)?;
        self.0.history.delete(id, Deletion::ByCaller { time: Timestamp::now() }).await?;
        tracing::info!(%id, command = record.snapshot.command.line.name(), freed, "record deleted by a caller");
        Ok(freed)
    }

    /// One page of live and ended runs that match, newest first.
    pub async fn list(&self, filter: &Filter, page_size: usize, after: Option<PageKey>) -> Result<Listing, FindError> {
        let live: Vec<Live> = self.0.live().values().cloned().collect();
        let is_next = |snapshot: &Snapshot| {
            after.as_ref().is_none_or(|after| {
                let key = PageKey::of(snapshot);
                (key.created, &key.id) < (after.created, &after.id)
            })
        };
        let mut snapshots: Vec<Snapshot> = live
            .into_iter()
            .map(|live| self.snapshot(&Run::Live(live.execution)))
            .filter(|snapshot| {
                snapshot.state != State::Completed && filter.matches_snapshot(snapshot) && is_next(snapshot)
            })
            .collect();
        let query = Query { filter: filter.clone(), page_size, after: after.clone(), include_unfinished: false };
        let ended = self.0.history.list(&query).await?;
        let more_ended = ended.next.is_some();
        snapshots.extend(ended.records.sound.into_iter().map(|record| record.snapshot));
        // A run that ended meanwhile is there twice: as it was, and behind that, since the sort is stable, as it ended.
        snapshots.sort_by(|one, other| (other.created, &other.id).cmp(&(one.created, &one.id)));
        snapshots.dedup_by(|later, former| {
            let is_same = later.id == former.id;
            if is_same {
                std::mem::swap(later, former);
            }
            is_same
        });
        let more = more_ended || snapshots.len() > page_size;
        snapshots.truncate(page_size);
        let next = snapshots.last().filter(|_| more).map(PageKey::of);
        Ok(Listing { snapshots, next })
    }

    /// How busy it is.
    #[must_use]
    pub fn load(&self) -> Load {
        let (running, queued) = self.0.slots.load();
        let watchers = self.0.live().values().map(|live| u64::from(live.execution.watchers())).sum();
        Load { running, queued, watchers, spool_bytes: self.0.spool_bytes.load(Ordering::Relaxed) }
    }

    /// Bounds and defaults.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The platform.
    #[must_use]
    pub fn host(&self) -> &os::Host {
        &self.0.world.host
    }

    /// Who the server is.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.0.signature
    }

    /// What does not work as it should, a sentence each.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let waiting = self.0.history_failures.load(Ordering::Relaxed);
        let history = (waiting > 0)
            .then(|| format!("{waiting} records wait to be written: the history store does not take them"));
        let failures: Vec<String> =
            self.executions().iter().filter_map(|execution| execution.log().failure()).collect();
        let spool =
            failures.first().map(|why| format!("the output of {} runs cannot be stored: {why}", failures.len()));
        history.into_iter().chain(spool).collect()
    }

    /// Whether new runs are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Takes no new runs, tells the watchers, and waits until all runs are over or `patience` is.
    pub async fn drain(&self, patience: Duration) {
        self.0.draining.store(true, Ordering::Relaxed);
        let live = self.executions();
        let message =
            format!("the server is stopping; what still runs in {} is cancelled", humantime::format_duration(patience));
        for execution in &live {
            execution.announce(WarningKind::ServerStopping, &message, Some(patience)).await;
        }
        let all_over = async {
            for execution in &live {
                execution.completed().await;
            }
        };
        let _in_time = tokio::time::timeout(patience, all_over).await;
    }

    /// Cancels what still runs, waits until it is over and recorded, and stops the upkeep. `grace` replaces each run's own.
    pub async fn close(&self, grace: Option<Duration>) {
        self.0.draining.store(true, Ordering::Relaxed);
        self.0.closed.cancel();
        for execution in self.executions() {
            execution.end(Cause::ServerShutdown, "the server is stopping", grace).await;
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn executions(&self) -> Vec<Execution> {
        self.0.live().values().map(|live| live.execution.clone()).collect()
    }
}

impl Parts {
    fn live(&self) -> MutexGuard<'_, HashMap<ExecutionId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, snapshot: Snapshot, spec_sha256: [u8; 32], timeouts: Vec<EffectiveTimeout>) -> Record {
        Record {
            snapshot,
            spec_sha256,
            timeouts,
            node: self.signature.node.clone(),
            build: self.signature.build.clone(),
            instance: self.signature.instance.clone(),
            expires: None,
        }
    }
}

fn existing(run: Run) -> Started {
    Started { run, existed: true }
}

/// A run that was just accepted.
fn accepted(id: ExecutionId, command: Command, created: Timestamp) -> Snapshot {
    Snapshot {
        id,
        command,
        state: State::Queued,
        queue_position: None,
        created,
        started: None,
        exited: None,
        completed: None,
        pid: None,
        containment: None,
        last_cursor: crate::execution::event::Cursor::at(0),
        channels: Vec::new(),
        stdin_offset: None,
        watchers: 0,
        outcome: None::<Outcome>,
    }
}

/// Does what waits for the disk where waiting hurts nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

async fn is_directory(path: &Path) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.is_dir())
}

async fn standing(user: Option<&str>) -> UserStanding {
    let Some(user) = user.map(str::to_owned) else { return UserStanding::Own };
    // Looking up a user may ask the network.
    match blocking(move || os::User::lookup(&user)).await {
        Ok(Some(user)) if user.uid == Uid::effective().as_raw() => UserStanding::Own,
        Ok(Some(_)) if Uid::effective().is_root() => UserStanding::Other,
        Ok(Some(_)) => UserStanding::OtherWithoutRoot,
        _ => UserStanding::Unknown,
    }
}
