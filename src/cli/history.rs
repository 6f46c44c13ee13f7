//! `history`: what is remembered of runs that ended.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Table;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::connection::{Connection, Reach};
use super::failure::Failure;
use super::patience::Patience;
use super::{human, identify, page, print};
use crate::json;
use crate::proto::export_records_request::Format;
use crate::proto::get_stats_request::Group;
use crate::proto::{
    DeleteRecordRequest, ExportRecordsRequest, GetRecordRequest, GetStatsRequest, GetStatsResponse, ListRecordsRequest,
    Record, Stats,
};

/// What is remembered of runs that ended.
#[derive(Subcommand)]
pub(super) enum History {
    /// List records, newest first
    List(List),
    /// Show one record
    Show(Show),
    /// Write records as JSON lines or CSV, or their events with all output
    Export(Export),
    /// Counts and durations
    Stats(StatsOf),
    /// Remove records and their output for good; the ids stay taken
    Delete(Delete),
}

/// Lists records, newest first.
#[derive(Args)]
#[command(after_help = FILTERS)]
pub(super) struct List {
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
    reach: Reach,
}

const FILTERS: &str = "\
Filters are terms joined by AND, OR, NOT and parentheses.
Columns:   execution_id, state, cause, success, exit_code, signal, command, user, labels.KEY,
           create_time, start_time, complete_time, duration
Operators: = != < <= > >= and `:` (contains; labels.KEY:* means present)
Values:    RUN_TIMEOUT, true, \"text\", 2026-01-31T12:00:00Z, 1.5s, 10m, 2h";

/// Shows one record.
#[derive(Args)]
pub(super) struct Show {
    /// The run: its id, or a beginning or end of it that no other has
    id: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Writes records as JSON lines or CSV, or their events with all output.
#[derive(Args)]
#[command(after_help = FILTERS)]
pub(super) struct Export {
    /// Only these
    #[arg(long, short, default_value = "", hide_default_value = true)]
    filter: String,
    /// How they are written
    #[arg(long, default_value = "jsonl")]
    format: ExportFormat,
    /// Where to [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExportFormat {
    /// One record in JSON a line
    Jsonl,
    /// RFC 4180 with a header
    Csv,
    /// One event in JSON a line, output included
    Events,
}

/// Counts and durations.
#[derive(Args)]
#[command(after_help = FILTERS)]
pub(super) struct StatsOf {
    /// Only these
    #[arg(long, short, default_value = "", hide_default_value = true)]
    filter: String,
    /// One line for each program, or first word of a script
    #[arg(long)]
    by_command: bool,
    /// One line for each value of this label
    #[arg(long, value_name = "KEY", conflicts_with = "by_command")]
    by_label: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Removes records and their output for good.
#[derive(Args)]
pub(super) struct Delete {
    /// The runs: their ids, or a beginning or end that no other has
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    reach: Reach,
}

impl History {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        match self {
            History::List(verb) => verb.reach.with(async |connection| verb.on(connection).await).await?,
            History::Show(verb) => verb.reach.with(async |connection| verb.on(connection).await).await?,
            History::Export(verb) => verb.reach.with(async |connection| verb.on(connection).await).await?,
            History::Stats(verb) => verb.reach.with(async |connection| verb.on(connection).await).await?,
            History::Delete(verb) => verb.reach.with(async |connection| verb.on(connection).await).await?,
        }
        Ok(0)
    }
}

impl List {
    async fn on(&self, connection: &Connection) -> Result<(), Failure> {
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

impl Show {
    async fn on(&self, connection: &Connection) -> Result<(), Failure> {
        let execution_id = identify::id(connection, &self.id).await?;
        let response = connection.history().get_record(GetRecordRequest { execution_id }).await?.into_inner();
        let record = response.record.unwrap_or_default();
        if self.json { print::line(&json::text("Record", &record)) } else { print::facts(&facts(&record)) }
    }
}

impl Export {
    async fn on(&self, connection: &Connection) -> Result<(), Failure> {
        let mut to: Box<dyn AsyncWrite + Unpin> = match &self.output {
            Some(path) => Box::new(File::create(path).await.map_err(|source| self.unwritable(source))?),
            None => Box::new(tokio::io::stdout()),
        };
        let format = match self.format {
            ExportFormat::Jsonl => Format::JsonLines,
            ExportFormat::Csv => Format::Csv,
            ExportFormat::Events => Format::Events,
        };
        let mut request =
            ExportRecordsRequest { filter: self.filter.clone(), format: format.into(), resume_token: String::new() };
        let mut client = connection.history();
        let mut patience = Patience::default();
        loop {
            // A stream that breaks is taken up behind the last whole chunk.
            let broken = match client.export_records(request.clone()).await {
                Err(status) => status,
                Ok(response) => {
                    let mut chunks = response.into_inner();
                    loop {
                        match chunks.message().await {
                            Ok(Some(chunk)) => {
                                to.write_all(&chunk.data).await.map_err(|source| self.unwritable(source))?;
                                request.resume_token = chunk.resume_token;
                                patience.renew();
                            }
                            Ok(None) => return to.flush().await.map_err(|source| self.unwritable(source)),
                            Err(status) => break status,
                        }
                    }
                }
            };
            patience.wait(broken).await?;
        }
    }

    fn unwritable(&self, source: std::io::Error) -> Failure {
        match &self.output {
            Some(path) => Failure::Io { what: format!("cannot write {}", path.display()), source },
            None => Failure::output(source),
        }
    }
}

impl StatsOf {
    async fn on(&self, connection: &Connection) -> Result<(), Failure> {
        let by_label = self.by_label.clone().map(Group::ByLabel);
        let group = if self.by_command { Some(Group::ByCommand(true)) } else { by_label };
        let request = GetStatsRequest { filter: self.filter.clone(), group };
        let stats = connection.history().get_stats(request).await?.into_inner();
        if self.json { print::line(&json::text("GetStatsResponse", &stats)) } else { print::show(&stats_table(&stats)) }
    }
}

impl Delete {
    async fn on(&self, connection: &Connection) -> Result<(), Failure> {
        for text in &self.ids {
            let execution_id = identify::id(connection, text).await?;
            let request = DeleteRecordRequest { execution_id: execution_id.clone() };
            let freed = connection.history().delete_record(request).await?.into_inner().freed_bytes;
            print::line(&format!("{execution_id} deleted, {} freed", human::size(freed)))?;
        }
        Ok(())
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

/// One record, in the order of a life.
fn facts(record: &Record) -> Vec<(&'static str, String)> {
    let run = record.execution.clone().unwrap_or_default();
    let outcome = run.outcome.clone().unwrap_or_default();
    let durations = outcome.durations.unwrap_or_default();
    let usage = outcome.usage.unwrap_or_default();
    let options = run.options.clone().unwrap_or_default();
    let lines = |lines: Vec<String>| lines.join("\n");
    let channels = outcome.channels.iter().map(|channel| {
        let digest: String = channel.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = human::plain(channel.channel().as_str_name(), "CHANNEL_");
        format!(
            "{name} {} (kept {}) sha256 {digest}",
            human::size(channel.bytes_total),
            human::size(channel.bytes_kept)
        )
    });
    let escalation = outcome
        .escalation
        .iter()
        .map(|sent| format!("{} at {} to {}", sent.name, human::full(sent.time), sent.processes));
    let timeouts = record.timeouts.iter().map(|clock| {
        format!(
            "{} {} (by {})",
            clock.name,
            human::maybe_time(clock.value),
            human::plain(clock.source().as_str_name(), "SOURCE_")
        )
    });
    let processes = |processes: &[crate::proto::Process]| {
        lines(
            processes.iter().map(|process| format!("{} {}", process.pid, human::printable(&process.command))).collect(),
        )
    };
    vec![
        ("id", run.execution_id.clone()),
        ("command", human::command(&run, 500)),
        ("directory", human::printable(&options.working_directory)),
        (
            "labels",
            lines(options.labels.iter().map(|(key, value)| human::printable(&format!("{key}={value}"))).collect()),
        ),
        ("outcome", human::outcome(&outcome)),
        ("success", outcome.success.to_string()),
        ("created", human::full(run.create_time)),
        ("started", human::full(run.start_time)),
        ("exited", human::full(run.exit_time)),
        ("completed", human::full(run.complete_time)),
        ("queued for", human::maybe_time(durations.queued)),
        ("ran for", human::maybe_time(durations.running)),
        ("paused for", human::maybe_time(durations.paused)),
        ("cpu", format!("{} user, {} system", human::maybe_time(usage.user_cpu), human::maybe_time(usage.system_cpu))),
        ("peak memory", human::size(usage.peak_memory_bytes)),
        ("output", lines(channels.collect())),
        (
            "incomplete",
            if outcome.output_incomplete { "output is missing at the end".to_owned() } else { String::new() },
        ),
        ("signals sent", lines(escalation.collect())),
        ("leaked", processes(&outcome.leaked)),
        ("survivors", processes(&outcome.survivors)),
        ("timeouts", lines(timeouts.collect())),
        ("containment", human::plain(run.containment().as_str_name(), "CONTAINMENT_")),
        ("node", human::printable(&record.node)),
        ("build", record.build.clone()),
        ("expires", human::full(record.expire_time)),
    ]
}

fn stats_table(stats: &GetStatsResponse) -> Table {
    let mut table = print::table(["", "RUNS", "GOOD", "P50", "P90", "P99", "LONGEST", "OUTPUT", "ENDED BY"]);
    let mut row = |key: String, stats: &Stats| {
        let causes = stats.causes.iter().map(|each| format!("{} {}", each.count, human::cause(each.cause())));
        table.add_row([
            key,
            stats.count.to_string(),
            share(stats.succeeded, stats.count),
            human::maybe_time(stats.p50),
            human::maybe_time(stats.p90),
            human::maybe_time(stats.p99),
            human::maybe_time(stats.max),
            human::size(stats.output_bytes),
            causes.collect::<Vec<_>>().join(", "),
        ]);
    };
    for group in &stats.groups {
        row(human::printable(&group.key), &group.stats.clone().unwrap_or_default());
    }
    row("all".to_owned(), &stats.total.clone().unwrap_or_default());
    table
}

/// A share in percent that says 100 % and 0 % only when it is so.
fn share(part: u64, whole: u64) -> String {
    match (part, whole) {
        (_, 0) => "-".to_owned(),
        (part, whole) if part >= whole => "100%".to_owned(),
        (0, _) => "0%".to_owned(),
        (part, whole) => format!("{:.1}%", (part as f64 * 100.0 / whole as f64).clamp(0.1, 99.9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_round_towards_doubt() {
        for (part, whole, text) in [
            (0, 0, "-"),
            (0, 5, "0%"),
            (5, 5, "100%"),
            (1, 3, "33.3%"),
            (999_999, 1_000_000, "99.9%"),
            (1, 1_000_000, "0.1%"),
        ] {
            assert_eq!(share(part, whole), text);
        }
    }
}
