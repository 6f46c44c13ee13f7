//! Wires the parts together, binds, serves, drains.

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::server::Router;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_health::server::HealthReporter;
use tower::layer::util::{Identity, Stack};
use tracing::{info, warn};
use uuid::Uuid;

use crate::api::grpc::{self, GuardLayer, Parts};
use crate::execution::Containment;
use crate::execution::log::Spool;
use crate::history;
use crate::os;
use crate::shutdown::Stop;
use crate::store;
use crate::supervisor::{self, FindError, Signature, Supervisor};

/// Between two pings on a silent connection.
const PING: Duration = Duration::from_secs(20);

/// Streams one connection may have open.
const STREAMS: u32 = 10_000;

/// What one stream may send ahead of its handler, bytes: bulk input for a run that does not read stops here.
const STREAM_WINDOW: u32 = 512 << 10;

/// What all streams of one connection may: far more, so that stalled ones do not hold up the other calls.
const CONNECTION_WINDOW: u32 = 32 << 20;

/// How long watchers may take to fetch the last events when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Room for the in-process connection, bytes.
const DUPLEX: usize = 1 << 20;

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

/// Why the server could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Listening beyond loopback was not allowed.
    #[error(
        "{0} is reachable from other machines, and nobody would be authenticated: listen on loopback or a Unix socket, or allow it with --allow-remote"
    )]
    Remote(SocketAddr),
    /// The address is not to be had.
    #[error("could not listen on {address}: {source}")]
    Bind {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The state directory is not usable.
    #[error("could not use the state directory {path}: {source}")]
    StateDir {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The history store did not open.
    #[error("could not open the history in {path}: {source}")]
    Store {
        /// The state directory.
        path: PathBuf,
        /// Why.
        source: history::Error,
    },
    /// The platform is not usable.
    #[error("could not prepare for starting processes: {0}")]
    Platform(#[from] os::OpenError),
    /// What a former server left could not be settled.
    #[error("could not settle what a former server left: {0}")]
    Recovery(#[from] FindError),
    /// The transport failed.
    #[error("the transport failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A server: opened, bound, and ready to serve.
pub struct Server {
    supervisor: Supervisor,
    routes: Routes,
    health: HealthReporter,
    watchers: TaskTracker,
    connections: TaskTracker,
    listeners: Vec<Listener>,
    addresses: Vec<String>,
    drain: Duration,
    _instance: Instance,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, Socket),
}

/// The file of a Unix socket, removed in the end.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_file(&self.0);
    }
}

impl Server {
    /// Opens the store, settles what a former server left, and binds.
    pub async fn open(mut config: Config) -> Result<Server, Error> {
        check_reach(&config)?;
        let state_dir = |source| Error::StateDir { path: config.state_dir.clone(), source };
        create_private(&config.state_dir).map_err(state_dir)?;
        let instance = Instance::claim(&config.state_dir).map_err(state_dir)?;
        let spool = Spool::open(config.state_dir.join("spool")).map_err(state_dir)?;
        let history =
            store::open(&config.state_dir).map_err(|source| Error::Store { path: config.state_dir.clone(), source })?;
        let host = os::Host::open(os::HostConfig {
            containment: config.containment.map(containment),
            instance: instance.id.clone(),
            executable: None,
        })
        .await?;
        let signature = Signature { node: config.node.clone(), build: build(), instance: instance.id.clone() };
        if config.supervisor.shell.is_none() {
            config.supervisor.shell = default_shell();
        }
        let instances = instance.directory.clone();
        let is_alive = move |id: &str| Instance::is_alive(&instances, id);
        // Others that start now wait: what a former server left is settled once.
        let alone = instance.alone().await.map_err(state_dir)?;
        host.clean(is_alive.clone()).await;
        let supervisor = Supervisor::open(config.supervisor, signature, host, spool, history, is_alive).await?;
        instance.forget_the_dead().map_err(state_dir)?;
        drop(alone);
        let watchers = TaskTracker::new();
        let parts = Parts {
            supervisor: supervisor.clone(),
            watchers: watchers.clone(),
            stall: config.watcher_stall,
            started: Timestamp::now(),
        };
        let (routes, health) = grpc::routes(parts).await;
        let (listeners, addresses) = bind(&config.listen).await?;
        Ok(Server {
            supervisor,
            routes,
            health,
            watchers,
            connections: TaskTracker::new(),
            listeners,
            addresses,
            drain: config.drain,
            _instance: instance,
        })
    }

    /// The addresses as bound: `127.0.0.1:50051`, `unix:/path`.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Serves until told to stop, then drains: no new runs, time for what runs, cancel for the rest.
    pub async fn serve(mut self, stop: Stop) -> Result<(), Error> {
        let closing = tokio_util::sync::CancellationToken::new();
        for listener in std::mem::take(&mut self.listeners) {
            let router = transport(self.routes.clone());
            let until = closing.clone().cancelled_owned();
            self.connections.spawn(async move {
                let served = match listener {
                    Listener::Tcp(listener) => {
                        let incoming = TcpListenerStream::new(listener);
                        let incoming = tokio_stream::StreamExt::map(incoming, |connection| {
                            connection.inspect(|stream| drop(stream.set_nodelay(true)))
                        });
                        router.serve_with_incoming_shutdown(incoming, until).await
                    }
                    Listener::Unix(listener, _socket) => {
                        router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), until).await
                    }
                };
                if let Err(error) = served {
                    warn!(%error, "a listener failed");
                }
            });
        }
        stop.stopping().await;
        info!(drain = ?self.drain, "stopping: no new runs");
        grpc::stop_serving(&self.health).await;
        tokio::select! {
            () = self.supervisor.drain(self.drain) => {}
            () = stop.stopping_now() => info!("told again: ending everything now"),
        }
        let close = async {
            self.supervisor.close(None).await;
        };
        tokio::select! {
            () = close => {}
            () = stop.stopping_now() => self.supervisor.close(Some(Duration::ZERO)).await,
        }
        // Watchers have the last events on their way; then connections are told to go.
        self.watchers.close();
        let _in_time = tokio::time::timeout(FAREWELL, self.watchers.wait()).await;
        closing.cancel();
        self.connections.close();
        let _in_time = tokio::time::timeout(FAREWELL, self.connections.wait()).await;
        info!("stopped");
        Ok(())
    }

    /// A connection to this server in the same process, without a socket.
    pub async fn connect(&self) -> Result<Channel, Error> {
        let (ours, theirs) = tokio::io::duplex(DUPLEX);
        let router = transport(self.routes.clone());
        // The connection's end must not end the incoming stream, or it would count as a shutdown.
        let incoming =
            tokio_stream::StreamExt::chain(tokio_stream::once(Ok::<_, io::Error>(theirs)), tokio_stream::pending());
        self.connections.spawn(async move {
            if let Err(error) = router.serve_with_incoming(incoming).await {
                warn!(%error, "the in-process connection failed");
            }
        });
        let mut ours = Some(ours);
        let connector = tower::service_fn(move |_: Uri| {
            let connection = ours.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
            async move { connection.map(TokioIo::new) }
        });
        Ok(Endpoint::from_static("http://in-process").connect_with_connector(connector).await?)
    }

    /// For a server used in process: cancels what remains, records it, closes.
    pub async fn shutdown(self) {
        self.supervisor.close(None).await;
    }
}

/// The transport as tuned: pings against dead peers, frames and windows for output.
fn transport(routes: Routes) -> Router<Stack<GuardLayer, Identity>> {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .max_concurrent_streams(Some(STREAMS))
        .initial_stream_window_size(Some(STREAM_WINDOW))
        .initial_connection_window_size(Some(CONNECTION_WINDOW))
        .layer(GuardLayer)
        .add_routes(routes)
}

fn check_reach(config: &Config) -> Result<(), Error> {
    let remote = config.listen.iter().find_map(|listen| match listen {
        Listen::Tcp(address) if !address.ip().is_loopback() => Some(*address),
        Listen::Tcp(_) | Listen::Unix(_) => None,
    });
    match remote {
        Some(address) if config.allow_remote => {
            warn!(%address, "listening beyond loopback without authentication: everybody who reaches it can run commands");
            Ok(())
        }
        Some(address) => Err(Error::Remote(address)),
        None => Ok(()),
    }
}

async fn bind(listen: &[Listen]) -> Result<(Vec<Listener>, Vec<String>), Error> {
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for listen in listen {
        match listen {
            Listen::Tcp(address) => {
                let failed = |source| Error::Bind { address: address.to_string(), source };
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                addresses.push(listener.local_addr().map_err(failed)?.to_string());
                listeners.push(Listener::Tcp(listener));
            }
            Listen::Unix(path) => {
                let address = format!("unix:{}", path.display());
                let failed = |source| Error::Bind { address: address.clone(), source };
                let listener = bind_unix(path).await.map_err(failed)?;
                addresses.push(address.clone());
                listeners.push(Listener::Unix(listener, Socket(path.clone())));
            }
        }
    }
    Ok((listeners, addresses))
}

/// Binds a Unix socket only its owner can connect to; one that a dead server left is replaced.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn containment(containment: Containment) -> os::Containment {
    match containment {
        Containment::Cgroup => os::Containment::Cgroup,
        Containment::Shim => os::Containment::Shim,
        Containment::Group => os::Containment::Group,
    }
}

/// Version, profile and target of this build.
#[must_use]
pub fn build() -> String {
    format!("{} ({}, {})", env!("CARGO_PKG_VERSION"), env!("PROFILE"), env!("TARGET"))
}

/// The first of zsh, bash and sh that is there.
fn default_shell() -> Option<String> {
    let directories = ["/bin", "/usr/bin", "/usr/local/bin"];
    ["zsh", "bash", "sh"]
        .into_iter()
        .flat_map(|shell| directories.map(|directory| format!("{directory}/{shell}")))
        .find(|path| Path::new(path).is_file())
}

/// One process of the server among those that share a state directory: it holds a lock for as long as it lives.
struct Instance {
    id: String,
    directory: PathBuf,
    _lock: File,
}

impl Instance {
    fn claim(state_dir: &Path) -> io::Result<Instance> {
        let directory = state_dir.join("instances");
        create_private(&directory)?;
        let id = Uuid::now_v7().to_string();
        // Locked before anybody can see it: a file without a lock is a dead one's.
        let unseen = directory.join(format!(".{id}"));
        let lock = File::create(&unseen)?;
        lock.lock()?;
        std::fs::rename(unseen, directory.join(&id))?;
        Ok(Instance { id, directory, _lock: lock })
    }

    /// Whether the process that claimed `id` still lives.
    fn is_alive(directory: &Path, id: &str) -> bool {
        let Ok(file) = File::open(directory.join(id)) else { return false };
        // Shared, so that those who look do not take each other for the owner.
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Waits until no other process settles what a former server left; the others wait for as long as the file is held.
    async fn alone(&self) -> io::Result<File> {
        let path = self.directory.join(".settling");
        let wait = move || {
            let file = File::create(path)?;
            file.lock()?;
            Ok(file)
        };
        tokio::task::spawn_blocking(wait).await.map_err(io::Error::other)?
    }

    /// Removes what those left who could not do it themselves.
    fn forget_the_dead(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().filter(|id| !id.starts_with('.')) else { continue };
            if !Instance::is_alive(&self.directory, id) {
                // Whoever was faster has done the same.
                let _gone_already = std::fs::remove_file(self.directory.join(id));
            }
        }
        Ok(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_file(self.directory.join(&self.id));
    }
}
