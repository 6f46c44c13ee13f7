//! `stdin`: feeds standard input of a run that was started elsewhere.

use std::path::PathBuf;

use clap::Args;
use tokio::fs::File;
use tokio::io::AsyncRead;

use super::connection::{Connection, Reach};
use super::failure::Failure;
use super::feed::Feed;
use super::{human, identify, print};

/// Feeds standard input of a run from standard input of this process, then closes it.
#[derive(Args)]
pub(super) struct Stdin {
    /// The run: its id, or a beginning or end of it that no other has
    id: String,
    /// Read this file instead
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Leave the input of the run open, for more later
    #[arg(long)]
    keep_open: bool,
    /// Print nothing
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Stdin {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        self.reach.with(async |connection| Box::pin(self.on(connection)).await).await
    }

    async fn on(&self, connection: &Connection) -> Result<u8, Failure> {
        let run = identify::find(connection, &self.id).await?;
        let Some(offset) = run.stdin_offset else {
            let advice = "it takes input only when started with --stdin or --tty, and until that is closed";
            return Err(Failure::Usage(format!("the input of {} is not open; {advice}", run.execution_id)));
        };
        let input: Box<dyn AsyncRead + Unpin> = match &self.file {
            Some(path) => Box::new(
                File::open(path)
                    .await
                    .map_err(|source| Failure::Io { what: format!("cannot read {}", path.display()), source })?,
            ),
            None => Box::new(tokio::io::stdin()),
        };
        let end = Feed::new(connection.executions(), run.execution_id, offset).run(input, !self.keep_open).await?;
        if !self.quiet {
            let closed = if self.keep_open { "" } else { ", and closed it" };
            print::complain(&format!("wrote {}{closed}", human::size(end - offset)));
        }
        Ok(0)
    }
}
