//! The handle to a run: watch its state, follow its output, send controls. Cheap to clone; knows nothing of who asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::command::{Command, EffectiveTimeout};
use super::event::Actor;
use super::input::{Chunk, InputError, Progress};
use super::log::Log;
use super::outcome::{Cause, Outcome};
use super::state::{State, Verb};
use super::{Containment, ExecutionId, Snapshot};

/// How many answers to requests with an id are remembered for each run.
const REMEMBERED_ANSWERS: usize = 256;

/// A run, as everybody but its driver sees it.
#[derive(Clone, Debug)]
pub struct Execution(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: Identity,
    log: Log,
    status: watch::Receiver<Status>,
    orders: mpsc::Sender<Order>,
    watchers: watch::Sender<Following>,
    pulse: Arc<Pulse>,
    answers: Mutex<VecDeque<Remembered>>,
}

/// What never changes about a run.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id.
    pub id: ExecutionId,
    /// SHA-256 of the command as requested.
    pub spec_sha256: [u8; 32],
    /// The command, redacted, defaults filled in.
    pub command: Command,
    /// The clocks in force at the start.
    pub timeouts: Vec<EffectiveTimeout>,
    /// When it was accepted.
    pub created: Timestamp,
}

/// What the driver publishes about a run.
#[derive(Clone, Debug)]
pub struct Status {
    /// Where it is in its life.
    pub state: State,
    /// Spawned.
    pub started: Option<Timestamp>,
    /// Reaped.
    pub exited: Option<Timestamp>,
    /// Sealed.
    pub completed: Option<Timestamp>,
    /// Of the command's own process.
    pub pid: Option<u32>,
    /// How its tree is held together.
    pub containment: Option<Containment>,
    /// The next offset wanted, while input is open.
    pub stdin_offset: Option<u64>,
    /// How it ended.
    pub outcome: Option<Arc<Outcome>>,
    /// The clocks as of the last change of state.
    pub clocks: super::clock::Clocks,
}

/// The moment of the last output, written by the driver without waking anybody.
#[derive(Debug)]
pub(super) struct Pulse {
    origin: Instant,
    millis: AtomicU64,
}

impl Pulse {
    pub(super) fn new(origin: Instant) -> Pulse {
        Pulse { origin, millis: AtomicU64::new(0) }
    }

    pub(super) fn beat(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.origin).as_millis();
        self.millis.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn since(&self, now: Instant) -> Duration {
        let last = self.origin + Duration::from_millis(self.millis.load(Ordering::Relaxed));
        now.saturating_duration_since(last)
    }
}

/// Who follows a run. A visit too short to be seen leaves its trace in `ever`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Following {
    /// So many now.
    pub(super) now: u32,
    /// Somebody has.
    pub(super) ever: bool,
}

/// What a caller asks of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What to do.
    pub control: Control,
    /// Act only in one of these states; empty is any.
    pub expected: Vec<State>,
    /// Recorded with the effect.
    pub reason: String,
    /// Answer when it has taken effect instead of when it is under way.
    pub wait_for_effect: bool,
}

/// An action on a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// Stop every process and the run clocks.
    Pause,
    /// Go on.
    Resume,
    /// End politely, then by force.
    Cancel {
        /// `None` is the run's own.
        grace: Option<Duration>,
        /// `None` is the run's own.
        signal: Option<i32>,
    },
    /// End by force.
    Kill,
    /// Send a signal.
    Signal {
        /// The POSIX number.
        number: i32,
        /// To whom.
        scope: Scope,
    },
    /// Feed standard input; with `patient`, wait for room instead of refusing.
    WriteStdin {
        /// The bytes.
        chunk: Chunk,
        /// Wait for room.
        patient: bool,
    },
    /// Change the terminal's size.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// Give more time.
    Extend {
        /// Added to the run timeout.
        run_by: Duration,
        /// Added to the wall timeout.
        wall_by: Duration,
    },
}

/// Whom a signal goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The command's own process.
    Leader,
    /// Its process group.
    Group,
    /// Every process.
    Tree,
}

impl Control {
    /// What the state table knows it as.
    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            Control::Pause => Verb::Pause,
            Control::Resume => Verb::Resume,
            Control::Cancel { .. } => Verb::Cancel,
            Control::Kill => Verb::Kill,
            Control::Signal { .. } => Verb::Signal,
            Control::WriteStdin { .. } => Verb::WriteStdin,
            Control::Resize { .. } => Verb::Resize,
            Control::Extend { .. } => Verb::Extend,
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// In a word.
    pub result: Applied,
    /// How many processes it reached.
    pub processes: u32,
    /// How far input has come, for writes.
    pub progress: Option<Progress>,
}

/// What became of a request, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Done.
    Applied,
    /// Nothing to do.
    AlreadyInState,
    /// Under way.
    Pending,
    /// The run has ended.
    AlreadyTerminal,
}

impl From<Applied> for Answer {
    fn from(result: Applied) -> Answer {
        Answer { result, processes: 0, progress: None }
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The state forbids it.
    #[error("{why} (state {})", .state.name())]
    Denied {
        /// The state it is in.
        state: State,
        /// Why.
        why: &'static str,
    },
    /// It is not in an expected state.
    #[error("the run is {}, which is not an expected state", .state.name())]
    StateMismatch {
        /// The state it is in.
        state: State,
    },
    /// It has no terminal.
    #[error("the run has no terminal")]
    NotATerminal,
    /// It has no such clock.
    #[error("the run has no such timeout to extend")]
    NoSuchClock,
    /// The request id was used for something else.
    #[error("the request id was used for another request")]
    RequestIdReused,
    /// Input was refused.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The platform did not do it.
    #[error("{0}")]
    Failed(String),
}

/// What the driver is told.
#[derive(Debug)]
pub(super) enum Order {
    /// By a caller.
    Request { request: Request, reply: Reply },
    /// By the server: end the run.
    End { cause: Cause, reason: String, actor: Actor, grace: Option<Duration> },
    /// By the server: say something to the watchers.
    Announce { kind: super::event::WarningKind, message: String, remaining: Option<Duration> },
}

/// Where the driver's answer goes.
pub(super) type Reply = oneshot::Sender<Result<Answer, ControlError>>;

#[derive(Debug)]
struct Remembered {
    request_id: String,
    asked: Asked,
    answer: SharedAnswer,
}

/// A request without the bytes it carries, only their digest: answers are remembered for long.
#[derive(Debug, PartialEq)]
struct Asked {
    request: Request,
    data_sha256: Option<[u8; 32]>,
}

impl Asked {
    fn of(request: &Request) -> Asked {
        let mut request = request.clone();
        let data_sha256 = match &mut request.control {
            Control::WriteStdin { chunk, .. } => Some(Sha256::digest(std::mem::take(&mut chunk.data)).into()),
            _ => None,
        };
        Asked { request, data_sha256 }
    }
}

/// An answer on its way. Who stops waiting for it leaves it on its way for the next one who asks.
type SharedAnswer = Shared<BoxFuture<'static, Result<Answer, ControlError>>>;

/// The driver's ends of what the handle holds.
pub(super) struct Ends {
    pub(super) status: watch::Sender<Status>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) watchers: watch::Receiver<Following>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) log: Log,
}

pub(super) fn connect(identity: Identity, log: Log, status: Status, origin: Instant) -> (Execution, Ends) {
    let (status, status_seen) = watch::channel(status);
    let (orders_sent, orders) = mpsc::channel(32);
    let (watchers_counted, watchers) = watch::channel(Following::default());
    let pulse = Arc::new(Pulse::new(origin));
    let shared = Inner {
        identity,
        log: log.clone(),
        status: status_seen,
        orders: orders_sent,
        watchers: watchers_counted,
        pulse: Arc::clone(&pulse),
        answers: Mutex::default(),
    };
    (Execution(Arc::new(shared)), Ends { status, orders, watchers, pulse, log })
}

impl Execution {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &ExecutionId {
        &self.0.identity.id
    }

    /// What never changes about it.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Its event log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.status.borrow().state
    }

    /// The whole of it as it is now; the queue position is not known here.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let status = self.0.status.borrow().clone();
        let outcome = status.outcome.as_deref().cloned();
        Snapshot {
            id: self.0.identity.id.clone(),
            command: self.0.identity.command.clone(),
            state: status.state,
            queue_position: None,
            created: self.0.identity.created,
            started: status.started,
            exited: status.exited,
            completed: status.completed,
            pid: status.pid,
            containment: status.containment,
            last_cursor: self.0.log.last(),
            channels: outcome.as_ref().map_or_else(|| self.0.log.summaries(), |outcome| outcome.channels.clone()),
            stdin_offset: status.stdin_offset,
            watchers: self.watchers(),
            outcome,
        }
    }

    /// How long it has been silent, has run, and may still run.
    #[must_use]
    pub fn vital_signs(&self) -> VitalSigns {
        let status = self.0.status.borrow();
        let now = Instant::now();
        VitalSigns {
            state: status.state,
            idle: self.0.pulse.since(now),
            elapsed: status.clocks.running(now),
            remaining: status.clocks.until_timeout(now),
        }
    }

    /// Waits until it is over. Cancel-safe.
    pub async fn completed(&self) {
        // The driver dropping its end without completing would be a bug; nobody must hang on it.
        let _ = self.0.status.clone().wait_for(|status| status.state == State::Completed).await;
    }

    /// How many follow it.
    #[must_use]
    pub fn watchers(&self) -> u32 {
        self.0.watchers.borrow().now
    }

    /// Counts the caller among those who follow, until the guard is dropped.
    #[must_use]
    pub fn follow(&self) -> Follower {
        self.0.watchers.send_modify(|following| *following = Following { now: following.now + 1, ever: true });
        Follower(self.clone())
    }

    /// Asks something of the run. With a `request_id`, a repeat gets the first answer again.
    ///
    /// Cancel-safe in the sense that a request once sent is carried out whether or not its answer is awaited.
    pub async fn control(&self, request: Request, request_id: Option<String>) -> Result<Answer, ControlError> {
        match request_id {
            Some(request_id) => self.remember(request_id, request)?.await,
            None => send(self.0.orders.clone(), request).await,
        }
    }

    /// The answer to the request, asked for only once whoever waits for it, and however often.
    fn remember(&self, request_id: String, request: Request) -> Result<SharedAnswer, ControlError> {
        let mut answers = self.0.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = Asked::of(&request);
        if let Some(known) = answers.iter().find(|known| known.request_id == request_id) {
            return if known.asked == asked { Ok(known.answer.clone()) } else { Err(ControlError::RequestIdReused) };
        }
        if answers.len() == REMEMBERED_ANSWERS {
            answers.pop_front();
        }
        let answer = send(self.0.orders.clone(), request).boxed().shared();
        answers.push_back(Remembered { request_id, asked, answer: answer.clone() });
        Ok(answer)
    }

    /// Ends the run on the server's behalf; nothing happens when it is over already.
    pub async fn end(&self, cause: Cause, reason: &str, grace: Option<Duration>) {
        let _over =
            self.0.orders.send(Order::End { cause, reason: reason.to_owned(), actor: Actor::Server, grace }).await;
    }

    /// Tells its watchers something.
    pub async fn announce(&self, kind: super::event::WarningKind, message: &str, remaining: Option<Duration>) {
        let _over = self.0.orders.send(Order::Announce { kind, message: message.to_owned(), remaining }).await;
    }
}

async fn send(orders: mpsc::Sender<Order>, request: Request) -> Result<Answer, ControlError> {
    let (verb, expected) = (request.control.verb(), request.expected.clone());
    let (reply, answer) = oneshot::channel();
    if orders.send(Order::Request { request, reply }).await.is_ok()
        && let Ok(answer) = answer.await
    {
        return answer;
    }
    // The driver is gone: the run is over.
    terminal_answer(verb, &expected)
}

/// The answer to anything that is asked of a run that is over.
pub fn terminal_answer(verb: Verb, expected: &[State]) -> Result<Answer, ControlError> {
    use super::state::{Decision, decide};
    if !expected.is_empty() && !expected.contains(&State::Completed) {
        return Err(ControlError::StateMismatch { state: State::Completed });
    }
    match decide(State::Completed, verb) {
        Decision::Denied(_) if verb == Verb::WriteStdin => Err(InputError::NotOpen.into()),
        Decision::Denied(why) => Err(ControlError::Denied { state: State::Completed, why }),
        Decision::Act | Decision::AlreadyInState | Decision::Pending | Decision::AlreadyTerminal => {
            Ok(Applied::AlreadyTerminal.into())
        }
    }
}

/// Signs of life for those who wait.
#[derive(Clone, Copy, Debug)]
pub struct VitalSigns {
    /// The state.
    pub state: State,
    /// Since the last output, or since it was accepted.
    pub idle: Duration,
    /// Of running, pauses not counted.
    pub elapsed: Duration,
    /// Until the next run or wall timeout.
    pub remaining: Option<Duration>,
}

/// Somebody who follows a run; dropping it means going away.
#[derive(Debug)]
pub struct Follower(Execution);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.0.watchers.send_modify(|following| following.now = following.now.saturating_sub(1));
    }
}
