//! `ps`: lists runs.

use clap::Args;
use jiff::Timestamp;

use super::connection::{Connection, Reach};
use super::failure::Failure;
use super::{human, identify, page, print};
use crate::json;
use crate::proto::{Execution, ListExecutionsRequest};

/// Lists runs, newest first.
#[derive(Args)]
pub(super) struct Ps {
    /// Also those that have ended
    #[arg(long, short)]
    all: bool,
    /// Only these, e.g. 'labels.team = "web" AND command:cargo' (see history list --help)
    #[arg(long, short)]
    filter: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// Print each run as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Ps {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        self.reach.with(async |connection| self.on(connection).await).await
    }

    async fn on(&self, connection: &Connection) -> Result<u8, Failure> {
        let filter = filter(self.all, self.filter.as_deref());
        let mut client = connection.executions();
        let runs = page::collect(self.limit, async |page_size, page_token| {
            let request = ListExecutionsRequest { filter: filter.clone(), page_size, page_token };
            let page = client.list_executions(request).await?.into_inner();
            Ok((page.executions, page.next_page_token))
        })
        .await?;
        if self.json {
            runs.iter().try_for_each(|run| print::line(&json::text("Execution", run)))?;
        } else {
            print::show(&table(&runs, Timestamp::now()))?;
        }
        Ok(0)
    }
}

/// The filter to send.
fn filter(all: bool, asked: Option<&str>) -> String {
    match (all, asked) {
        (false, None) => String::new(),
        (false, Some(asked)) => format!("({asked}) AND state != COMPLETED"),
        (true, None) => identify::EVERY.to_owned(),
        (true, Some(asked)) => asked.to_owned(),
    }
}

fn table(runs: &[Execution], now: Timestamp) -> comfy_table::Table {
    let mut table = print::table(["ID", "STATE", "CREATED", "PID", "OUTPUT", "COMMAND"]);
    for run in runs {
        let state = match &run.outcome {
            Some(outcome) => human::outcome(outcome),
            None => run.queue_position.map_or_else(
                || human::state(run.state()),
                |position| format!("{} ({position})", human::state(run.state())),
            ),
        };
        table.add_row([
            run.execution_id.clone(),
            state,
            human::ago(run.create_time, now),
            run.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            human::size(run.channels.iter().map(|channel| channel.bytes_total).sum()),
            human::command(run, 60),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_keep_to_live_runs_unless_all_are_wanted() {
        assert_eq!(filter(false, None), "");
        assert_eq!(filter(false, Some("a = 1 OR b = 2")), "(a = 1 OR b = 2) AND state != COMPLETED");
        assert_eq!(filter(true, Some("success = true")), "success = true");
        assert_eq!(filter(true, None), identify::EVERY);
    }
}
