//! `history list`: records, newest first.

use clap::Args;
use comfy_table::Table;
use jiff::Timestamp;

use super::FILTERS;
use crate::cli::connection::{Connection, Reach};
use crate::cli::failure::Failure;
use crate::cli::{human, page, print};
use crate::json;
use crate::proto::{ListRecordsRequest, Record};

/// Lists records, newest first.
#[derive(Args)]
#[command(after_help = FILTERS)]
pub(in crate::cli) struct List {
    /// Only these, e.g. 'cause = RUN_TIMEOUT AND duration > 10s'
    #[arg(long, short, default_value = "", hide_default_value = true)]
    filter: String,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    /// Print each record as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl List {
    pub(super) async fn on(&self, connection: &Connection) -> Result<(), Failure> {
        let mut client = connection.history();
        let records = page::collect(self.limit, async |page_size, page_token| {
            let request = ListRecordsRequest { filter: self.filter.clone(), page_size, page_token };
            let page = client.list_records(request).await?.into_inner();
            Ok((page.records, page.next_page_token))
        })
        .await?;
        if self.json {
            records.iter().try_for_each(|record| print::line(&json::text("Record", record)))
        } else {
            print::show(&records_table(&records, Timestamp::now()))
        }
    }
}

fn records_table(records: &[Record], now: Timestamp) -> Table {
    let mut table = print::table(["ID", "OUTCOME", "RAN FOR", "ENDED", "OUTPUT", "COMMAND"]);
    for record in records {
        let run = record.execution.clone().unwrap_or_default();
        let outcome = run.outcome.clone().unwrap_or_default();
        table.add_row([
            run.execution_id.clone(),
            human::outcome(&outcome),
            human::maybe_time(outcome.durations.and_then(|durations| durations.running)),
            human::ago(run.complete_time, now),
            human::size(outcome.channels.iter().map(|channel| channel.bytes_total).sum()),
            human::command(&run, 60),
        ]);
    }
    table
}
