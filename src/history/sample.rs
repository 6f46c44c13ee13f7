//! Runs and filters for tests: one plain run to start from, and strategies for arbitrary ones.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;

use super::Record;
use super::filter::Filter;
use crate::execution::Snapshot;
use crate::execution::command::{Command, CommandLine, EffectiveTimeout, Options, Source};
use crate::execution::event::{Channel, Cursor};
use crate::execution::outcome::{Cause, ChannelSummary, Durations, Ending, NotStarted, Outcome, Step, Usage};
use crate::execution::state::State;

/// The instant `nanoseconds` after an arbitrary one.
pub(crate) fn instant(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(1_700_000_000_000_000_000 + i128::from(nanoseconds)).expect("within range")
}

/// A run that was accepted at `instant(created)` and has just begun.
pub(crate) fn begun(id: &str, created: i64) -> Record {
    let line = CommandLine::Argv { program: "make".to_owned(), args: vec!["test".to_owned()] };
    Record {
        snapshot: Snapshot {
            id: id.parse().expect("a valid id"),
            command: Command { line, options: Options::default() },
            state: State::Queued,
            queue_position: Some(1),
            created: instant(created),
            started: None,
            exited: None,
            completed: None,
            pid: None,
            containment: None,
            last_cursor: Cursor::at(2),
            channels: Vec::new(),
            stdin_offset: None,
            watchers: 1,
            outcome: None,
        },
        spec_sha256: [7; 32],
        timeouts: vec![EffectiveTimeout {
            name: "run".to_owned(),
            value: Duration::new(60, 1),
            source: Source::Server,
        }],
        node: "node".to_owned(),
        build: "0.1.0".to_owned(),
        instance: "instance".to_owned(),
        expires: None,
    }
}

/// The run of `begun(id, created)` after it exited with 0, a millisecond later.
pub(crate) fn ended(id: &str, created: i64) -> Record {
    end(begun(id, created), Ending::Exited(0), Cause::Exited, Duration::from_millis(1), 3)
}

/// `record` after its run started, wrote `bytes` and came to this end after `running`.
pub(crate) fn end(mut record: Record, ending: Ending, cause: Cause, running: Duration, bytes: u64) -> Record {
    let run = &mut record.snapshot;
    let has_started = !matches!(ending, Ending::NotStarted(_));
    run.state = State::Completed;
    run.queue_position = None;
    run.started = has_started.then_some(run.created);
    run.completed = Some(run.created.saturating_add(running).expect("a duration without calendar units"));
    run.outcome = Some(Outcome {
        ending,
        cause,
        reason: String::new(),
        escalation: Vec::new(),
        usage: Usage::default(),
        durations: Durations { running, ..Durations::default() },
        channels: vec![ChannelSummary {
            channel: Channel::Stdout,
            bytes_total: bytes,
            bytes_kept: bytes,
            first_kept_offset: 0,
            sha256: Some([9; 32]),
        }],
        output_incomplete: false,
        leaked: Vec::new(),
        survivors: Vec::new(),
    });
    record
}

/// An arbitrary run of this id, ended or not, made of few values so that filters hit and miss.
pub(crate) fn record(id: String) -> impl Strategy<Value = Record> {
    let line = prop_oneof![
        (text(), proptest::collection::vec(text(), 0..3))
            .prop_map(|(program, args)| CommandLine::Argv { program, args }),
        text().prop_map(|script| CommandLine::Shell { script, interpreter: None }),
    ];
    let labels = proptest::collection::btree_map(select(KEYS.as_slice()).prop_map(str::to_owned), text(), 0..3);
    let state = select(&State::ALL[..7]);
    let ending = prop_oneof![
        Just(None),
        (ending(), select(Cause::ALL.as_slice()), durations(), 0..9_u64).prop_map(Some),
        (ending(), select(Cause::ALL.as_slice()), durations(), 0..9_u64).prop_map(Some),
    ];
    (line, labels, proptest::option::of(text()), 0..5_i64, state, ending).prop_map(
        move |(line, labels, user, created, state, ending)| {
            let mut record = begun(&id, created);
            record.snapshot.state = state;
            record.snapshot.command.line = line;
            record.snapshot.command.options = Options { labels, user, ..Options::default() };
            match ending {
                Some((ending, cause, running, bytes)) => end(record, ending, cause, running, bytes),
                None => record,
            }
        },
    )
}

/// An arbitrary filter over the values that [`record`] uses.
pub(crate) fn filter() -> impl Strategy<Value = Filter> {
    let expression = term().prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| format!("NOT ({inner})")),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(") AND ("))),
            proptest::collection::vec(inner, 2..4).prop_map(|parts| format!("({})", parts.join(") OR ("))),
        ]
    });
    expression.prop_map(|text| Filter::parse(&text).expect(&text))
}

/// The label keys in use.
pub(crate) const KEYS: [&str; 3] = ["team", "app.example/part", "odd key \"1\""];

fn term() -> impl Strategy<Value = String> {
    let ordered = select(["=", "!=", "<", "<=", ">", ">="].as_slice());
    let equality = select(["=", "!="].as_slice());
    let texts = prop_oneof![
        select(["execution_id", "command", "user"].as_slice()).prop_map(str::to_owned),
        select(KEYS.as_slice()).prop_map(|key| format!("labels.{}", quoted(key))),
    ];
    let times = select(["create_time", "start_time", "complete_time"].as_slice());
    let anything = prop_oneof![
        texts.clone(),
        select(["state", "cause", "success", "exit_code", "signal", "start_time", "duration"].as_slice())
            .prop_map(str::to_owned),
    ];
    prop_oneof![
        (texts.clone(), ordered.clone(), text())
            .prop_map(|(column, by, text)| format!("{column} {by} {}", quoted(&text))),
        (texts, text()).prop_map(|(column, text)| format!("{column}:{}", quoted(&text))),
        anything.prop_map(|column| format!("{column}:*")),
        (equality.clone(), select(State::ALL.as_slice()))
            .prop_map(|(by, state)| format!("state {by} {}", state.name())),
        (equality.clone(), select(Cause::ALL.as_slice()))
            .prop_map(|(by, cause)| format!("cause {by} {}", cause.name())),
        (equality, any::<bool>()).prop_map(|(by, flag)| format!("success {by} {flag}")),
        (select(["exit_code", "signal"].as_slice()), ordered.clone(), -1..3_i32)
            .prop_map(|(column, by, number)| format!("{column} {by} {number}")),
        (times, ordered.clone(), 0..5_i64).prop_map(|(column, by, time)| format!("{column} {by} {}", instant(time))),
        (ordered, durations()).prop_map(|(by, length)| format!("duration {by} {}ns", length.as_nanos())),
    ]
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(["", "a", "b", "ab", "make", "web", "*", "ä", "A", "100%", "a_b"].as_slice()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn durations() -> impl Strategy<Value = Duration> {
    select([0, 1, 999_999_999, 1_000_000_000, 90_000_000_000].as_slice()).prop_map(Duration::from_nanos)
}

fn ending() -> impl Strategy<Value = Ending> {
    let not_started = NotStarted { step: Step::Exec, errno: 2, path: None, message: "not found".to_owned() };
    prop_oneof![
        (-1..3_i32).prop_map(Ending::Exited),
        (1..3_i32).prop_map(|number| Ending::Signaled { number, core_dumped: false }),
        Just(Ending::NotStarted(not_started)),
        Just(Ending::Unknown { why: "lost".to_owned() }),
    ]
}

/// The labels of one pair.
pub(crate) fn labels(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}
