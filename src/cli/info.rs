//! `info`: shows the server.

use clap::Args;

use super::connection::{Connection, Reach};
use super::failure::Failure;
use super::{human, print};
use crate::json;
use crate::proto::{GetServerInfoRequest, GetServerInfoResponse};

/// Shows the server: versions, limits, load.
#[derive(Args)]
pub(super) struct Info {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Info {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        self.reach.with(async |connection| self.on(connection).await).await
    }

    async fn on(&self, connection: &Connection) -> Result<u8, Failure> {
        let info = connection.server().get_server_info(GetServerInfoRequest {}).await?.into_inner();
        if self.json {
            print::line(&json::text("GetServerInfoResponse", &info))?;
        } else {
            let place =
                if connection.is_own() { "in this process".to_owned() } else { connection.address().to_string() };
            print::facts(&facts(&info, place))?;
        }
        Ok(0)
    }
}

/// What there is to say, in the order people ask for it.
fn facts(info: &GetServerInfoResponse, place: String) -> Vec<(&'static str, String)> {
    let limits = info.limits.unwrap_or_default();
    let load = info.load.unwrap_or_default();
    vec![
        ("server", place),
        ("version", info.version.clone()),
        ("build", info.build.clone()),
        ("node", info.node.clone()),
        ("platform", info.platform.clone()),
        ("instance", info.instance.clone()),
        ("running since", human::full(info.start_time)),
        ("containment", human::plain(info.containment().as_str_name(), "CONTAINMENT_")),
        ("", info.containment_notes.join("\n")),
        ("enforceable", info.enforceable_limits.join(", ")),
        ("shell", info.default_shell.clone()),
        ("features", info.features.join(", ")),
        (
            "runs",
            format!(
                "{} running of {}, {} queued of {}",
                load.running, limits.max_concurrent, load.queued, limits.max_queued
            ),
        ),
        ("watchers", load.watchers.to_string()),
        ("output", format!("{} kept of {}", human::size(load.spool_bytes), human::size(limits.retention_bytes))),
        ("output of a run", format!("at most {}", human::size(limits.max_output_bytes))),
        ("timeouts", format!("at most {}", human::maybe_time(limits.max_timeout))),
        ("kept for", human::maybe_time(limits.retention_age)),
        ("request", format!("at most {}", human::size(limits.max_request_bytes.into()))),
        ("input waiting", format!("at most {} of a run", human::size(limits.stdin_window_bytes))),
        ("degraded", info.degraded.join("\n")),
    ]
}
