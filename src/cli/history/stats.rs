//! `history stats`: counts and durations.

use clap::Args;
use comfy_table::Table;

use super::FILTERS;
use crate::cli::connection::{Connection, Reach};
use crate::cli::failure::Failure;
use crate::cli::{human, print};
use crate::json;
use crate::proto::get_stats_request::Group;
use crate::proto::{self, GetStatsRequest, GetStatsResponse};

/// Counts and durations.
#[derive(Args)]
#[command(after_help = FILTERS)]
pub(in crate::cli) struct Stats {
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
    pub(super) reach: Reach,
}

impl Stats {
    pub(super) async fn on(&self, connection: &Connection) -> Result<(), Failure> {
        let by_label = self.by_label.clone().map(Group::ByLabel);
        let group = if self.by_command { Some(Group::ByCommand(true)) } else { by_label };
        let request = GetStatsRequest { filter: self.filter.clone(), group };
        let stats = connection.history().get_stats(request).await?.into_inner();
        if self.json { print::line(&json::text("GetStatsResponse", &stats)) } else { print::show(&stats_table(&stats)) }
    }
}

fn stats_table(stats: &GetStatsResponse) -> Table {
    let mut table = print::table(["", "RUNS", "GOOD", "P50", "P90", "P99", "LONGEST", "OUTPUT", "ENDED BY"]);
    let mut row = |key: String, stats: &proto::Stats| {
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
