//! Wires the parts together, binds, serves, drains.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::execution::Containment;
use crate::supervisor;

/// Everything a server needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where to listen; empty for a server used only in process. Default 127.0.0.1:50051.
    pub listen: Vec<Listen>,
    /// Listen beyond loopback although nobody is authenticated. Default false.
    pub allow_remote: bool,
    /// Where records and output live.
    pub state_dir: PathBuf,
    /// The name of this machine in records. Default: the host name.
    pub node: String,
    /// The containment to use; `None` is the best that works.
    pub containment: Option<Containment>,
    /// How long runs may go on after the server was told to stop. Default 10 s.
    pub drain: Duration,
    /// How long a watcher may take nothing before it is cut with a cursor. Default 60 s.
    pub watcher_stall: Duration,
    /// Bounds and defaults of runs.
    pub supervisor: supervisor::Config,
}

/// An address to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The server. A placeholder until the real one is merged.
#[derive(Debug)]
pub struct Server;

/// Why the server could not do its work.
#[derive(Debug, thiserror::Error)]
#[error("this build has no server")]
pub struct Error;

#[expect(clippy::unused_async, missing_docs, reason = "a placeholder until the real server is merged")]
impl Server {
    pub async fn open(_config: Config) -> Result<Server, Error> {
        Err(Error)
    }

    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &[]
    }

    pub async fn serve(self, _stop: crate::shutdown::Stop) -> Result<(), Error> {
        Err(Error)
    }

    pub async fn connect(&self) -> Result<tonic::transport::Channel, Error> {
        Err(Error)
    }

    pub async fn shutdown(self) {}
}
