//! `history show`: one record, in the order of a life.

use clap::Args;

use crate::cli::connection::{Connection, Reach};
use crate::cli::failure::Failure;
use crate::cli::{human, identify, print};
use crate::json;
use crate::proto::{GetRecordRequest, Record};

/// Shows one record.
#[derive(Args)]
pub(in crate::cli) struct Show {
    /// The run: its id, or a beginning or end of it that no other has
    id: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

impl Show {
    pub(super) async fn on(&self, connection: &Connection) -> Result<(), Failure> {
        let execution_id = identify::id(connection, &self.id).await?;
        let response = connection.history().get_record(GetRecordRequest { execution_id }).await?.into_inner();
        let record = response.record.unwrap_or_default();
        if self.json { print::line(&json::text("Record", &record)) } else { print::facts(&facts(&record)) }
    }
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
