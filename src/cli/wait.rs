//! `wait`: waits for the end of runs.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::connection::{Connection, Reach};
use super::failure::Failure;
use super::patience::Patience;
use super::request::wire;
use super::{exit, human, identify, print};
use crate::config::quantity::duration;
use crate::json;
use crate::proto::{Execution, WaitExecutionRequest};

/// How long one call waits.
const CALL: Duration = Duration::from_secs(60);

/// Waits for the end of runs, says how each ended, and exits like the first of them that did not succeed.
#[derive(Args)]
pub(super) struct Wait {
    /// The runs: their ids, or a beginning or end that no other has
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Stop waiting after so long, and exit with 124; the runs go on
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    /// Print each run as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Wait {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        self.reach.with(async |connection| self.on(connection).await).await
    }

    async fn on(&self, connection: &Connection) -> Result<u8, Failure> {
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut code = 0;
        for text in &self.ids {
            let id = identify::id(connection, text).await?;
            let run = ended(connection, id, deadline).await?;
            if self.json {
                print::line(&json::text("Execution", &run))?;
            }
            let this = match &run.outcome {
                Some(outcome) => {
                    if !self.json {
                        print::line(&format!("{} {}", run.execution_id, human::outcome(outcome)))?;
                    }
                    exit::code(outcome, None)
                }
                None => {
                    print::complain(&format!(
                        "cc-executor: {} has not ended, it is {}",
                        run.execution_id,
                        human::state(run.state())
                    ));
                    exit::TIMED_OUT
                }
            };
            code = if code == 0 { this } else { code };
        }
        Ok(code)
    }
}

/// The run once it has ended, or as it is at the deadline.
async fn ended(connection: &Connection, id: String, deadline: Option<Instant>) -> Result<Execution, Failure> {
    let mut client = connection.executions();
    let mut patience = Patience::default();
    loop {
        let left = deadline.map_or(CALL, |deadline| deadline.saturating_duration_since(Instant::now()));
        // The server takes no wait of zero; a millisecond is the state of this moment.
        let wait_timeout = Some(wire(left.clamp(Duration::from_millis(1), CALL)));
        match client.wait_execution(WaitExecutionRequest { execution_id: id.clone(), wait_timeout }).await {
            Ok(response) => {
                patience.renew();
                let run = response.into_inner().execution.unwrap_or_default();
                if run.outcome.is_some() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(run);
                }
            }
            Err(status) => patience.wait(status).await?,
        }
    }
}
