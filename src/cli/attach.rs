//! `attach`: replays a run from any point and follows it to its end.

use std::str::FromStr;

use clap::Args;

use super::connection::{Connection, Reach};
use super::failure::Failure;
use super::follow::{Follower, STREAM};
use super::view::{Form, View};
use super::{exit, identify, watch};
use crate::config::quantity::size;
use crate::proto::{AttachRequest, Cursor, FromNow, FromStart, attach_request};

/// Replays a run from any point and follows it to its end. Ctrl-C leaves; the run goes on.
#[derive(Args)]
pub(super) struct Attach {
    /// The run: its id, or a beginning or end of it that no other has
    id: String,
    /// Where to begin: start, now, cursor:NUMBER (behind that event) or tail:SIZE
    #[arg(long, value_name = "WHERE", default_value = "start")]
    from: From,
    /// Leave when all there is has been shown
    #[arg(long)]
    no_follow: bool,
    /// Print every event as a line of JSON instead of the output
    #[arg(long)]
    json: bool,
    /// Print nothing but the output
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Start,
    Now,
    Behind(u64),
    Tail(u64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<From, String> {
        let wrong = || format!("\"{text}\" is not a place; write start, now, cursor:NUMBER or tail:SIZE");
        match text.split_once(':') {
            None if text == "start" => Ok(From::Start),
            None if text == "now" => Ok(From::Now),
            Some(("cursor", seq)) => seq.parse().map(From::Behind).map_err(|_| wrong()),
            Some(("tail", bytes)) => size(bytes).map(From::Tail).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl std::convert::From<From> for attach_request::From {
    fn from(from: From) -> attach_request::From {
        match from {
            From::Start => attach_request::From::Start(FromStart {}),
            From::Now => attach_request::From::Now(FromNow {}),
            From::Behind(seq) => attach_request::From::Cursor(Cursor { epoch: crate::execution::event::EPOCH, seq }),
            From::Tail(bytes) => attach_request::From::TailBytes(bytes),
        }
    }
}

impl Attach {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        self.reach.with(async |connection| Box::pin(self.on(connection)).await).await
    }

    async fn on(&self, connection: &Connection) -> Result<u8, Failure> {
        let request = AttachRequest {
            execution_id: identify::id(connection, &self.id).await?,
            from: Some(self.from.into()),
            follow: !self.no_follow,
            stream: Some(STREAM),
            ..AttachRequest::default()
        };
        let form = match (self.json, self.quiet) {
            (true, _) => Form::Json,
            (_, true) => Form::Quiet,
            _ => Form::Output,
        };
        let mut view = View::new(form, !self.no_follow);
        let mut follower = Follower::attach(connection.executions(), request);
        // Without a follower there is no end to report, and the run may still go on.
        let Some(outcome) = watch::to_end(&mut follower, &mut view, || ()).await? else { return Ok(0) };
        view.conclude(&outcome);
        Ok(exit::code(&outcome, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        for (text, place) in [
            ("start", From::Start),
            ("now", From::Now),
            ("cursor:12", From::Behind(12)),
            ("tail:4KiB", From::Tail(4096)),
        ] {
            assert_eq!(text.parse(), Ok(place));
        }
        for text in ["", "then", "cursor:", "cursor:-1", "tail:x", "start:1"] {
            assert!(text.parse::<From>().unwrap_err().contains("is not a place"), "{text}");
        }
    }
}
