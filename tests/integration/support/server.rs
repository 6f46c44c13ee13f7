//! The real server: the binary, on port 0, with a state directory of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use cc_executor::proto::execution_service_client::ExecutionServiceClient;
use cc_executor::proto::history_service_client::HistoryServiceClient;
use cc_executor::proto::server_service_client::ServerServiceClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use super::eventually;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_cc-executor");

/// The user without rights.
const NOBODY: u32 = 65534;

/// A running server; dropping it kills it and removes its state directory.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
    pub(crate) state: State,
}

/// A state directory that outlives a server, and beside it the server's log.
pub(crate) struct State {
    directory: TempDir,
    log: TempDir,
}

impl State {
    pub(crate) fn new() -> State {
        let directory = || tempfile::Builder::new().prefix("ccx").tempdir().expect("a temporary directory");
        State { directory: directory(), log: directory() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The binary as another user may start it, with this directory as that user's own.
    fn command_as(&self, user: u32) -> Command {
        std::os::unix::fs::chown(self.path(), Some(user), Some(user)).expect("only root becomes another user");
        let reachable = self.path().join("cc-executor");
        if !reachable.exists() && std::fs::hard_link(BINARY, &reachable).is_err() {
            std::fs::copy(BINARY, &reachable).expect("there is room for the binary");
        }
        #[expect(clippy::disallowed_methods, reason = "the server under test is a process of its own")]
        let mut command = Command::new(reachable);
        command.uid(user).gid(user);
        command
    }
}

/// How a server is started.
pub(crate) struct Setup {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    settings: String,
    state: Option<State>,
    user: Option<u32>,
    shared: Option<PathBuf>,
}

impl Setup {
    /// An argument of `serve`.
    pub(crate) fn arg(mut self, argument: &str) -> Setup {
        self.arguments.push(argument.to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lines of the TOML file.
    pub(crate) fn settings(mut self, toml: &str) -> Setup {
        self.settings = toml.to_owned();
        self
    }

    /// The state directory of a former server.
    pub(crate) fn state(mut self, state: State) -> Setup {
        self.state = Some(state);
        self
    }

    /// The state directory of a server that is still there.
    pub(crate) fn beside(mut self, other: &Server) -> Setup {
        self.shared = Some(other.state.path().to_owned());
        self
    }

    /// Another user than the test's own, which must be root.
    pub(crate) fn user(mut self, user: u32) -> Setup {
        self.user = Some(user);
        self
    }

    /// Without the rights of root, if the tests have them.
    pub(crate) fn nobody(mut self) -> Setup {
        self.user = Uid::effective().is_root().then_some(NOBODY);
        self
    }

    /// Starts it together with `more` others that share its state directory.
    pub(crate) async fn start_with(self, more: usize) -> (Server, Vec<Server>) {
        let path = self.state.as_ref().expect("there is something to share").path().to_owned();
        let beside = || Setup { shared: Some(path.clone()), ..Server::setup() };
        let others = futures_util::future::join_all((0..more).map(|_| beside().start()));
        futures_util::future::join(self.start(), others).await
    }

    pub(crate) async fn start(self) -> Server {
        let state = self.state.unwrap_or_else(State::new);
        let settings = state.path().join("test.toml");
        std::fs::write(&settings, self.settings).expect("the settings are written");
        let log = File::options().create(true).append(true).open(state.log.path().join("log")).expect("a log file");
        #[expect(clippy::disallowed_methods, reason = "the server under test is a process of its own")]
        let mut command = match self.user {
            Some(user) => state.command_as(user),
            None => Command::new(BINARY),
        };
        let mut process = command
            .arg("serve")
            .args(["--listen", "127.0.0.1:0", "--state-dir"])
            .arg(self.shared.as_deref().unwrap_or_else(|| state.path()))
            .arg("--config")
            .arg(&settings)
            .args(&self.arguments)
            .env("LOG_LEVEL", "warn")
            .envs(self.environment)
            .current_dir(state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        // From here on it is killed when it is dropped, also while it starts.
        let mut server = Server { process, address: String::new(), state };
        let line = tokio::task::spawn_blocking(move || stdout.lines().next()).await.expect("a line is read");
        let line = line.expect("the server prints its addresses").expect("in UTF-8");
        let listening: serde_json::Value = serde_json::from_str(&line).expect("as JSON");
        server.address = listening["listening"][0].as_str().expect("one address").to_owned();
        server
    }
}

impl Server {
    pub(crate) fn setup() -> Setup {
        Setup {
            arguments: Vec::new(),
            environment: Vec::new(),
            settings: String::new(),
            state: None,
            user: None,
            shared: None,
        }
    }

    pub(crate) async fn start() -> Server {
        Server::setup().start().await
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).expect("an address").tcp_nodelay(true)
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.endpoint().connect().await.expect("the server accepts")
    }

    pub(crate) async fn executions(&self) -> ExecutionServiceClient<Channel> {
        ExecutionServiceClient::new(self.channel().await)
    }

    pub(crate) async fn history(&self) -> HistoryServiceClient<Channel> {
        HistoryServiceClient::new(self.channel().await)
    }

    pub(crate) async fn server(&self) -> ServerServiceClient<Channel> {
        ServerServiceClient::new(self.channel().await)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).expect("a pid fits"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the server is there");
    }

    /// Waits for its end.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        eventually("the server ends", async || self.process.try_wait().expect("it is our child")).await
    }

    /// Kills it and keeps its state directory.
    pub(crate) async fn crash(mut self) -> State {
        self.signal(Signal::SIGKILL);
        self.exited().await;
        std::mem::replace(&mut self.state, State::new())
    }

    /// Stops it politely and keeps its state directory.
    pub(crate) async fn stop(mut self) -> (State, ExitStatus) {
        self.signal(Signal::SIGTERM);
        let status = self.exited().await;
        (std::mem::replace(&mut self.state, State::new()), status)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.state.log.path().join("log")).expect("it logs")
    }

    /// Makes an executable file in its state directory, where runs start.
    pub(crate) fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it is in a directory")).expect("the directory is made");
        std::fs::write(&path, text).expect("the program is written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    }

    /// Fails when any file of the state directory holds `text`.
    pub(crate) fn assert_nowhere_on_disk(&self, text: &str) {
        let mut directories = vec![self.state.path().to_owned()];
        let mut looked_at = 0;
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    directories.push(entry.path());
                    continue;
                }
                let mut bytes = Vec::new();
                let read = File::open(entry.path()).and_then(|mut file| file.read_to_end(&mut bytes));
                looked_at += read.unwrap_or_default();
                let is_in = bytes.windows(text.len()).any(|window| window == text.as_bytes());
                assert!(!is_in, "{text:?} is in {}", entry.path().display());
            }
        }
        assert!(looked_at > 0, "there was something to look at");
    }

    /// Makes the beginning of a spool file unreadable.
    pub(crate) fn damage(&self, name: &str) {
        let directories = std::fs::read_dir(self.path("spool")).expect("the spool").flatten();
        let file = directories.map(|directory| directory.path().join(name)).find(|path| path.exists());
        let file = File::options().write(true).open(file.expect("the file is there")).expect("it is ours");
        file.write_all_at(b"damaged!", 0).expect("it is written");
    }

    /// The bytes of disk that a directory in its state directory takes.
    pub(crate) fn disk_usage(&self, name: &str) -> u64 {
        let mut directories = vec![self.path(name)];
        let mut bytes = 0;
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
                let metadata = entry.metadata().expect("it is there");
                bytes += metadata.blocks() * 512;
                directories.extend(metadata.is_dir().then(|| entry.path()));
            }
        }
        bytes
    }

    /// All files of its spool.
    pub(crate) fn spooled(&self) -> Vec<PathBuf> {
        let entries = |directory: &Path| std::fs::read_dir(directory).expect("a directory").flatten();
        entries(&self.path("spool")).flat_map(|folder| entries(&folder.path())).map(|file| file.path()).collect()
    }

    /// A path in its state directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _ended_already = self.process.wait();
    }
}
