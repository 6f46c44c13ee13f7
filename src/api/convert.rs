//! Between the wire and the domain. The only place that says what is malformed; what is well-formed but not allowed
//! is said by admission.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::execution::clock::LONGEST;
use crate::execution::command::{
    Capture, Command, CommandLine, DisconnectPolicy, EffectiveTimeout, Environment, Inherit, LeakPolicy, Limits,
    Options, OutputPolicy, Source, Stdin, Terminal, Timeouts,
};
use crate::execution::event::{Actor, Channel, Cursor, EPOCH, EventKind, Gap, GapReason, Note, WarningKind};
use crate::execution::handle::{Control, Scope};
use crate::execution::input::Chunk;
use crate::execution::outcome::{
    Cause, ChannelSummary, Durations, Ending, NotStarted, Outcome, Process, SentSignal, Step, Usage, UsageSource,
};
use crate::execution::state::State;
use crate::execution::{Containment, ExecutionId, Snapshot};
use crate::history::Record;
use crate::proto;
use crate::supervisor::Fault;

/// What a request lacks or has wrong.
pub(crate) type Parsed<T> = Result<T, Fault>;

/// The lease when none is given.
const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// Says that a field is wrong.
pub(crate) fn fault(field: impl Into<String>, description: impl Into<String>) -> Fault {
    Fault { field: field.into(), description: description.into() }
}

/// Names the field an enum value or a duration came from.
fn known<E: TryFrom<i32>>(value: i32, field: &str) -> Parsed<E> {
    E::try_from(value).map_err(|_| fault(field, format!("{value} is not a value of this enum")))
}

/// A required execution id.
pub(crate) fn execution_id(text: String) -> Parsed<ExecutionId> {
    if text.is_empty() {
        return Err(fault("execution_id", "is required"));
    }
    ExecutionId::try_from(text).map_err(|error| fault("execution_id", error.to_string()))
}

/// An execution id that the server chooses when it is empty.
pub(crate) fn optional_execution_id(text: String) -> Parsed<Option<ExecutionId>> {
    if text.is_empty() { Ok(None) } else { execution_id(text).map(Some) }
}

/// A duration that is not negative and that clocks can be set to.
pub(crate) fn duration(wire: Option<prost_types::Duration>, field: &str) -> Parsed<Option<Duration>> {
    let parsed = wire.map(|wire| {
        let duration = Duration::try_from(wire).ok().filter(|duration| *duration <= LONGEST);
        duration.ok_or_else(|| fault(field, "must be a duration of 0s to 10,000 years, for instance 10s"))
    });
    parsed.transpose()
}

/// The digest that tells whether two requests ask for the same.
pub(crate) fn spec_digest(
    command: &proto::execute_request::Command,
    options: Option<&proto::ExecutionOptions>,
) -> [u8; 32] {
    let request = proto::ExecuteRequest {
        command: Some(command.clone()),
        options: Some(options.cloned().unwrap_or_default()),
        ..Default::default()
    };
    Sha256::digest(request.encode_to_vec()).into()
}

/// A command as it came.
pub(crate) fn command(
    line: Option<proto::execute_request::Command>,
    options: Option<proto::ExecutionOptions>,
) -> Parsed<(Command, [u8; 32])> {
    let line = line.ok_or_else(|| fault("command", "is required: set argv or shell"))?;
    let digest = spec_digest(&line, options.as_ref());
    let line = match line {
        proto::execute_request::Command::Argv(proto::Argv { program, args }) => CommandLine::Argv { program, args },
        proto::execute_request::Command::Shell(proto::Shell { script, interpreter }) => {
            CommandLine::Shell { script, interpreter: Some(interpreter).filter(|name| !name.is_empty()) }
        }
    };
    Ok((Command { line, options: self::options(options.unwrap_or_default())? }, digest))
}

impl From<proto::create_execution_request::Command> for proto::execute_request::Command {
    fn from(command: proto::create_execution_request::Command) -> proto::execute_request::Command {
        match command {
            proto::create_execution_request::Command::Argv(argv) => proto::execute_request::Command::Argv(argv),
            proto::create_execution_request::Command::Shell(shell) => proto::execute_request::Command::Shell(shell),
        }
    }
}

fn options(wire: proto::ExecutionOptions) -> Parsed<Options> {
    let on_disconnect = disconnect(wire.on_disconnect, wire.disconnect_lease)?;
    Ok(Options {
        working_directory: Some(PathBuf::from(wire.working_directory)).filter(|path| !path.as_os_str().is_empty()),
        environment: environment(wire.environment.unwrap_or_default())?,
        stdin: stdin(wire.stdin.unwrap_or_default(), wire.terminal.is_some())?,
        terminal: wire.terminal.map(terminal).transpose()?,
        merge_stderr: wire.merge_stderr,
        capture: match known(wire.capture, "options.capture")? {
            proto::Capture::Unspecified | proto::Capture::Pipe => Capture::Pipe,
            proto::Capture::File => Capture::File,
        },
        user: Some(wire.user).filter(|user| !user.is_empty()),
        limits: limits(wire.limits.unwrap_or_default())?,
        on_output_limit: match known(wire.on_output_limit, "options.on_output_limit")? {
            proto::OutputPolicy::Unspecified | proto::OutputPolicy::DropOldest => OutputPolicy::DropOldest,
            proto::OutputPolicy::DropNewest => OutputPolicy::DropNewest,
            proto::OutputPolicy::Block => OutputPolicy::Block,
            proto::OutputPolicy::Cancel => OutputPolicy::Cancel,
        },
        timeouts: timeouts(wire.timeouts.unwrap_or_default())?,
        on_leak: match known(wire.on_leak, "options.on_leak")? {
            proto::LeakPolicy::Unspecified | proto::LeakPolicy::Kill => LeakPolicy::Kill,
            proto::LeakPolicy::Wait => LeakPolicy::Wait,
        },
        on_disconnect,
        priority: wire.priority,
        labels: wire.labels,
        retention: duration(wire.retention, "options.retention")?,
        stop_signal: Some(wire.stop_signal).filter(|signal| *signal != 0),
    })
}

fn environment(wire: proto::Environment) -> Parsed<Environment> {
    use proto::environment::Inherit as Wire;
    let inherit = match known(wire.inherit, "options.environment.inherit")? {
        Wire::Unspecified | Wire::AllowList => Inherit::AllowList,
        Wire::None => Inherit::None,
        Wire::All => Inherit::All,
    };
    Ok(Environment { inherit, set: wire.set, unset: wire.unset })
}

/// Where input comes from. A terminal is its own input unless the request says otherwise.
fn stdin(wire: proto::Stdin, has_terminal: bool) -> Parsed<Stdin> {
    use proto::stdin::Mode;
    let mode = known(wire.mode, "options.stdin.mode")?;
    if mode != Mode::Inline && !wire.inline_data.is_empty() {
        return Err(fault("options.stdin.inline_data", "goes only with mode MODE_INLINE"));
    }
    Ok(match mode {
        Mode::Unspecified if has_terminal => Stdin::Pipe,
        Mode::Unspecified | Mode::Null => Stdin::Null,
        Mode::Inline => Stdin::Inline(wire.inline_data),
        Mode::Pipe => Stdin::Pipe,
    })
}

fn terminal(wire: proto::Terminal) -> Parsed<Terminal> {
    let size = |value: u32, default: u16, field: &str| match value {
        0 => Ok(default),
        value => u16::try_from(value).map_err(|_| fault(field, "must be 1 to 10,000")),
    };
    Ok(Terminal {
        rows: size(wire.rows, 24, "options.terminal.rows")?,
        columns: size(wire.columns, 80, "options.terminal.columns")?,
        term: if wire.term.is_empty() { "xterm-256color".to_owned() } else { wire.term },
    })
}

fn limits(wire: proto::Limits) -> Parsed<Limits> {
    Ok(Limits {
        memory_bytes: wire.memory_bytes,
        processes: wire.processes,
        cpus: wire.cpus,
        cpu_time: duration(wire.cpu_time, "options.limits.cpu_time")?,
        open_files: wire.open_files,
        output_bytes: wire.output_bytes,
    })
}

fn timeouts(wire: proto::Timeouts) -> Parsed<Timeouts> {
    Ok(Timeouts {
        queue: duration(wire.queue, "options.timeouts.queue")?,
        first_output: duration(wire.first_output, "options.timeouts.first_output")?,
        idle: duration(wire.idle, "options.timeouts.idle")?,
        run: duration(wire.run, "options.timeouts.run")?,
        wall: duration(wire.wall, "options.timeouts.wall")?,
        max_pause: duration(wire.max_pause, "options.timeouts.max_pause")?,
        grace: duration(wire.grace, "options.timeouts.grace")?,
        drain: duration(wire.drain, "options.timeouts.drain")?,
    })
}

fn disconnect(policy: i32, lease: Option<prost_types::Duration>) -> Parsed<DisconnectPolicy> {
    use proto::DisconnectPolicy as Wire;
    let lease = duration(lease, "options.disconnect_lease")?;
    let policy = known(policy, "options.on_disconnect")?;
    if lease.is_some() && !matches!(policy, Wire::CancelAfterLease | Wire::PauseAfterLease) {
        return Err(fault("options.disconnect_lease", "goes only with CANCEL_AFTER_LEASE and PAUSE_AFTER_LEASE"));
    }
    let lease = lease.unwrap_or(DEFAULT_LEASE);
    Ok(match policy {
        Wire::Unspecified | Wire::KeepRunning => DisconnectPolicy::KeepRunning,
        Wire::CancelNow => DisconnectPolicy::CancelNow,
        Wire::CancelAfterLease => DisconnectPolicy::CancelAfterLease(lease),
        Wire::PauseAfterLease => DisconnectPolicy::PauseAfterLease(lease),
    })
}

/// What a control request asks for.
pub(crate) fn control(action: Option<proto::control_request::Action>) -> Parsed<Control> {
    use proto::control_request::Action;
    let action = action.ok_or_else(|| fault("action", "is required"))?;
    Ok(match action {
        Action::Pause(_) => Control::Pause,
        Action::Resume(_) => Control::Resume,
        Action::Kill(_) => Control::Kill,
        Action::Cancel(cancel) => Control::Cancel {
            grace: duration(cancel.grace_period, "cancel.grace_period")?,
            signal: match cancel.signal {
                0 => None,
                number => Some(signal(number, "cancel.signal")?),
            },
        },
        Action::Signal(wire) => Control::Signal {
            number: signal(wire.number, "signal.number")?,
            scope: match known(wire.scope, "signal.scope")? {
                proto::send_signal::Scope::Unspecified | proto::send_signal::Scope::Leader => Scope::Leader,
                proto::send_signal::Scope::Group => Scope::Group,
                proto::send_signal::Scope::Tree => Scope::Tree,
            },
        },
        Action::WriteStdin(wire) => Control::WriteStdin { chunk: chunk(wire), patient: false },
        Action::Resize(wire) => {
            let size = |value: u32, field: &str| {
                let size = u16::try_from(value).ok().filter(|size| (1..=10_000).contains(size));
                size.ok_or_else(|| fault(field, "must be 1 to 10,000"))
            };
            Control::Resize { rows: size(wire.rows, "resize.rows")?, columns: size(wire.columns, "resize.columns")? }
        }
        Action::Extend(wire) => {
            let run_by = duration(wire.run_by, "extend.run_by")?.unwrap_or_default();
            let wall_by = duration(wire.wall_by, "extend.wall_by")?.unwrap_or_default();
            if run_by.is_zero() && wall_by.is_zero() {
                return Err(fault("extend", "needs run_by or wall_by"));
            }
            Control::Extend { run_by, wall_by }
        }
    })
}

fn signal(number: i32, field: &str) -> Parsed<i32> {
    if (1..=64).contains(&number) { Ok(number) } else { Err(fault(field, "must be a POSIX number, 1 to 64")) }
}

/// A piece of input.
pub(crate) fn chunk(wire: proto::StdinChunk) -> Chunk {
    Chunk { offset: wire.offset, data: wire.data, eof: wire.eof }
}

/// States a caller expects.
pub(crate) fn states(wire: &[i32]) -> Parsed<Vec<State>> {
    wire.iter()
        .map(|value| {
            let index = value.checked_sub(1).and_then(|index| usize::try_from(index).ok());
            let state = index.and_then(|index| State::ALL.get(index)).copied();
            state.ok_or_else(|| fault("expected_states", format!("{value} is not a state")))
        })
        .collect()
}

/// A channel that must be named.
pub(crate) fn channel(wire: i32, field: &str) -> Parsed<Channel> {
    optional_channel(wire, field)?.ok_or_else(|| fault(field, "must be STDOUT, STDERR or TERMINAL"))
}

/// A channel that may be left out.
pub(crate) fn optional_channel(wire: i32, field: &str) -> Parsed<Option<Channel>> {
    Ok(match known(wire, field)? {
        proto::Channel::Unspecified => None,
        proto::Channel::Stdout => Some(Channel::Stdout),
        proto::Channel::Stderr => Some(Channel::Stderr),
        proto::Channel::Terminal => Some(Channel::Terminal),
    })
}

/// A cursor of ours.
pub(crate) fn cursor(wire: proto::Cursor) -> Parsed<Cursor> {
    let fits = wire.epoch == EPOCH || wire == proto::Cursor::default();
    if fits { Ok(Cursor::at(wire.seq)) } else { Err(fault("cursor.epoch", format!("must be {EPOCH}"))) }
}

// From here on, the way out.

/// A moment.
pub(crate) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// A length of time; what the wire cannot hold is its longest.
pub(crate) fn span(duration: Duration) -> prost_types::Duration {
    const LONGEST_SECONDS: i64 = 315_576_000_000;
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(LONGEST_SECONDS).min(LONGEST_SECONDS);
    let nanos = i32::try_from(duration.subsec_nanos()).expect("less than a second");
    prost_types::Duration { seconds, nanos }
}

impl From<Cursor> for proto::Cursor {
    fn from(cursor: Cursor) -> proto::Cursor {
        proto::Cursor { epoch: cursor.epoch, seq: cursor.seq }
    }
}

impl From<Channel> for proto::Channel {
    fn from(channel: Channel) -> proto::Channel {
        match channel {
            Channel::Stdout => proto::Channel::Stdout,
            Channel::Stderr => proto::Channel::Stderr,
            Channel::Terminal => proto::Channel::Terminal,
        }
    }
}

impl From<State> for proto::ExecutionState {
    fn from(state: State) -> proto::ExecutionState {
        match state {
            State::Queued => proto::ExecutionState::Queued,
            State::Starting => proto::ExecutionState::Starting,
            State::Running => proto::ExecutionState::Running,
            State::Pausing => proto::ExecutionState::Pausing,
            State::Paused => proto::ExecutionState::Paused,
            State::Stopping => proto::ExecutionState::Stopping,
            State::Exited => proto::ExecutionState::Exited,
            State::Completed => proto::ExecutionState::Completed,
        }
    }
}

impl From<Cause> for proto::Cause {
    fn from(cause: Cause) -> proto::Cause {
        match cause {
            Cause::Exited => proto::Cause::Exited,
            Cause::Cancelled => proto::Cause::Cancelled,
            Cause::SignalledExternally => proto::Cause::SignalledExternally,
            Cause::RunTimeout => proto::Cause::RunTimeout,
            Cause::IdleTimeout => proto::Cause::IdleTimeout,
            Cause::FirstOutputTimeout => proto::Cause::FirstOutputTimeout,
            Cause::WallTimeout => proto::Cause::WallTimeout,
            Cause::QueueTimeout => proto::Cause::QueueTimeout,
            Cause::PauseLimit => proto::Cause::PauseLimit,
            Cause::OutOfMemory => proto::Cause::OutOfMemory,
            Cause::OutputLimit => proto::Cause::OutputLimit,
            Cause::SpawnFailed => proto::Cause::SpawnFailed,
            Cause::ClientGone => proto::Cause::ClientGone,
            Cause::ServerShutdown => proto::Cause::ServerShutdown,
            Cause::ServerLost => proto::Cause::ServerLost,
        }
    }
}

impl From<Containment> for proto::Containment {
    fn from(containment: Containment) -> proto::Containment {
        match containment {
            Containment::Cgroup => proto::Containment::Cgroup,
            Containment::Shim => proto::Containment::Shim,
            Containment::Group => proto::Containment::Group,
        }
    }
}

impl From<Snapshot> for proto::Execution {
    fn from(snapshot: Snapshot) -> proto::Execution {
        proto::Execution {
            execution_id: snapshot.id.into(),
            command: Some(match snapshot.command.line {
                CommandLine::Argv { program, args } => proto::execution::Command::Argv(proto::Argv { program, args }),
                CommandLine::Shell { script, interpreter } => proto::execution::Command::Shell(proto::Shell {
                    script,
                    interpreter: interpreter.unwrap_or_default(),
                }),
            }),
            options: Some(snapshot.command.options.into()),
            state: proto::ExecutionState::from(snapshot.state).into(),
            queue_position: snapshot.queue_position,
            create_time: Some(timestamp(snapshot.created)),
            start_time: snapshot.started.map(timestamp),
            exit_time: snapshot.exited.map(timestamp),
            complete_time: snapshot.completed.map(timestamp),
            pid: snapshot.pid,
            containment: snapshot.containment.map_or(proto::Containment::Unspecified, Into::into).into(),
            last_cursor: Some(snapshot.last_cursor.into()),
            channels: snapshot.channels.into_iter().map(Into::into).collect(),
            stdin_offset: snapshot.stdin_offset,
            watchers: snapshot.watchers,
            outcome: snapshot.outcome.map(Into::into),
        }
    }
}

impl From<Options> for proto::ExecutionOptions {
    fn from(options: Options) -> proto::ExecutionOptions {
        let (on_disconnect, disconnect_lease) = match options.on_disconnect {
            DisconnectPolicy::KeepRunning => (proto::DisconnectPolicy::KeepRunning, None),
            DisconnectPolicy::CancelNow => (proto::DisconnectPolicy::CancelNow, None),
            DisconnectPolicy::CancelAfterLease(lease) => (proto::DisconnectPolicy::CancelAfterLease, Some(lease)),
            DisconnectPolicy::PauseAfterLease(lease) => (proto::DisconnectPolicy::PauseAfterLease, Some(lease)),
        };
        proto::ExecutionOptions {
            working_directory: options
                .working_directory
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default(),
            environment: Some(options.environment.into()),
            stdin: Some(options.stdin.into()),
            terminal: options.terminal.map(|terminal| proto::Terminal {
                rows: terminal.rows.into(),
                columns: terminal.columns.into(),
                term: terminal.term,
            }),
            merge_stderr: options.merge_stderr,
            capture: match options.capture {
                Capture::Pipe => proto::Capture::Pipe,
                Capture::File => proto::Capture::File,
            }
            .into(),
            user: options.user.unwrap_or_default(),
            limits: Some(options.limits.into()),
            on_output_limit: match options.on_output_limit {
                OutputPolicy::DropOldest => proto::OutputPolicy::DropOldest,
                OutputPolicy::DropNewest => proto::OutputPolicy::DropNewest,
                OutputPolicy::Block => proto::OutputPolicy::Block,
                OutputPolicy::Cancel => proto::OutputPolicy::Cancel,
            }
            .into(),
            timeouts: Some(options.timeouts.into()),
            on_leak: match options.on_leak {
                LeakPolicy::Kill => proto::LeakPolicy::Kill,
                LeakPolicy::Wait => proto::LeakPolicy::Wait,
            }
            .into(),
            on_disconnect: on_disconnect.into(),
            disconnect_lease: disconnect_lease.map(span),
            priority: options.priority,
            labels: options.labels,
            retention: options.retention.map(span),
            stop_signal: options.stop_signal.unwrap_or_default(),
        }
    }
}

impl From<Environment> for proto::Environment {
    fn from(environment: Environment) -> proto::Environment {
        let inherit = match environment.inherit {
            Inherit::None => proto::environment::Inherit::None,
            Inherit::AllowList => proto::environment::Inherit::AllowList,
            Inherit::All => proto::environment::Inherit::All,
        };
        proto::Environment { inherit: inherit.into(), set: environment.set, unset: environment.unset }
    }
}

impl From<Stdin> for proto::Stdin {
    fn from(stdin: Stdin) -> proto::Stdin {
        let mode = match stdin {
            Stdin::Null => proto::stdin::Mode::Null,
            Stdin::Inline(_) => proto::stdin::Mode::Inline,
            Stdin::Pipe => proto::stdin::Mode::Pipe,
        };
        proto::Stdin { mode: mode.into(), inline_data: Bytes::new() }
    }
}

impl From<Limits> for proto::Limits {
    fn from(limits: Limits) -> proto::Limits {
        proto::Limits {
            memory_bytes: limits.memory_bytes,
            processes: limits.processes,
            cpus: limits.cpus,
            cpu_time: limits.cpu_time.map(span),
            open_files: limits.open_files,
            output_bytes: limits.output_bytes,
        }
    }
}

impl From<Timeouts> for proto::Timeouts {
    fn from(timeouts: Timeouts) -> proto::Timeouts {
        proto::Timeouts {
            queue: timeouts.queue.map(span),
            first_output: timeouts.first_output.map(span),
            idle: timeouts.idle.map(span),
            run: timeouts.run.map(span),
            wall: timeouts.wall.map(span),
            max_pause: timeouts.max_pause.map(span),
            grace: timeouts.grace.map(span),
            drain: timeouts.drain.map(span),
        }
    }
}

impl From<EffectiveTimeout> for proto::EffectiveTimeout {
    fn from(timeout: EffectiveTimeout) -> proto::EffectiveTimeout {
        let source = match timeout.source {
            Source::Client => proto::effective_timeout::Source::Client,
            Source::Server => proto::effective_timeout::Source::Server,
        };
        proto::EffectiveTimeout { name: timeout.name, value: Some(span(timeout.value)), source: source.into() }
    }
}

impl From<ChannelSummary> for proto::ChannelSummary {
    fn from(summary: ChannelSummary) -> proto::ChannelSummary {
        proto::ChannelSummary {
            channel: proto::Channel::from(summary.channel).into(),
            bytes_total: summary.bytes_total,
            bytes_kept: summary.bytes_kept,
            first_kept_offset: summary.first_kept_offset,
            sha256: summary.sha256.map(|digest| Bytes::copy_from_slice(&digest)).unwrap_or_default(),
        }
    }
}

impl From<Outcome> for proto::Outcome {
    fn from(outcome: Outcome) -> proto::Outcome {
        let success = outcome.is_success();
        proto::Outcome {
            ending: Some(match outcome.ending {
                Ending::Exited(code) => proto::outcome::Ending::ExitCode(code),
                Ending::Signaled { number, core_dumped } => {
                    proto::outcome::Ending::Signal(signal_ending(number, core_dumped))
                }
                Ending::NotStarted(failure) => proto::outcome::Ending::NotStarted(failure.into()),
                Ending::Unknown { why } => proto::outcome::Ending::Unknown(proto::UnknownEnding { why }),
            }),
            cause: proto::Cause::from(outcome.cause).into(),
            success,
            reason: outcome.reason,
            escalation: outcome.escalation.into_iter().map(Into::into).collect(),
            usage: Some(outcome.usage.into()),
            durations: Some(outcome.durations.into()),
            channels: outcome.channels.into_iter().map(Into::into).collect(),
            output_incomplete: outcome.output_incomplete,
            leaked: outcome.leaked.into_iter().map(Into::into).collect(),
            survivors: outcome.survivors.into_iter().map(Into::into).collect(),
        }
    }
}

/// The name of a signal, for instance SIGTERM; real-time signals are numbered from SIGRTMIN.
#[must_use]
pub fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if (34..=64).contains(&number) => format!("SIGRTMIN+{}", number - 34),
        Err(_) => format!("SIG{number}"),
    }
}

fn signal_ending(number: i32, core_dumped: bool) -> proto::SignalEnding {
    proto::SignalEnding { number, name: signal_name(number), core_dumped }
}

impl From<NotStarted> for proto::NotStarted {
    fn from(failure: NotStarted) -> proto::NotStarted {
        use proto::not_started::Step as Wire;
        let step = match failure.step {
            Step::Queue => Wire::Queue,
            Step::Resources => Wire::Resources,
            Step::Containment => Wire::Containment,
            Step::Terminal => Wire::Terminal,
            Step::Limits => Wire::Limits,
            Step::User => Wire::User,
            Step::WorkingDirectory => Wire::WorkingDirectory,
            Step::Exec => Wire::Exec,
            Step::Spool => Wire::Spool,
        };
        let errno_name = match failure.errno {
            0 => String::new(),
            number => format!("{:?}", nix::errno::Errno::from_raw(number)),
        };
        proto::NotStarted {
            step: step.into(),
            errno: failure.errno,
            errno_name,
            path: failure.path.unwrap_or_default(),
            message: failure.message,
        }
    }
}

impl From<SentSignal> for proto::SentSignal {
    fn from(sent: SentSignal) -> proto::SentSignal {
        proto::SentSignal {
            number: sent.number,
            name: signal_name(sent.number),
            time: Some(timestamp(sent.time)),
            processes: sent.processes,
        }
    }
}

impl From<Usage> for proto::Usage {
    fn from(usage: Usage) -> proto::Usage {
        let source = match usage.source {
            None => proto::usage::Source::Unspecified,
            Some(UsageSource::Cgroup) => proto::usage::Source::Cgroup,
            Some(UsageSource::Children) => proto::usage::Source::Children,
        };
        proto::Usage {
            user_cpu: Some(span(usage.user)),
            system_cpu: Some(span(usage.system)),
            peak_memory_bytes: usage.peak_memory_bytes,
            peak_processes: usage.peak_processes,
            read_bytes: usage.read_bytes,
            written_bytes: usage.written_bytes,
            source: source.into(),
        }
    }
}

impl From<Durations> for proto::Durations {
    fn from(durations: Durations) -> proto::Durations {
        proto::Durations {
            queued: Some(span(durations.queued)),
            running: Some(span(durations.running)),
            paused: Some(span(durations.paused)),
            total: Some(span(durations.total)),
        }
    }
}

impl From<Process> for proto::Process {
    fn from(process: Process) -> proto::Process {
        proto::Process { pid: process.pid, command: process.command }
    }
}

impl From<Record> for proto::Record {
    fn from(record: Record) -> proto::Record {
        proto::Record {
            execution: Some(record.snapshot.into()),
            spec_sha256: Bytes::copy_from_slice(&record.spec_sha256),
            timeouts: record.timeouts.into_iter().map(Into::into).collect(),
            node: record.node,
            build: record.build,
            expire_time: record.expires.map(timestamp),
        }
    }
}

impl From<Gap> for proto::Gap {
    fn from(gap: Gap) -> proto::Gap {
        use proto::gap::Reason;
        let reason = match gap.reason {
            GapReason::OutputLimit => Reason::OutputLimit,
            GapReason::SpoolFailed => Reason::SpoolFailed,
            GapReason::Corrupt => Reason::Corrupt,
            GapReason::ServerLost => Reason::ServerLost,
        };
        let (first_seq, last_seq) = gap.events.unzip();
        let range = |(channel, range): (Channel, std::ops::Range<u64>)| proto::ByteRange {
            channel: proto::Channel::from(channel).into(),
            start: range.start,
            end: range.end,
        };
        proto::Gap { first_seq, last_seq, ranges: gap.ranges.into_iter().map(range).collect(), reason: reason.into() }
    }
}

impl From<EventKind> for proto::execution_event::Event {
    fn from(kind: EventKind) -> proto::execution_event::Event {
        match kind {
            EventKind::Output { channel, offset, data } => {
                let channel = proto::Channel::from(channel).into();
                proto::execution_event::Event::Output(proto::Output { channel, offset, data })
            }
            EventKind::Note(note) => note.into(),
        }
    }
}

impl From<Note> for proto::execution_event::Event {
    fn from(note: Note) -> proto::execution_event::Event {
        use proto::execution_event::Event;
        match note {
            Note::Queued { position } => Event::Queued(proto::Queued { position }),
            Note::Started { pid, containment, timeouts, limits } => Event::Started(proto::Started {
                pid,
                containment: proto::Containment::from(containment).into(),
                timeouts: timeouts.into_iter().map(Into::into).collect(),
                limits: Some(limits.into()),
            }),
            Note::StateChanged { from, to, reason, actor } => Event::StateChanged(proto::StateChanged {
                from: proto::ExecutionState::from(from).into(),
                to: proto::ExecutionState::from(to).into(),
                reason,
                actor: actor_name(actor).to_owned(),
            }),
            Note::Warning { kind, message, remaining } => Event::Warning(proto::Warning {
                kind: warning_kind(kind).into(),
                message,
                remaining: remaining.map(span),
            }),
            Note::Gap(gap) => Event::Gap(gap.into()),
            Note::Exited { ending, open_channels } => Event::Exited(exited(ending, &open_channels)),
            Note::Completed(outcome) => Event::Completed(proto::Completed { outcome: Some((*outcome).into()) }),
        }
    }
}

fn exited(ending: Ending, open_channels: &[Channel]) -> proto::Exited {
    use proto::exited::Ending as Wire;
    let ending = match ending {
        Ending::Exited(code) => Wire::ExitCode(code),
        Ending::Signaled { number, core_dumped } => Wire::Signal(signal_ending(number, core_dumped)),
        Ending::Unknown { why } => Wire::Unknown(proto::UnknownEnding { why }),
        Ending::NotStarted(failure) => Wire::Unknown(proto::UnknownEnding { why: failure.message }),
    };
    let open_channels = open_channels.iter().map(|channel| proto::Channel::from(*channel).into()).collect();
    proto::Exited { ending: Some(ending), open_channels }
}

fn actor_name(actor: Actor) -> &'static str {
    match actor {
        Actor::Client => "client",
        Actor::Timeout => "timeout",
        Actor::Server => "server",
        Actor::Process => "process",
    }
}

fn warning_kind(kind: WarningKind) -> proto::warning::Kind {
    use proto::warning::Kind;
    match kind {
        WarningKind::TimeoutNear => Kind::TimeoutNear,
        WarningKind::Idle => Kind::Idle,
        WarningKind::OutputLimit => Kind::OutputLimit,
        WarningKind::Spool => Kind::Spool,
        WarningKind::Leak => Kind::Leak,
        WarningKind::PauseIncomplete => Kind::PauseIncomplete,
        WarningKind::ServerStopping => Kind::ServerStopping,
    }
}

impl From<crate::history::stats::Figures> for proto::Stats {
    fn from(figures: crate::history::stats::Figures) -> proto::Stats {
        let quantile = |pick: fn(&crate::history::stats::Quantiles) -> Duration| {
            figures.running.as_ref().map(|all| span(pick(all)))
        };
        proto::Stats {
            count: figures.count,
            succeeded: figures.succeeded,
            p50: quantile(|all| all.p50),
            p90: quantile(|all| all.p90),
            p99: quantile(|all| all.p99),
            max: quantile(|all| all.max),
            causes: figures
                .causes
                .into_iter()
                .map(|(cause, count)| proto::CauseCount { cause: proto::Cause::from(cause).into(), count })
                .collect(),
            output_bytes: figures.output_bytes,
        }
    }
}

/// A number of things, for the wire.
pub(crate) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
