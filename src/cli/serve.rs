//! `serve`: listens for calls until it is told to stop.

use clap::Args;

use super::connection::Settings;
use super::failure::Failure;
use super::print;
use crate::config::{self, Environment};
use crate::server::Server;
use crate::shutdown::Stop;
use crate::telemetry;

/// Listens for calls and runs commands, until SIGTERM or Ctrl-C; then it drains, and a second signal ends it now.
///
/// Once it listens it prints one line of JSON to stdout and nothing else: {"listening":["127.0.0.1:50051"]}
#[derive(Args)]
pub(super) struct Serve {
    /// Where to listen: HOST:PORT (port 0 takes a free one) or unix:/PATH; may be given several times [env: CC_EXECUTOR_LISTEN] [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Listen beyond loopback although nobody is authenticated
    #[arg(long)]
    allow_remote: bool,
    /// Runs at once; more wait in the queue [default: 100]
    #[arg(long, value_name = "NUMBER")]
    max_concurrent: Option<String>,
    /// How process trees are held together: auto, cgroup, shim or group [default: auto]
    #[arg(long, value_name = "HOW")]
    containment: Option<String>,
    /// How long runs may go on after the server was told to stop [default: 10s]
    #[arg(long, value_name = "TIME")]
    drain: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

impl Serve {
    pub(super) async fn act(self) -> Result<u8, Failure> {
        let flags = self
            .settings
            .flags()
            .with("listen", (!self.listen.is_empty()).then_some(self.listen))
            .with("allow_remote", self.allow_remote.then_some(true))
            .with("limits.max_concurrent", self.max_concurrent)
            .with("containment", self.containment)
            .with("drain", self.drain);
        let config = config::load(&flags, &Environment::read())?;
        telemetry::install(&config.log, "info")?;
        let stop =
            Stop::on_signals().map_err(|source| Failure::Io { what: "cannot handle signals".to_owned(), source })?;
        let server = Box::pin(Server::open(config.server)).await?;
        print::line(&serde_json::json!({ "listening": server.addresses() }).to_string())?;
        Box::pin(server.serve(stop)).await?;
        Ok(0)
    }
}
