//! `history`: what is remembered of runs that ended.

mod delete;
mod export;
mod list;
mod show;
mod stats;

use clap::Subcommand;

use super::failure::Failure;

/// What is remembered of runs that ended.
#[derive(Subcommand)]
pub(super) enum History {
    /// List records, newest first
    List(list::List),
    /// Show one record
    Show(show::Show),
    /// Write records as JSON lines or CSV, or their events with all output
    Export(export::Export),
    /// Counts and durations
    Stats(stats::Stats),
    /// Remove records and their output for good; the ids stay taken
    Delete(delete::Delete),
}

/// How filters are written, for the help of the verbs that take one.
const FILTERS: &str = "\
Filters are terms joined by AND, OR, NOT and parentheses.
Columns:   execution_id, state, cause, success, exit_code, signal, command, user, labels.KEY,
           create_time, start_time, complete_time, duration
Operators: = != < <= > >= and `:` (contains; labels.KEY:* means present)
Values:    RUN_TIMEOUT, true, \"text\", 2026-01-31T12:00:00Z, 1.5s, 10m, 2h";

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
