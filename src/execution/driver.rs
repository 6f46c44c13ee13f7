//! The driver of a run: owns its process, is the only writer of its state and its log, and lives it from the queue to
//! the sealed log. Whoever wants something of the run sends an order through the handle.

mod process;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::clock::{Alarm, Clocks};
use super::command::{Capture, Command, DisconnectPolicy, LeakPolicy, Stdin};
use super::event::{Actor, Channel, Cursor, Note, WarningKind};
use super::handle::{
    Answer, Applied, Control, ControlError, Ends, Execution, Identity, Order, Reply, Request, Scope, Status, connect,
    terminal_answer,
};
use super::input::{Chunk, Input, InputError};
use super::launch::{self, Surroundings};
use super::log::{Appended, Log, Writer};
use super::outcome::{Cause, Durations, Ending, NotStarted, Outcome, Process, SentSignal, Step, Usage};
use super::state::{Decision, State, decide, may_follow};
use super::verdict::{Evidence, cause};
use super::{Containment, Snapshot};
use crate::os;
use process::{Attended, Happening};

/// How long a killed process may take to vanish before the run is declared over without it.
const UNKILLABLE_AFTER: Duration = Duration::from_secs(2);

/// How long processes that hold no output may outlive the command: enough for one that is about to end.
const LINGER: Duration = Duration::from_millis(100);

/// Writes to standard input that may wait for room at once.
const MOST_PARKED: usize = 16;

/// Signals of an escalation that are listed; a caller can repeat a kill as often as it likes.
const MOST_ESCALATION: usize = 64;

/// The one who lives a run.
pub struct Driver {
    identity: Identity,
    command: Command,
    log: Writer,
    ends: Ends,
    clocks: Clocks,
    input: Input,
    /// Writes that wait for room in the input window.
    parked: VecDeque<Parked>,
    /// What the server began to do to the run, and why.
    ordered: Option<(Cause, String)>,
    sent_by_callers: Vec<i32>,
    escalation: Vec<SentSignal>,
    leaked: Vec<Process>,
    survivors: Vec<Process>,
    output_incomplete: bool,
    /// Callers who want to know when the run is over.
    waiting_for_end: Vec<(Reply, u32)>,
    queued_for: Duration,
}

struct Parked {
    chunk: Chunk,
    accepted: u64,
    reply: Reply,
}

/// What a driver needs of the world.
#[derive(Clone, Debug)]
pub struct World {
    /// The platform.
    pub host: os::Host,
    /// The server's environment.
    pub surroundings: Arc<Surroundings>,
}

/// Makes the two sides of a run: the handle for everybody, the driver for one task.
///
/// `command` is the admitted one, secrets included; `identity.command` its redacted form.
#[must_use]
pub fn pair(
    identity: Identity,
    command: Command,
    writer: Writer,
    log: Log,
    stdin_window: usize,
) -> (Execution, Driver) {
    let now = Instant::now();
    let clocks = Clocks::new(command.options.timeouts, now);
    let input = if command.options.stdin == Stdin::Pipe { Input::open(stdin_window) } else { Input::none() };
    let status = Status {
        state: State::Queued,
        started: None,
        exited: None,
        completed: None,
        pid: None,
        containment: None,
        stdin_offset: input.next_offset(),
        outcome: None,
        clocks: clocks.clone(),
    };
    let (execution, ends) = connect(identity.clone(), log, status, now);
    let driver = Driver {
        identity,
        command,
        log: writer,
        ends,
        clocks,
        input,
        parked: VecDeque::new(),
        ordered: None,
        sent_by_callers: Vec::new(),
        escalation: Vec::new(),
        leaked: Vec::new(),
        survivors: Vec::new(),
        output_incomplete: false,
        waiting_for_end: Vec::new(),
        queued_for: Duration::ZERO,
    };
    (execution, driver)
}

impl Driver {
    /// Waits for a slot while obeying orders and clocks. `Err` holds the outcome of a run that never started.
    pub async fn wait_for<T>(&mut self, slot: impl Future<Output = T>, position: Option<u32>) -> Result<T, Outcome> {
        if let Some(position) = position {
            self.log.note(Note::Queued { position });
        }
        self.begin_lease();
        let mut slot = std::pin::pin!(slot);
        loop {
            let alarm = self.clocks.next(Instant::now());
            tokio::select! {
                biased;
                slot = &mut slot => {
                    self.queued_for = self.clocks.total(Instant::now());
                    return Ok(slot);
                }
                Some(order) = self.ends.orders.recv() => self.obey_queued(order),
                () = until(alarm) => self.ring_queued(alarm.expect("it rang").1),
                Ok(()) = self.ends.watchers.changed() => self.count_followers_queued(),
            }
            if let Some((cause, reason)) = self.ordered.clone() {
                let message = if reason.is_empty() { "it was ended while queued".to_owned() } else { reason };
                return Err(self.not_started(cause, NotStarted { step: Step::Queue, errno: 0, path: None, message }));
            }
        }
    }

    /// Starts the process and lives with it until it and all it started are gone and their output is read.
    pub async fn run(&mut self, world: &World) -> Outcome {
        self.publish(|status| status.state = State::Starting);
        match self.spawn(world).await {
            Ok(attended) => self.attend(attended, world).await,
            Err(failure) => self.not_started(Cause::SpawnFailed, failure),
        }
    }

    async fn spawn(&mut self, world: &World) -> Result<Attended, NotStarted> {
        let options = &self.command.options;
        let spool = |error: std::io::Error| NotStarted {
            step: Step::Spool,
            errno: error.raw_os_error().unwrap_or(0),
            path: None,
            message: format!("the spool file could not be opened: {error}"),
        };
        let channels = process::channels(options);
        let mut files = Vec::new();
        let output = match (&options.terminal, options.capture) {
            (Some(terminal), _) => os::Output::Terminal { rows: terminal.rows, columns: terminal.columns },
            (None, Capture::Pipe) => os::Output::Pipes { merge_stderr: options.merge_stderr },
            (None, Capture::File) => {
                let mut watched = |channel| -> std::io::Result<std::fs::File> {
                    let file = self.log.file(channel)?;
                    files.push((channel, watch(&file)?));
                    Ok(file)
                };
                let stdout = watched(Channel::Stdout).map_err(spool)?;
                let stderr = if options.merge_stderr { None } else { Some(watched(Channel::Stderr).map_err(spool)?) };
                os::Output::Files { stdout, stderr }
            }
        };
        let user = match &options.user {
            Some(name) => os::User::lookup(name).map_err(|error| NotStarted {
                step: Step::User,
                errno: error.raw_os_error().unwrap_or(0),
                path: None,
                message: format!("the user {name:?} could not be looked up: {error}"),
            })?,
            None => None,
        };
        let plan = launch::plan(&self.identity.id, &self.command.line, options, user, output, &world.surroundings);
        let child = world.host.spawn(plan).await.map_err(not_started_by)?;
        for channel in &channels {
            self.log.declare(*channel);
        }
        Ok(Attended::new(child, &channels, files))
    }

    async fn attend(&mut self, mut process: Attended, world: &World) -> Outcome {
        self.started(&process, world);
        while !process.is_over() {
            let happening = process.next(&mut self.ends, &self.log, &self.input, &self.clocks).await;
            match happening {
                Happening::Order(order) => self.obey(order, &mut process).await,
                Happening::Exited(exit) => self.exited(exit, &mut process, world).await,
                Happening::Emptied(usage) => self.emptied(usage, &mut process).await,
                Happening::Alarm(alarm) => self.ring(alarm, &mut process).await,
                Happening::Followers => self.count_followers(&mut process).await,
                Happening::Readable(stream) => self.pump(stream, &mut process).await,
                Happening::Grew(file) => self.adopt(file, &mut process).await,
                Happening::StdinWritable => self.feed(&mut process),
                Happening::Spool(Some(why)) => self.spool_failed(why, &mut process).await,
                Happening::Spool(None) => {}
                Happening::Full => self.hold_back(),
            }
        }
        self.close_input();
        let usage = process.final_usage().await;
        let ending = process.ending();
        process.release().await;
        self.outcome(ending, usage)
    }

    fn started(&mut self, process: &Attended, world: &World) {
        let now = Instant::now();
        self.clocks.start(now);
        // One that ran out in the queue has found nobody to act on.
        self.begin_lease();
        self.ends.pulse.beat(now);
        let pid = process.pid();
        let containment = containment(world.host.containment());
        let clocks = self.clocks.clone();
        self.log.note(Note::Started {
            pid,
            containment,
            timeouts: self.identity.timeouts.clone(),
            limits: self.command.options.limits,
        });
        self.publish(|status| {
            status.state = State::Running;
            status.started = Some(Timestamp::now());
            status.pid = Some(pid);
            status.containment = Some(containment);
            status.clocks = clocks;
        });
        debug!(id = %self.identity.id, pid, "started");
    }

    async fn exited(&mut self, exit: os::Exit, process: &mut Attended, world: &World) {
        let ending = match exit {
            os::Exit::Code(code) => Ending::Exited(code),
            os::Exit::Signal { number, core_dumped } => Ending::Signaled { number, core_dumped },
            os::Exit::Unknown { why } => {
                // The init process is gone: what it held together is found by its marker.
                world.host.sweep(&[self.identity.id.to_string()]).await;
                Ending::Unknown { why }
            }
        };
        if self.state() == State::Paused {
            // What it leaves behind must be able to go on: nobody can resume a run that has exited.
            let _gone = process.tree().thaw().await;
            self.clocks.resume(Instant::now());
        }
        let now = Instant::now();
        process.set_ending(ending.clone());
        self.close_input();
        process.close_stdin();
        if self.ordered.is_none() && self.command.options.on_leak == LeakPolicy::Wait {
            let members = process.tree().members().await.unwrap_or_default();
            self.leaked = members.iter().map(listed).collect();
        }
        self.read_pipes(process).await;
        self.log.note(Note::Exited { ending, open_channels: process.open_channels() });
        self.publish(|status| {
            status.state = State::Exited;
            status.exited = Some(Timestamp::now());
        });
        if self.ordered.is_some() || self.command.options.on_leak == LeakPolicy::Kill {
            self.clocks.drain(self.clocks.limits().drain.unwrap_or_default(), now);
        }
        self.shorten_drain(process);
    }

    async fn emptied(&mut self, usage: os::Usage, process: &mut Attended) {
        process.set_usage(usage);
        self.read_the_rest(process).await;
        // Whoever still holds a pipe is none of ours.
        self.clocks.drain(self.clocks.limits().drain.unwrap_or_default(), Instant::now());
    }

    /// Nobody holds output any more, so there is nothing to wait for but processes about to end by themselves.
    fn shorten_drain(&mut self, process: &Attended) {
        // Those who were told to end have until the drain is over.
        let are_leaked = self.ordered.is_none() && self.command.options.on_leak == LeakPolicy::Kill;
        if process.has_exited() && process.open_channels().is_empty() && are_leaked {
            self.clocks.drain(LINGER, Instant::now());
        }
    }

    async fn obey(&mut self, order: Order, process: &mut Attended) {
        match order {
            Order::Request { request, reply } => self.answer(request, reply, process).await,
            Order::End { cause, reason, actor, grace } => {
                self.stop(process, cause, reason, actor, None, grace).await;
            }
            Order::Announce { kind, message, remaining } => {
                self.log.note(Note::Warning { kind, message, remaining });
            }
        }
    }

    /// What the state table says about a request; `None` means act.
    fn screen(&self, request: &Request) -> Option<Result<Answer, ControlError>> {
        let state = self.state();
        if !request.expected.is_empty() && !request.expected.contains(&state) {
            return Some(Err(ControlError::StateMismatch { state }));
        }
        match decide(state, request.control.verb()) {
            Decision::Act => None,
            Decision::AlreadyInState => Some(Ok(Applied::AlreadyInState.into())),
            Decision::Pending => Some(Ok(Applied::Pending.into())),
            Decision::AlreadyTerminal => Some(Ok(Applied::AlreadyTerminal.into())),
            Decision::Denied(_) if matches!(request.control, Control::WriteStdin { .. }) => {
                Some(Err(InputError::NotOpen.into()))
            }
            Decision::Denied(why) => Some(Err(ControlError::Denied { state, why })),
        }
    }

    async fn answer(&mut self, request: Request, reply: Reply, process: &mut Attended) {
        if let Some(answer) = self.screen(&request) {
            respond(reply, answer);
            return;
        }
        let Request { control, reason, wait_for_effect, .. } = request;
        match control {
            Control::Pause => {
                let answer = self.pause(process, reason, Actor::Client).await;
                respond(reply, answer);
            }
            Control::Resume => {
                let answer = self.resume(process, reason).await;
                respond(reply, answer);
            }
            Control::Cancel { grace, signal } => {
                let sent = self.stop(process, Cause::Cancelled, reason, Actor::Client, signal, grace).await;
                self.answer_end(reply, sent, wait_for_effect);
            }
            Control::Kill => {
                let sent =
                    self.stop(process, Cause::Cancelled, reason, Actor::Client, None, Some(Duration::ZERO)).await;
                self.answer_end(reply, sent, wait_for_effect);
            }
            Control::Signal { number, scope } => {
                if !self.sent_by_callers.contains(&number) {
                    self.sent_by_callers.push(number);
                }
                let sent = process.tree().signal(number, os_scope(scope)).await;
                respond(reply, sent.map(applied).map_err(failed));
            }
            Control::WriteStdin { chunk, patient } => {
                self.write_stdin(chunk, patient, reply);
                self.feed(process);
            }
            Control::Resize { rows, columns } if self.command.options.terminal.is_some() => {
                let resized = process.tree().resize(rows, columns);
                respond(reply, resized.map(|()| applied(1)).map_err(|error| ControlError::Failed(error.to_string())));
            }
            Control::Resize { .. } => respond(reply, Err(ControlError::NotATerminal)),
            Control::Extend { run_by, wall_by } => {
                let answer = self.extend(run_by, wall_by);
                respond(reply, answer);
            }
        }
    }

    fn answer_end(&mut self, reply: Reply, processes: u32, wait_for_effect: bool) {
        if wait_for_effect {
            self.waiting_for_end.push((reply, processes));
        } else {
            respond(reply, Ok(Answer { result: Applied::Pending, processes, progress: None }));
        }
    }

    fn extend(&mut self, run_by: Duration, wall_by: Duration) -> Result<Answer, ControlError> {
        if !self.clocks.extend(run_by, wall_by) {
            return Err(ControlError::NoSuchClock);
        }
        let clocks = self.clocks.clone();
        self.publish(|status| status.clocks = clocks);
        Ok(Applied::Applied.into())
    }

    async fn pause(&mut self, process: &Attended, reason: String, actor: Actor) -> Result<Answer, ControlError> {
        self.change(State::Pausing, reason.clone(), actor);
        let frozen = process.tree().freeze().await;
        let now = Instant::now();
        match frozen {
            Ok(frozen) => {
                self.clocks.pause(now);
                self.change(State::Paused, reason, actor);
                if !frozen.complete {
                    let message = format!("{} processes stand still, others could not be reached", frozen.processes);
                    self.warn(WarningKind::PauseIncomplete, message, None);
                }
                Ok(applied(frozen.processes))
            }
            Err(error) => {
                let _thawed = process.tree().thaw().await;
                self.change(State::Running, error.to_string(), Actor::Server);
                Err(failed(error))
            }
        }
    }

    async fn resume(&mut self, process: &Attended, reason: String) -> Result<Answer, ControlError> {
        let thawed = process.tree().thaw().await.map_err(failed)?;
        self.clocks.resume(Instant::now());
        self.change(State::Running, reason, Actor::Client);
        Ok(applied(thawed))
    }

    /// Begins to end the run, or hurries the end: the signal, CONT, grace, then KILL of the whole tree. Returns how
    /// many processes were signalled now.
    async fn stop(
        &mut self,
        process: &mut Attended,
        cause: Cause,
        reason: String,
        actor: Actor,
        signal: Option<i32>,
        grace: Option<Duration>,
    ) -> u32 {
        let now = Instant::now();
        let first = self.ordered.is_none();
        if first {
            self.ordered = Some((cause, reason.clone()));
        }
        self.clocks.resume(now);
        if !process.has_exited() {
            self.change(State::Stopping, reason, actor);
        }
        let grace = grace.or_else(|| self.clocks.limits().grace).unwrap_or_default();
        self.clocks.stop(grace, now);
        if process.has_exited() {
            self.clocks.drain(self.clocks.limits().drain.unwrap_or_default().min(grace), now);
        }
        if grace.is_zero() {
            return self.kill(process).await;
        }
        if !first && signal.is_none() {
            return 0;
        }
        let number = signal.or(self.command.options.stop_signal).unwrap_or(libc::SIGTERM);
        let sent = process.tree().terminate(number, os::Scope::Tree).await;
        self.sent(number, sent)
    }

    async fn kill(&mut self, process: &mut Attended) -> u32 {
        let killed = process.tree().kill().await;
        // From now on, for the kill itself may have taken long to be answered.
        self.clocks.killed(UNKILLABLE_AFTER, Instant::now());
        match killed {
            Ok(killed) => {
                self.survivors = killed.survivors.iter().map(listed).collect();
                self.sent(libc::SIGKILL, Ok(killed.processes))
            }
            Err(error) => self.sent(libc::SIGKILL, Err(error)),
        }
    }

    /// Notes a signal sent to end the run.
    fn sent(&mut self, number: i32, processes: Result<u32, os::TreeError>) -> u32 {
        let processes = processes.unwrap_or_else(|error| {
            warn!(id = %self.identity.id, number, %error, "signal not delivered");
            0
        });
        if self.escalation.len() < MOST_ESCALATION {
            self.escalation.push(SentSignal { number, time: Timestamp::now(), processes });
        }
        processes
    }

    async fn ring(&mut self, alarm: Alarm, process: &mut Attended) {
        let limits = *self.clocks.limits();
        let stop = |cause, what: &str, limit: Option<Duration>| {
            (cause, format!("{what} for {}", humantime::format_duration(limit.unwrap_or_default())))
        };
        let (cause, reason) = match alarm {
            Alarm::FirstOutput => stop(Cause::FirstOutputTimeout, "no output", limits.first_output),
            Alarm::Idle => stop(Cause::IdleTimeout, "silent", limits.idle),
            Alarm::Run => stop(Cause::RunTimeout, "running", limits.run),
            Alarm::Wall => stop(Cause::WallTimeout, "alive", limits.wall),
            Alarm::MaxPause => stop(Cause::PauseLimit, "paused", limits.max_pause),
            Alarm::Queue => return,
            Alarm::Lease => return self.lease_over(process).await,
            Alarm::Grace => {
                self.kill(process).await;
                return;
            }
            Alarm::Drain => return self.drained(process).await,
            Alarm::GiveUp => return self.give_up(process).await,
            Alarm::IdleNear | Alarm::RunNear | Alarm::WallNear => return self.near(alarm),
        };
        self.stop(process, cause, reason, Actor::Timeout, None, None).await;
    }

    fn near(&mut self, alarm: Alarm) {
        let remaining = self.clocks.remaining(alarm, Instant::now());
        let left = humantime::format_duration(Duration::from_secs(remaining.unwrap_or_default().as_secs()));
        let (kind, what) = match alarm {
            Alarm::IdleNear => (WarningKind::Idle, "idle"),
            Alarm::WallNear => (WarningKind::TimeoutNear, "wall"),
            _ => (WarningKind::TimeoutNear, "run"),
        };
        self.clocks.warned(alarm);
        self.warn(kind, format!("the {what} timeout ends the run in {left}"), remaining);
    }

    /// The time for what outlived the command is over.
    async fn drained(&mut self, process: &mut Attended) {
        let members = process.tree().members().await.unwrap_or_default();
        if !members.is_empty() {
            if self.ordered.is_none() {
                self.leaked = members.iter().map(listed).collect();
                let message = format!("{} processes outlived the command and are ended", members.len());
                self.warn(WarningKind::Leak, message, None);
            }
            self.kill(process).await;
        }
        self.read_the_rest(process).await;
        self.output_incomplete = !process.open_channels().is_empty();
        process.set_over();
    }

    /// The process was killed and did not vanish.
    async fn give_up(&mut self, process: &mut Attended) {
        if !process.has_exited() {
            let members = process.tree().members().await.unwrap_or_default();
            let state = members.iter().find(|member| member.pid == process.pid()).map_or('?', |leader| leader.state);
            self.survivors = members.iter().map(listed).collect();
            let why = format!("process {} could not be killed (state {state})", process.pid());
            warn!(id = %self.identity.id, why, "gave up");
            process.set_ending(Ending::Unknown { why });
        }
        self.read_the_rest(process).await;
        self.output_incomplete = true;
        process.set_over();
    }

    async fn pump(&mut self, stream: usize, process: &mut Attended) {
        let appended = process.read(stream, &mut self.log);
        self.appended(appended, process).await;
        self.shorten_drain(process);
    }

    async fn adopt(&mut self, file: usize, process: &mut Attended) {
        let appended = process.adopt(file, &mut self.log).await;
        self.appended(appended, process).await;
    }

    /// Reads all that is in the pipes now: at exit that is everything the command itself wrote.
    async fn read_pipes(&mut self, process: &mut Attended) {
        let appended = process.read_pipes(&mut self.log);
        self.appended(appended, process).await;
    }

    /// Reads all that is in the pipes and files, when nobody is left to write more.
    async fn read_the_rest(&mut self, process: &mut Attended) {
        self.read_pipes(process).await;
        let appended = process.finish_files(&mut self.log).await;
        self.appended(appended, process).await;
    }

    async fn appended(&mut self, appended: Option<Appended>, process: &mut Attended) {
        let Some(appended) = appended else { return };
        let now = Instant::now();
        self.clocks.output(now);
        self.ends.pulse.beat(now);
        match appended {
            Appended::Stored | Appended::Dropping { first: false } => {}
            Appended::Dropping { first: true } => {
                let policy = self.command.options.on_output_limit;
                self.warn(WarningKind::OutputLimit, format!("the room for output is used up: {policy:?}"), None);
            }
            Appended::LimitReached if self.ordered.is_none() => {
                let reason = "the output limit was reached".to_owned();
                self.stop(process, Cause::OutputLimit, reason, Actor::Server, None, None).await;
            }
            Appended::LimitReached => {}
        }
    }

    fn hold_back(&mut self) {
        let message = "the room for output is used up: the command waits until it is ended".to_owned();
        self.warn(WarningKind::OutputLimit, message, None);
    }

    async fn spool_failed(&mut self, why: String, process: &mut Attended) {
        self.warn(WarningKind::Spool, format!("output cannot be stored: {why}"), None);
        if self.command.options.on_output_limit == super::command::OutputPolicy::Cancel && self.ordered.is_none() {
            let reason = format!("output cannot be stored: {why}");
            self.stop(process, Cause::OutputLimit, reason, Actor::Server, None, None).await;
        }
    }

    // Input.

    fn write_stdin(&mut self, chunk: Chunk, patient: bool, reply: Reply) {
        if patient {
            // Whoever stopped waiting was told nothing and goes on by offset.
            self.parked.retain(|parked| !parked.reply.is_closed());
            if self.parked.len() == MOST_PARKED {
                return respond(reply, Err(self.input.window_full().into()));
            }
            self.parked.push_back(Parked { chunk, accepted: 0, reply });
            return self.unpark();
        }
        let answer = self.input.accept(&chunk);
        let offset = self.input.next_offset();
        self.publish(|status| status.stdin_offset = offset);
        let answer = answer.map(|progress| Answer { progress: Some(progress), ..Applied::Applied.into() });
        respond(reply, answer.map_err(ControlError::from));
    }

    /// Goes on with the writes that waited for room, in order.
    fn unpark(&mut self) {
        while let Some(mut parked) = self.parked.pop_front() {
            match self.input.accept(&parked.chunk) {
                Ok(progress) => {
                    parked.accepted += progress.accepted_bytes;
                    let start = parked.chunk.offset.unwrap_or(progress.next_offset - progress.accepted_bytes);
                    let done = progress.next_offset.saturating_sub(start).min(parked.chunk.data.len() as u64);
                    let rest = parked.chunk.data.slice(usize::try_from(done).unwrap_or(usize::MAX)..);
                    if !rest.is_empty() {
                        parked.chunk.data = rest;
                        parked.chunk.offset = Some(progress.next_offset);
                        self.parked.push_front(parked);
                        break;
                    }
                    let progress = super::input::Progress { accepted_bytes: parked.accepted, ..progress };
                    respond(parked.reply, Ok(Answer { progress: Some(progress), ..Applied::Applied.into() }));
                }
                Err(InputError::WindowFull { .. }) => {
                    self.parked.push_front(parked);
                    break;
                }
                Err(error) => respond(parked.reply, Err(error.into())),
            }
        }
        let offset = self.input.next_offset();
        self.publish(|status| status.stdin_offset = offset);
    }

    /// Hands waiting input to the process.
    fn feed(&mut self, process: &mut Attended) {
        // Input that came to its end stays known, so that its last write may be repeated.
        if process.feed(&mut self.input) && !self.input.is_finished() {
            self.close_input();
        } else if !self.parked.is_empty() {
            self.unpark();
        }
    }

    fn close_input(&mut self) {
        self.input.close();
        for parked in self.parked.drain(..) {
            respond(parked.reply, Err(InputError::NotOpen.into()));
        }
        self.publish(|status| status.stdin_offset = None);
    }

    // Followers.

    fn lease(&self) -> Option<Duration> {
        match self.command.options.on_disconnect {
            DisconnectPolicy::CancelAfterLease(lease) | DisconnectPolicy::PauseAfterLease(lease) => Some(lease),
            DisconnectPolicy::KeepRunning | DisconnectPolicy::CancelNow => None,
        }
    }

    /// Nobody follows yet: the lease runs from the start.
    fn begin_lease(&mut self) {
        if let Some(lease) = self.lease()
            && self.ends.watchers.borrow().now == 0
        {
            self.clocks.abandon(lease, Instant::now());
        }
    }

    /// Takes note of who follows. True when the policy wants the run ended now.
    fn abandoned(&mut self) -> bool {
        let following = *self.ends.watchers.borrow_and_update();
        if following.now > 0 {
            self.clocks.reclaim();
            return false;
        }
        if let Some(lease) = self.lease() {
            self.clocks.abandon(lease, Instant::now());
        }
        self.command.options.on_disconnect == DisconnectPolicy::CancelNow && following.ever
    }

    async fn count_followers(&mut self, process: &mut Attended) {
        if self.abandoned() && self.ordered.is_none() {
            let reason = "the last client that followed is gone".to_owned();
            self.stop(process, Cause::ClientGone, reason, Actor::Server, None, None).await;
        }
    }

    fn count_followers_queued(&mut self) {
        if self.abandoned() {
            self.ordered = Some((Cause::ClientGone, "the last client that followed is gone".to_owned()));
        }
    }

    async fn lease_over(&mut self, process: &mut Attended) {
        self.clocks.reclaim();
        if self.ends.watchers.borrow().now > 0 {
            return; // somebody came back while there was something else to do
        }
        let reason = "nobody followed within the lease".to_owned();
        if matches!(self.command.options.on_disconnect, DisconnectPolicy::PauseAfterLease(_)) {
            if self.state() == State::Running {
                let _reported = self.pause(process, reason, Actor::Server).await;
            }
        } else {
            self.stop(process, Cause::ClientGone, reason, Actor::Server, None, None).await;
        }
    }

    // The queue.

    fn obey_queued(&mut self, order: Order) {
        match order {
            Order::Request { request, reply } => self.answer_queued(request, reply),
            Order::End { cause, reason, .. } => self.ordered = Some((cause, reason)),
            Order::Announce { kind, message, remaining } => self.warn(kind, message, remaining),
        }
    }

    fn answer_queued(&mut self, request: Request, reply: Reply) {
        if let Some(answer) = self.screen(&request) {
            return respond(reply, answer);
        }
        match request.control {
            Control::Cancel { .. } | Control::Kill => {
                self.ordered = Some((Cause::Cancelled, request.reason));
                self.answer_end(reply, 0, request.wait_for_effect);
            }
            Control::WriteStdin { chunk, patient } => self.write_stdin(chunk, patient, reply),
            Control::Extend { run_by, wall_by } => {
                let answer = self.extend(run_by, wall_by);
                respond(reply, answer);
            }
            Control::Pause | Control::Resume | Control::Signal { .. } | Control::Resize { .. } => {
                respond(reply, Err(ControlError::Denied { state: self.state(), why: "the run has not started" }));
            }
        }
    }

    fn ring_queued(&mut self, alarm: Alarm) {
        let limits = self.clocks.limits();
        let waited =
            |limit: Option<Duration>| format!("queued for {}", humantime::format_duration(limit.unwrap_or_default()));
        self.ordered = match alarm {
            Alarm::Queue => Some((Cause::QueueTimeout, waited(limits.queue))),
            Alarm::Wall => Some((Cause::WallTimeout, waited(limits.wall))),
            Alarm::Lease if self.command.options.on_disconnect != DisconnectPolicy::KeepRunning => {
                self.clocks.reclaim();
                match self.command.options.on_disconnect {
                    _ if self.ends.watchers.borrow().now > 0 => None,
                    DisconnectPolicy::PauseAfterLease(_) => None,
                    _ => Some((Cause::ClientGone, "nobody followed within the lease".to_owned())),
                }
            }
            _ => {
                self.near(alarm);
                None
            }
        };
    }

    // The end.

    fn not_started(&mut self, cause: Cause, failure: NotStarted) -> Outcome {
        if self.ordered.is_none() {
            self.ordered = Some((cause, failure.message.clone()));
        }
        self.outcome(Ending::NotStarted(failure), None)
    }

    fn outcome(&mut self, ending: Ending, usage: Option<os::Usage>) -> Outcome {
        let now = Instant::now();
        self.clocks.finish(now);
        let (ordered, reason) = self.ordered.clone().unzip();
        let out_of_memory = usage.as_ref().and_then(|usage| usage.oom_kills).is_some_and(|kills| kills > 0);
        let evidence = Evidence { ordered, sent_by_callers: self.sent_by_callers.clone(), out_of_memory };
        Outcome {
            cause: cause(&ending, &evidence),
            ending,
            reason: reason.unwrap_or_default(),
            escalation: std::mem::take(&mut self.escalation),
            usage: usage.map(self::usage).unwrap_or_default(),
            durations: Durations {
                queued: self.queued_for,
                running: self.clocks.running(now),
                paused: self.clocks.paused(now),
                total: self.clocks.total(now),
            },
            channels: Vec::new(),
            output_incomplete: self.output_incomplete,
            leaked: std::mem::take(&mut self.leaked),
            survivors: std::mem::take(&mut self.survivors),
        }
    }

    /// Waits until all output is stored and returns the run as it will be remembered.
    pub async fn conclude(&mut self, mut outcome: Outcome) -> Snapshot {
        outcome.channels = self.log.digests().await;
        self.log.flush().await;
        let status = self.ends.status.borrow().clone();
        Snapshot {
            id: self.identity.id.clone(),
            command: self.identity.command.clone(),
            state: State::Completed,
            queue_position: None,
            created: self.identity.created,
            started: status.started,
            exited: status.exited,
            completed: Some(Timestamp::now()),
            pid: status.pid,
            containment: status.containment,
            // The entry that `complete` will append.
            last_cursor: Cursor::at(self.ends.log.last().seq + 1),
            channels: outcome.channels.clone(),
            stdin_offset: None,
            watchers: 0,
            outcome: Some(outcome),
        }
    }

    /// Appends the last event, tells everybody, seals the log.
    pub async fn complete(mut self, snapshot: &Snapshot) {
        let outcome = snapshot.outcome.clone().expect("a concluded run has an outcome");
        self.log.note(Note::Completed(Box::new(outcome.clone())));
        let completed = snapshot.completed;
        self.publish(|status| {
            status.state = State::Completed;
            status.completed = completed;
            status.outcome = Some(Arc::new(outcome));
        });
        for (reply, processes) in std::mem::take(&mut self.waiting_for_end) {
            respond(reply, Ok(Answer { result: Applied::Applied, processes, progress: None }));
        }
        self.ends.orders.close();
        while let Some(order) = self.ends.orders.recv().await {
            if let Order::Request { request, reply } = order {
                respond(reply, terminal_answer(request.control.verb(), &request.expected));
            }
        }
        self.log.seal().await;
    }

    // Telling.

    fn state(&self) -> State {
        self.ends.status.borrow().state
    }

    fn publish(&self, change: impl FnOnce(&mut Status)) {
        self.ends.status.send_modify(change);
    }

    fn change(&mut self, to: State, reason: String, actor: Actor) {
        let from = self.state();
        if from == to {
            return;
        }
        debug_assert!(may_follow(from, to), "{from:?} to {to:?}");
        let clocks = self.clocks.clone();
        self.publish(|status| {
            status.state = to;
            status.clocks = clocks;
        });
        self.log.note(Note::StateChanged { from, to, reason, actor });
    }

    fn warn(&mut self, kind: WarningKind, message: String, remaining: Option<Duration>) {
        self.log.note(Note::Warning { kind, message, remaining });
    }
}

/// Watches an open file for growth.
fn watch(file: &std::fs::File) -> std::io::Result<os::files::Watch> {
    use std::os::fd::AsRawFd;
    os::files::Watch::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

async fn until(alarm: Option<(Instant, Alarm)>) {
    match alarm {
        Some((at, _)) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn respond(reply: Reply, answer: Result<Answer, ControlError>) {
    // Whoever asked may have gone; the request was carried out all the same.
    let _gone = reply.send(answer);
}

fn applied(processes: u32) -> Answer {
    Answer { result: Applied::Applied, processes, progress: None }
}

fn failed(error: os::TreeError) -> ControlError {
    ControlError::Failed(error.to_string())
}

fn os_scope(scope: Scope) -> os::Scope {
    match scope {
        Scope::Leader => os::Scope::Leader,
        Scope::Group => os::Scope::Group,
        Scope::Tree => os::Scope::Tree,
    }
}

/// The platform's containment in the words of the domain.
#[must_use]
pub fn containment(containment: os::Containment) -> Containment {
    match containment {
        os::Containment::Cgroup => Containment::Cgroup,
        os::Containment::Shim => Containment::Shim,
        os::Containment::Group => Containment::Group,
    }
}

fn listed(member: &os::Member) -> Process {
    Process { pid: member.pid, command: member.command.clone() }
}

fn usage(usage: os::Usage) -> Usage {
    Usage {
        user: usage.user,
        system: usage.system,
        peak_memory_bytes: usage.peak_memory_bytes,
        peak_processes: usage.peak_processes,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
        source: Some(match usage.source {
            os::UsageSource::Cgroup => super::outcome::UsageSource::Cgroup,
            os::UsageSource::Children => super::outcome::UsageSource::Children,
        }),
    }
}

fn not_started_by(error: os::SpawnError) -> NotStarted {
    NotStarted {
        step: match error.step {
            os::SpawnStep::Resources => Step::Resources,
            os::SpawnStep::Containment => Step::Containment,
            os::SpawnStep::Terminal => Step::Terminal,
            os::SpawnStep::Limits => Step::Limits,
            os::SpawnStep::User => Step::User,
            os::SpawnStep::WorkingDirectory => Step::WorkingDirectory,
            os::SpawnStep::Exec => Step::Exec,
        },
        errno: error.errno,
        message: error.to_string(),
        path: error.path.map(|path| path.to_string_lossy().into_owned()),
    }
}
