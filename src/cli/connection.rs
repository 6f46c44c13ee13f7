//! A way to a server: the one at the address, or one in this process when there is none. Verbs call; they never know which.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};
use tracing::debug;

use super::address::Address;
use super::failure::Failure;
use crate::config::{self, Config, Environment, Flags};
use crate::proto::execution_service_client::ExecutionServiceClient;
use crate::proto::history_service_client::HistoryServiceClient;
use crate::proto::server_service_client::ServerServiceClient;
use crate::server::Server;
use crate::telemetry;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Between the pings that find a dead connection, and for their answer.
const PING: Duration = Duration::from_secs(20);
/// The largest answer taken: events hold up to 256 KiB, pages up to 1,000 records.
const LARGEST_ANSWER: usize = 64 << 20;

/// Settings that every command takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings")]
pub(super) struct Settings {
    /// The configuration file [env: CC_EXECUTOR_CONFIG] [default: cc-executor.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where records and output live [env: CC_EXECUTOR_STATE_DIR] [default: ~/.local/state/cc-executor]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// What is logged to stderr, e.g. info or warn,cc_executor=debug [env: LOG_LEVEL]
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
    /// How logs are written: text or json [env: LOG_FORMAT]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Settings {
    /// What these flags say about the configuration.
    pub(super) fn flags(&self) -> Flags {
        Flags::default()
            .file(self.config.clone())
            .with("state_dir", self.state_dir.as_deref())
            .with("log.level", self.log_level.as_deref())
            .with("log.format", self.log_format.as_deref())
    }
}

/// How a command finds its server.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Server")]
pub(super) struct Reach {
    /// Where the server is: HOST:PORT, unix:/PATH or http://HOST:PORT [env: CC_EXECUTOR_ADDRESS] [default: where a server of this configuration listens, 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Fail when no server answers there, instead of serving this one command in process
    #[arg(long)]
    no_local: bool,
    #[command(flatten)]
    settings: Settings,
}

/// An open way to a server.
pub(super) struct Connection {
    channel: Channel,
    address: Address,
    /// The server in this process, when nobody answered at the address.
    own: Option<Server>,
    config: Config,
}

impl Reach {
    /// Connects, does the work, and closes a server of this process with all that it still has to write.
    pub(super) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let connection = Box::pin(self.connect()).await?;
        let result = work(&connection).await;
        connection.close().await;
        result
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let environment = Environment::read();
        let config = config::load(&self.settings.flags(), &environment)?;
        telemetry::install(&config.log, "warn")?;
        let address = self.address(&environment, &config)?;
        let reason = match knock(&address).await {
            Ok(()) => {
                let channel = endpoint(&address).await?;
                return Ok(Connection { channel, address, own: None, config });
            }
            Err(error) => error,
        };
        let absent = matches!(reason.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        if !absent || self.no_local || !address.is_local() {
            return Err(Failure::Unreachable { address, reason: reason.to_string() });
        }
        debug!(%address, "no server there, serving in process");
        let mut alone = config.clone();
        alone.server.listen.clear();
        let own = Box::pin(Server::open(alone.server)).await?;
        match own.connect().await {
            Ok(channel) => Ok(Connection { channel, address, own: Some(own), config }),
            Err(source) => {
                own.shutdown().await;
                Err(source.into())
            }
        }
    }

    /// The address: the flag, the environment, else where a server of this configuration would listen.
    fn address(&self, environment: &Environment, config: &Config) -> Result<Address, Failure> {
        let (source, text) = match (self.address.as_deref(), environment.get("CC_EXECUTOR_ADDRESS")) {
            (Some(flag), _) => ("flag --address", flag),
            (None, Some(variable)) => ("environment CC_EXECUTOR_ADDRESS", variable),
            (None, None) => {
                let configured = config.server.listen.iter().find_map(Address::of);
                return Ok(configured.unwrap_or_else(|| Address::Tcp { host: "127.0.0.1".to_owned(), port: 50_051 }));
            }
        };
        text.parse().map_err(|fault| Failure::Usage(format!("{source}: {fault}")))
    }
}

impl Connection {
    /// Starting, following and controlling runs.
    pub(super) fn executions(&self) -> ExecutionServiceClient<Channel> {
        ExecutionServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// What is remembered of runs.
    pub(super) fn history(&self) -> HistoryServiceClient<Channel> {
        HistoryServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The server itself.
    pub(super) fn server(&self) -> ServerServiceClient<Channel> {
        ServerServiceClient::new(self.channel.clone())
    }

    /// Where it was looked for.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether the server lives in this process, and ends with it.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// The configuration of this command, which is also that of a server in this process.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    async fn close(self) {
        if let Some(own) = self.own {
            own.shutdown().await;
        }
    }
}

/// Whether anybody accepts connections there.
async fn knock(address: &Address) -> io::Result<()> {
    let accepted = async {
        match address {
            Address::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).await.map(drop),
            Address::Unix(path) => UnixStream::connect(path).await.map(drop),
        }
    };
    tokio::time::timeout(CONNECT, accepted).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A channel that reconnects by itself.
async fn endpoint(address: &Address) -> Result<Channel, Failure> {
    let unreachable = |reason: String| Failure::Unreachable { address: address.clone(), reason };
    let endpoint = Endpoint::from_shared(address.uri())
        .map_err(|error| unreachable(error.to_string()))?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true);
    let connected = match address {
        Address::Tcp { .. } => endpoint.connect().await,
        Address::Unix(path) => {
            let path = path.clone();
            let dial = tower::service_fn(move |_| {
                let path = path.clone();
                async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
            });
            endpoint.connect_with_connector(dial).await
        }
    };
    connected.map_err(|error| unreachable(error.to_string()))
}
