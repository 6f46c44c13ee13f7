//! Events as a person at a terminal, or a program behind a pipe, wants them: bytes to stdout and stderr exactly as the run
//! wrote them, or one JSON event a line. What else there is to say goes to stderr, and only where it cannot be taken for output.

use std::io::{self, IsTerminal};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use tokio::io::{AsyncWrite, AsyncWriteExt, Stderr, Stdout};
use tokio::time::Instant;

use super::failure::Failure;
use super::human;
use super::status_line::StatusLine;
use crate::json;
use crate::proto::execution_event::Event;
use crate::proto::gap::Reason;
use crate::proto::{Channel, ExecutionEvent, ExecutionState, Gap, Outcome};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The output, and remarks for people.
    Output,
    /// The output and nothing else.
    Quiet,
    /// Every event as a line of JSON.
    Json,
}

/// Shows the events of one run.
pub(super) struct View {
    form: Form,
    stdout: Stdout,
    stderr: Stderr,
    /// Which of the two are terminals, where remarks and output share the screen.
    is_terminal: [bool; 2],
    line: StatusLine,
    progress: Progress,
}

/// What the status line tells.
struct Progress {
    state: ExecutionState,
    queue_position: u32,
    since: Instant,
    heard: Instant,
    /// Left of the nearest timeout, and when that was said.
    remaining: Option<(Duration, Instant)>,
}

impl View {
    /// A view in this form; `with_line` when it may draw a status line.
    pub(super) fn new(form: Form, with_line: bool) -> View {
        let now = Instant::now();
        View {
            form,
            stdout: tokio::io::stdout(),
            stderr: tokio::io::stderr(),
            is_terminal: [io::stdout().is_terminal(), io::stderr().is_terminal()],
            line: StatusLine::new(with_line && form == Form::Output),
            progress: Progress {
                state: ExecutionState::Queued,
                queue_position: 0,
                since: now,
                heard: now,
                remaining: None,
            },
        }
    }

    /// Shows one event. Waits while the reader of stdout does not read.
    pub(super) async fn show(&mut self, event: &ExecutionEvent) -> Result<(), Failure> {
        if self.form == Form::Json {
            let line = json::text("ExecutionEvent", event) + "\n";
            return write(&mut self.stdout, line.as_bytes()).await;
        }
        self.progress.note(event);
        match &event.event {
            Some(Event::Output(output)) => self.output(output.channel(), &output.data).await?,
            Some(Event::Gap(gap)) => self.remark(&missing(gap)),
            Some(Event::Warning(warning)) if self.is_terminal[1] => self.remark(&human::printable(&warning.message)),
            _ => {}
        }
        Ok(())
    }

    /// Draws the status line anew.
    pub(super) fn tick(&mut self, is_connected: bool) {
        let progress = &self.progress;
        let lost = if is_connected { "" } else { " · no connection, trying again" };
        self.line.show(|| progress.text(Instant::now()) + lost);
    }

    /// The last line: always what went wrong, and on a terminal also that all went well.
    pub(super) fn conclude(&mut self, outcome: &Outcome) {
        if self.form != Form::Output {
            return;
        }
        let whole = outcome.durations.as_ref().and_then(|durations| human::from_wire(durations.total));
        let took = whole.map_or_else(String::new, |total| format!(" in {}", human::time(total)));
        let words = human::outcome(outcome);
        let self_ended = outcome.cause() == crate::proto::Cause::Exited;
        if self.is_terminal[1] {
            let (style, sign) = if outcome.success { (GOOD, '✓') } else { (BAD, '✗') };
            self.say(&format!("{style}{sign} {words}{took}{style:#}"));
        } else if !self_ended {
            self.remark(&words);
        }
        if outcome.output_incomplete {
            self.remark("output is missing at the end");
        }
        if !outcome.leaked.is_empty() && self.is_terminal[1] {
            self.remark(&format!("{} processes outlived the command and were ended", outcome.leaked.len()));
        }
        for process in &outcome.survivors {
            self.remark(&format!("process {} could not be ended: {}", process.pid, human::printable(&process.command)));
        }
    }

    /// Says something about the run that is no output of it.
    pub(super) fn remark(&mut self, text: &str) {
        if self.form != Form::Quiet {
            self.say(&format!("cc-executor: {text}"));
        }
    }

    fn say(&mut self, text: &str) {
        self.line.hide();
        let start = if self.line.is_at_line_start() { "" } else { "\n" };
        super::print::complain(&format!("{start}{text}"));
        self.line.wrote(b"\n");
    }

    async fn output(&mut self, channel: Channel, data: &[u8]) -> Result<(), Failure> {
        self.line.hide();
        let to_stderr = channel == Channel::Stderr;
        if to_stderr {
            write(&mut self.stderr, data).await?;
        } else {
            write(&mut self.stdout, data).await?;
        }
        if self.is_terminal[usize::from(to_stderr)] {
            self.line.wrote(data);
        }
        Ok(())
    }
}

impl Progress {
    fn note(&mut self, event: &ExecutionEvent) {
        let now = Instant::now();
        match &event.event {
            Some(Event::Accepted(accepted)) => {
                if let Some(execution) = &accepted.execution {
                    self.state = execution.state();
                    self.since = began(execution.start_time, now);
                }
            }
            Some(Event::Queued(queued)) => self.queue_position = queued.position,
            Some(Event::Started(_)) => {
                self.state = ExecutionState::Running;
                (self.since, self.heard) = (began(event.time, now), now);
            }
            Some(Event::StateChanged(changed)) => self.state = changed.to(),
            Some(Event::Output(_)) => self.heard = now,
            Some(Event::Keepalive(alive)) => {
                self.state = alive.state();
                self.remaining = human::from_wire(alive.remaining).map(|left| (left, now));
            }
            _ => {}
        }
    }

    /// `running 1m 05s · silent for 30s · 4m 00s left`.
    fn text(&self, now: Instant) -> String {
        let mut text = format!("{} {}", human::state(self.state), human::time(now.duration_since(self.since)));
        if self.state == ExecutionState::Queued && self.queue_position > 0 {
            text.push_str(&format!(" · number {} in the queue", self.queue_position));
        }
        let silent = now.duration_since(self.heard);
        if self.state == ExecutionState::Running && silent >= Duration::from_secs(5) {
            text.push_str(&format!(" · silent for {}", human::time(silent)));
        }
        if let Some((left, said)) = self.remaining {
            text.push_str(&format!(" · {} left", human::time(left.saturating_sub(now.duration_since(said)))));
        }
        text
    }
}

/// A moment of the server's clock on ours; now when it says nothing useful.
fn began(time: Option<prost_types::Timestamp>, now: Instant) -> Instant {
    let past =
        human::moment(time).and_then(|then| Duration::try_from(jiff::Timestamp::now().duration_since(then)).ok());
    past.and_then(|past| now.checked_sub(past)).unwrap_or(now)
}

/// What a gap means, in one sentence.
fn missing(gap: &Gap) -> String {
    let bytes: u64 = gap.ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
    let why = match gap.reason() {
        Reason::OutputLimit => "the output limit was reached",
        Reason::SpoolFailed => "the server could not store them",
        Reason::Corrupt => "the log is damaged there",
        Reason::ServerLost => "the server was lost before it had stored them",
        Reason::Unspecified => "the server does not say why",
    };
    format!("{} of output are missing here: {why}", human::size(bytes))
}

/// Writes all of it, through to the file.
async fn write(to: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> Result<(), Failure> {
    to.write_all(data).await.map_err(Failure::output)?;
    to.flush().await.map_err(Failure::output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{ByteRange, Keepalive};

    #[test]
    fn status_line_says_what_a_person_wonders() {
        let start = Instant::now();
        let mut progress =
            Progress { state: ExecutionState::Queued, queue_position: 3, since: start, heard: start, remaining: None };
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(progress.text(after(2)), "queued 2.0s · number 3 in the queue");
        progress.state = ExecutionState::Running;
        assert_eq!(progress.text(after(4)), "running 4.0s");
        progress.remaining = Some((Duration::from_secs(300), after(30)));
        assert_eq!(progress.text(after(65)), "running 1m 05s · silent for 1m 05s · 4m 25s left");
        let alive = Keepalive { state: ExecutionState::Paused.into(), ..Keepalive::default() };
        progress.note(&ExecutionEvent { event: Some(Event::Keepalive(alive)), ..ExecutionEvent::default() });
        assert_eq!(progress.text(after(65)), "paused 1m 05s");
    }

    #[test]
    fn gaps_are_counted() {
        let ranges = vec![ByteRange { channel: 1, start: 0, end: 2048 }, ByteRange { channel: 2, start: 5, end: 5 }];
        let gap = Gap { ranges, reason: Reason::OutputLimit.into(), ..Gap::default() };
        assert_eq!(missing(&gap), "2.0 KiB of output are missing here: the output limit was reached");
    }
}
