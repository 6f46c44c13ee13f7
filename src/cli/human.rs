//! Facts as people like to read them: times, sizes, names without prefixes, outcomes as a few words.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::Timestamp;

use crate::proto::outcome::Ending;
use crate::proto::{self, Cause, ExecutionState, Outcome, execution};

/// A length of time, to three places at most: `85ms`, `1.2s`, `3m 05s`, `2h 04m`, `3d 02h`.
pub(super) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{:.1}s", (duration.as_millis() / 100) as f64 / 10.0),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A length of time from the wire; a dash where there is none.
pub(super) fn maybe_time(duration: Option<prost_types::Duration>) -> String {
    from_wire(duration).map_or_else(|| "-".to_owned(), time)
}

/// A length of time from the wire; `None` also for a negative one.
pub(super) fn from_wire(duration: Option<prost_types::Duration>) -> Option<Duration> {
    duration.and_then(|duration| Duration::try_from(duration).ok())
}

/// A moment as the time since then; a dash where there is none.
pub(super) fn ago(time: Option<prost_types::Timestamp>, now: Timestamp) -> String {
    let Some(then) = moment(time) else { return "-".to_owned() };
    let past = Duration::try_from(now.duration_since(then)).unwrap_or_default().as_secs();
    match past {
        0 => "now".to_owned(),
        1..60 => format!("{past}s ago"),
        _ => format!("{} ago", self::time(Duration::from_secs(past))),
    }
}

/// A moment in full; a dash where there is none.
pub(super) fn full(time: Option<prost_types::Timestamp>) -> String {
    moment(time).map_or_else(|| "-".to_owned(), |time| format!("{time:.3}"))
}

/// A moment from the wire.
pub(super) fn moment(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

/// A number of bytes.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// Text without anything that could move the cursor or change colours.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// What runs, on one line, cut to `width` characters.
pub(super) fn command(execution: &proto::Execution, width: usize) -> String {
    let line = match &execution.command {
        Some(execution::Command::Argv(argv)) => {
            std::iter::once(&argv.program).chain(&argv.args).map(String::as_str).collect::<Vec<_>>().join(" ")
        }
        Some(execution::Command::Shell(shell)) => {
            shell.script.split('\n').map(str::trim).collect::<Vec<_>>().join("; ")
        }
        None => String::new(),
    };
    let line = printable(&line);
    if line.chars().count() <= width { line } else { line.chars().take(width - 1).chain(['…']).collect() }
}

/// A state's name in small letters.
pub(super) fn state(state: ExecutionState) -> String {
    plain(state.as_str_name(), "EXECUTION_STATE_")
}

/// A cause's name as words.
pub(super) fn cause(cause: Cause) -> String {
    plain(cause.as_str_name(), "CAUSE_")
}

/// An enum value's name without its prefix, as words.
pub(super) fn plain(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}

/// How a run ended, in a few words: `exited 0`, `ended by SIGKILL (run timeout)`, `not started: no such program`.
pub(super) fn outcome(outcome: &Outcome) -> String {
    let ending = match &outcome.ending {
        Some(Ending::ExitCode(code)) => format!("exited {code}"),
        Some(Ending::Signal(signal)) if signal.core_dumped => format!("ended by {} with a core dump", signal.name),
        Some(Ending::Signal(signal)) => format!("ended by {}", signal.name),
        Some(Ending::NotStarted(failed)) => format!("not started: {}", failed.message),
        Some(Ending::Unknown(unknown)) => format!("outcome unknown: {}", unknown.why),
        None => "outcome unknown: the server named no ending".to_owned(),
    };
    let why = match outcome.cause() {
        Cause::Exited | Cause::SpawnFailed => String::new(),
        other if outcome.reason.is_empty() => format!(" ({})", cause(other)),
        other => format!(" ({}: {})", cause(other), outcome.reason),
    };
    printable(&format!("{ending}{why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Argv, Shell, SignalEnding};

    #[test]
    fn times_have_three_places() {
        for (milliseconds, text) in [
            (0, "0ms"),
            (85, "85ms"),
            (1_250, "1.2s"),
            (59_999, "59.9s"),
            (185_000, "3m 05s"),
            (7_440_000, "2h 04m"),
            (266_400_000, "3d 02h"),
        ] {
            assert_eq!(time(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn commands_fit_on_a_line_and_cannot_move_the_cursor() {
        let shell = |script: &str| proto::Execution {
            command: Some(execution::Command::Shell(Shell { script: script.to_owned(), ..Shell::default() })),
            ..proto::Execution::default()
        };
        assert_eq!(command(&shell("echo a\n  echo b"), 40), "echo a; echo b");
        assert_eq!(command(&shell("echo \u{1b}[2J"), 40), "echo \\u{1b}[2J");
        assert_eq!(command(&shell("écho wörld"), 5), "écho…");
        let argv = Argv { program: "ls".to_owned(), args: vec!["-l".to_owned()] };
        let execution =
            proto::Execution { command: Some(execution::Command::Argv(argv)), ..proto::Execution::default() };
        assert_eq!(command(&execution, 40), "ls -l");
    }

    #[test]
    fn outcomes_say_how_and_why() {
        let exited = Outcome { ending: Some(Ending::ExitCode(3)), cause: Cause::Exited.into(), ..Outcome::default() };
        assert_eq!(outcome(&exited), "exited 3");
        let kill = SignalEnding { number: 9, name: "SIGKILL".to_owned(), core_dumped: false };
        let late =
            Outcome { ending: Some(Ending::Signal(kill)), cause: Cause::RunTimeout.into(), ..Outcome::default() };
        assert_eq!(outcome(&late), "ended by SIGKILL (run timeout)");
        assert_eq!(
            outcome(&Outcome { reason: "too slow".to_owned(), ..late }),
            "ended by SIGKILL (run timeout: too slow)"
        );
    }
}
