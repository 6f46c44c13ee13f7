//! `doctor`: checks what could keep runs from working well, and says what to do. Facts are gathered here; `checks` judges them.

mod checks;
mod machine;

use anstyle::{AnsiColor, Style};
use clap::Args;
use jiff::Timestamp;

use super::connection::{Connection, Reach};
use super::failure::Failure;
use super::print;
use crate::proto::GetServerInfoRequest;

use checks::{Check, Facts, Verdict};
use machine::Machine;

/// Checks what could keep runs from working well, and says what to do. Exits with 1 when something fails.
#[derive(Args)]
pub(super) struct Doctor {
    /// Print each check as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Doctor {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        let answer = self.reach.with(async |connection| self.checks(connection).await).await;
        let checks = match answer {
            Ok(checks) => checks,
            // No server, or a wrong configuration, is a finding: it must not keep the others from being reported.
            Err(failure) => vec![Check::unreachable(&failure.to_string())],
        };
        for check in &checks {
            print::line(&if self.json { check.json() } else { painted(check) })?;
        }
        Ok(u8::from(checks.iter().any(|check| check.verdict == Verdict::Fail)))
    }

    async fn checks(&self, connection: &Connection) -> Result<Vec<Check>, Failure> {
        let asked = Timestamp::now();
        let info = connection.server().get_server_info(GetServerInfoRequest {}).await?.into_inner();
        // A server elsewhere says nothing about this machine, and this machine nothing about it.
        let is_here = connection.is_own() || connection.address().is_local();
        let machine = is_here.then(|| Machine::look(&connection.config().server.state_dir));
        let place = if connection.is_own() {
            format!("none answers at {}, commands serve themselves in process", connection.address())
        } else {
            format!("answers at {}", connection.address())
        };
        Ok(checks::judge(&Facts { place, is_own: connection.is_own(), info, machine, asked }))
    }
}

/// One check as a person reads it.
fn painted(check: &Check) -> String {
    let (style, word): (Style, &str) = match check.verdict {
        Verdict::Ok => (AnsiColor::Green.on_default(), "ok  "),
        Verdict::Warn => (AnsiColor::Yellow.on_default(), "warn"),
        Verdict::Fail => (AnsiColor::Red.on_default(), "FAIL"),
    };
    let remedy = if check.remedy.is_empty() { String::new() } else { format!("\n      → {}", check.remedy) };
    format!("{style}{word}{style:#}  {}: {}{remedy}", check.name, check.finding)
}
