//! `logs`: prints the output of a run, and nothing else.

use clap::{Args, ValueEnum};

use super::connection::{Connection, Reach};
use super::failure::Failure;
use super::follow::{Follower, STREAM};
use super::view::{Form, View};
use super::{identify, watch};
use crate::config::quantity::size;
use crate::proto::{self, AttachRequest, FromStart, attach_request};

/// Prints the output of a run, byte by byte: stdout to stdout, stderr to stderr, a terminal to stdout.
#[derive(Args)]
pub(super) struct Logs {
    /// The run: its id, or a beginning or end of it that no other has
    id: String,
    /// Go on until the run ends
    #[arg(long, short)]
    follow: bool,
    /// Only the last so many bytes, e.g. 4096 or 64KiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    tail: Option<u64>,
    /// Only this channel
    #[arg(long)]
    channel: Option<Channel>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Channel {
    Stdout,
    Stderr,
    Terminal,
}

impl Logs {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        self.reach.with(async |connection| Box::pin(self.on(connection)).await).await
    }

    async fn on(&self, connection: &Connection) -> Result<u8, Failure> {
        let channel = self.channel.map(|channel| match channel {
            Channel::Stdout => proto::Channel::Stdout,
            Channel::Stderr => proto::Channel::Stderr,
            Channel::Terminal => proto::Channel::Terminal,
        });
        let start = attach_request::From::Start(FromStart {});
        let request = AttachRequest {
            execution_id: identify::id(connection, &self.id).await?,
            from: Some(self.tail.map_or(start, attach_request::From::TailBytes)),
            follow: self.follow,
            channels: channel.into_iter().map(i32::from).collect(),
            stream: Some(STREAM),
            ..AttachRequest::default()
        };
        // Remarks are wanted: bytes that are missing must not go unnoticed.
        let mut view = View::new(Form::Output, false);
        let mut follower = Follower::attach(connection.executions(), request);
        watch::to_end(&mut follower, &mut view, || ()).await?;
        Ok(0)
    }
}
