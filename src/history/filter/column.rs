//! What can be filtered by: the columns, their kinds of value, and where a run has them.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::parse::is_key_character;
use crate::execution::Snapshot;
use crate::execution::outcome::{Cause, Ending};
use crate::execution::state::State;

/// Something about a run that a filter can test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// The id.
    ExecutionId,
    /// Where the run is in its life.
    State,
    /// Why it ended.
    Cause,
    /// Whether it ended well.
    Success,
    /// The exit code, where there is one.
    ExitCode,
    /// The signal that ended it, where one did.
    Signal,
    /// The command line or script.
    Command,
    /// The user asked for.
    User,
    /// The label of this key.
    Label(String),
    /// When it was accepted.
    CreateTime,
    /// When it was spawned.
    StartTime,
    /// When it was sealed.
    CompleteTime,
    /// How long it ran, pauses not counted; only of runs that started and ended.
    Duration,
}

/// A value of a column. Ordered within one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd)]
pub enum Value {
    /// Any text.
    Text(String),
    /// The name of a state or cause.
    Name(&'static str),
    /// True or false.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// An instant.
    Time(Timestamp),
    /// A length of time.
    Duration(Duration),
}

/// What values a column takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    State,
    Cause,
    Flag,
    Number,
    Time,
    Duration,
}

impl Column {
    /// All but the labels; their names are fixed words of `[a-z_]`.
    pub const NAMED: [Column; 12] = [
        Column::ExecutionId,
        Column::State,
        Column::Cause,
        Column::Success,
        Column::ExitCode,
        Column::Signal,
        Column::Command,
        Column::User,
        Column::CreateTime,
        Column::StartTime,
        Column::CompleteTime,
        Column::Duration,
    ];

    /// The value of this column for `run`, if it has one.
    #[must_use]
    pub fn of(&self, run: &Snapshot) -> Option<Value> {
        let options = &run.command.options;
        let outcome = run.outcome.as_ref();
        match self {
            Column::ExecutionId => Some(Value::Text(run.id.to_string())),
            Column::State => Some(Value::Name(run.state.name())),
            Column::Cause => Some(Value::Name(outcome?.cause.name())),
            Column::Success => Some(Value::Flag(outcome?.is_success())),
            Column::ExitCode => match outcome?.ending {
                Ending::Exited(code) => Some(Value::Number(code.into())),
                Ending::Signaled { .. } | Ending::NotStarted(_) | Ending::Unknown { .. } => None,
            },
            Column::Signal => match outcome?.ending {
                Ending::Signaled { number, .. } => Some(Value::Number(number.into())),
                Ending::Exited(_) | Ending::NotStarted(_) | Ending::Unknown { .. } => None,
            },
            Column::Command => Some(Value::Text(run.command.line.text())),
            Column::User => options.user.clone().map(Value::Text),
            Column::Label(key) => options.labels.get(key).cloned().map(Value::Text),
            Column::CreateTime => Some(Value::Time(run.created)),
            Column::StartTime => run.started.map(Value::Time),
            Column::CompleteTime => run.completed.map(Value::Time),
            Column::Duration => run.started.and(outcome).map(|outcome| Value::Duration(outcome.durations.running)),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Column::ExecutionId | Column::Command | Column::User | Column::Label(_) => Kind::Text,
            Column::State => Kind::State,
            Column::Cause => Kind::Cause,
            Column::Success => Kind::Flag,
            Column::ExitCode | Column::Signal => Kind::Number,
            Column::CreateTime | Column::StartTime | Column::CompleteTime => Kind::Time,
            Column::Duration => Kind::Duration,
        }
    }
}

impl Kind {
    pub(super) fn is_ordered(self) -> bool {
        !matches!(self, Kind::State | Kind::Cause | Kind::Flag)
    }

    /// The value that `text` spells, if it spells one of this kind.
    pub(super) fn read(self, text: &str) -> Option<Value> {
        let same = |name: &&'static str| name.eq_ignore_ascii_case(text);
        match self {
            Kind::Text => Some(Value::Text(text.to_owned())),
            Kind::State => State::ALL.map(State::name).into_iter().find(same).map(Value::Name),
            Kind::Cause => Cause::ALL.map(Cause::name).into_iter().find(same).map(Value::Name),
            Kind::Flag => text.to_ascii_lowercase().parse().ok().map(Value::Flag),
            Kind::Number => text.parse().ok().map(Value::Number),
            Kind::Time => text.parse().ok().map(Value::Time),
            Kind::Duration => {
                let signed: SignedDuration = text.parse().ok()?;
                Duration::try_from(signed).ok().map(Value::Duration)
            }
        }
    }

    /// What fits, for the end of a sentence.
    pub(super) fn description(self) -> String {
        match self {
            Kind::Text => "a text".to_owned(),
            Kind::State => format!("one of {}", State::ALL.map(State::name).join(", ")),
            Kind::Cause => format!("one of {}", Cause::ALL.map(Cause::name).join(", ")),
            Kind::Flag => "true or false".to_owned(),
            Kind::Number => "a whole number".to_owned(),
            Kind::Time => "a time such as 2026-01-31T12:00:00Z".to_owned(),
            Kind::Duration => "a duration such as 1.5s, 10m or 2h".to_owned(),
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Column::ExecutionId => "execution_id",
            Column::State => "state",
            Column::Cause => "cause",
            Column::Success => "success",
            Column::ExitCode => "exit_code",
            Column::Signal => "signal",
            Column::Command => "command",
            Column::User => "user",
            Column::CreateTime => "create_time",
            Column::StartTime => "start_time",
            Column::CompleteTime => "complete_time",
            Column::Duration => "duration",
            Column::Label(key) if !key.is_empty() && key.chars().all(is_key_character) => {
                return write!(f, "labels.{key}");
            }
            Column::Label(key) => return write!(f, "labels.{}", Quoted(key)),
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => Quoted(text).fmt(f),
            Value::Name(name) => f.write_str(name),
            Value::Flag(flag) => flag.fmt(f),
            Value::Number(number) => number.fmt(f),
            Value::Time(time) => time.fmt(f),
            Value::Duration(duration) if duration.subsec_nanos() == 0 => write!(f, "{}s", duration.as_secs()),
            Value::Duration(duration) => write!(f, "{}.{:09}s", duration.as_secs(), duration.subsec_nanos()),
        }
    }
}

/// A text as it is written in a filter.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}"),
                '\n' => f.write_str("\\n"),
                '\r' => f.write_str("\\r"),
                '\t' => f.write_str("\\t"),
                other => f.write_char(other),
            }?;
        }
        f.write_char('"')
    }
}
