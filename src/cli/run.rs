//! `run`: starts a command and follows it to its end.

use std::path::Path;

use bytes::Bytes;
use clap::Args;
use tokio::fs::File;
use tokio::io::AsyncRead;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use super::connection::{Connection, Reach};
use super::failure::{Failure, sentence};
use super::feed::Feed;
use super::follow::Follower;
use super::interrupts::Interrupts;
use super::request::{Input, RunOptions, Surroundings};
use super::view::{Form, View};
use super::{exit, local_terminal, print, watch};
use crate::execution::ExecutionId;
use crate::json;
use crate::proto::control_request::Action;
use crate::proto::execution_service_client::ExecutionServiceClient;
use crate::proto::{
    ControlRequest, CreateExecutionRequest, ExecuteRequest, Resize, create_execution_request, execute_request,
};

/// The largest file that goes into the request; a larger one is fed while the command runs.
const LARGEST_INLINE: u64 = 2 << 20;

/// Runs a command and follows it to its end.
#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    options: RunOptions,
    /// Start it, print its id, and leave it alone
    #[arg(long, short, conflicts_with_all = ["stdin", "tty", "dry_run"])]
    detach: bool,
    /// Check everything that can be checked beforehand, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Print every event as a line of JSON instead of the output
    #[arg(long)]
    json: bool,
    /// Print nothing but the output
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Run {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        self.reach.with(async |connection| Box::pin(self.on(connection)).await).await
    }

    async fn on(&self, connection: &Connection) -> Result<u8, Failure> {
        let id = match self.options.id() {
            Some(text) => text.parse().map_err(|fault| Failure::Usage(format!("flag --id: \"{text}\" {fault}")))?,
            None => ExecutionId::generate(),
        };
        let around = Surroundings {
            directory: std::env::current_dir()
                .map_err(|source| Failure::Io { what: "cannot tell the current directory".to_owned(), source })?,
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            terminal: local_terminal::size(),
            input: self.input().await?,
        };
        let request = self.options.request(id.to_string(), &around).map_err(Failure::Usage)?;
        if self.detach || self.dry_run {
            self.create(connection, request).await
        } else {
            self.follow(connection, request, around.input == Input::Fed).await
        }
    }

    /// How standard input reaches the run.
    async fn input(&self) -> Result<Input, Failure> {
        if let Some(path) = &self.options.stdin_file {
            let size = tokio::fs::metadata(path).await.map_err(|source| unreadable(path, source))?;
            if !size.is_file() || size.len() > LARGEST_INLINE {
                return if self.detach || self.dry_run {
                    Err(Failure::Usage("flag --stdin-file: a file over 2 MiB must be fed while the command runs; leave --detach out, or feed it with: cc-executor stdin".to_owned()))
                } else {
                    Ok(Input::Fed)
                };
            }
            return Ok(Input::Inline(Bytes::from(
                tokio::fs::read(path).await.map_err(|source| unreadable(path, source))?,
            )));
        }
        let typed = self.options.tty && local_terminal::is_interactive();
        Ok(if self.options.stdin || typed { Input::Fed } else { Input::None })
    }

    /// Starts it, or checks it, without following.
    async fn create(&self, connection: &Connection, request: ExecuteRequest) -> Result<u8, Failure> {
        if connection.is_own() && self.detach {
            let advice = "a run in process would end with this command; start a server with: cc-executor serve";
            return Err(Failure::Usage(format!("no server answers at {}: {advice}", connection.address())));
        }
        let request = CreateExecutionRequest {
            execution_id: request.execution_id,
            command: request.command.map(|command| match command {
                execute_request::Command::Argv(argv) => create_execution_request::Command::Argv(argv),
                execute_request::Command::Shell(shell) => create_execution_request::Command::Shell(shell),
            }),
            options: request.options,
            validate_only: self.dry_run,
        };
        let created = connection.executions().create_execution(request).await?.into_inner();
        let execution = created.execution.unwrap_or_default();
        match (self.json, self.dry_run) {
            (true, _) => print::line(&json::text("Execution", &execution))?,
            (false, true) => print::line("all that can be checked beforehand is well")?,
            (false, false) => print::line(&execution.execution_id)?,
        }
        Ok(0)
    }

    async fn follow(&self, connection: &Connection, request: ExecuteRequest, fed: bool) -> Result<u8, Failure> {
        let id = request.execution_id.clone();
        let client = connection.executions();
        let interrupts = Interrupts::forward(client.clone(), id.clone())?;
        let raw = (self.options.tty && local_terminal::is_interactive())
            .then(local_terminal::Raw::begin)
            .transpose()
            .map_err(|source| Failure::Io { what: "cannot use this terminal".to_owned(), source })?;
        let mut view = View::new(self.form(), !self.options.tty);
        let mut follower = Follower::execute(client.clone(), request);
        // Ends with this function, and with it what they do.
        let mut helpers = JoinSet::new();
        if self.options.tty {
            helpers.spawn(resize(client.clone(), id.clone()));
        }
        let accepted = || {
            if fed {
                helpers.spawn(feed(Feed::new(client, id.clone(), 0), self.options.stdin_file.clone()));
            }
        };
        let ended = tokio::select! {
            ended = watch::to_end(&mut follower, &mut view, accepted) => ended,
            () = interrupts.third() => Err(Failure::Abandoned { id: id.clone() }),
        };
        drop(raw);
        if matches!(ended, Err(Failure::OutputClosed)) && !connection.is_own() {
            view.remark(&format!("nobody reads the output; if the run should not go on: cc-executor cancel {id}"));
        }
        let outcome = ended?.unwrap_or_default();
        view.conclude(&outcome);
        Ok(exit::code(&outcome, interrupts.first()))
    }

    fn form(&self) -> Form {
        match (self.json, self.quiet) {
            (true, _) => Form::Json,
            (_, true) => Form::Quiet,
            _ => Form::Output,
        }
    }
}

/// Feeds a file, or else standard input of this process, to its end.
async fn feed(feed: Feed, file: Option<std::path::PathBuf>) {
    let fed = async {
        let input: Box<dyn AsyncRead + Unpin + Send> = match file {
            Some(path) => Box::new(File::open(&path).await.map_err(|source| unreadable(&path, source))?),
            None => Box::new(tokio::io::stdin()),
        };
        feed.run(input, true).await
    };
    match fed.await {
        Ok(_) => {}
        // The run closed its input, or has ended: what it does not want it does not get.
        Err(Failure::Call(status)) if matches!(status.code(), Code::FailedPrecondition | Code::NotFound) => {}
        Err(Failure::Call(status)) => {
            print::complain(&format!("cc-executor: input was cut off: {}", sentence(&status)))
        }
        Err(failure) => print::complain(&format!("cc-executor: input was cut off: {failure}")),
    }
}

/// Tells the run when the terminal here changes its size.
async fn resize(mut client: ExecutionServiceClient<Channel>, id: String) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        let Some((rows, columns)) = local_terminal::size() else { continue };
        let request = ControlRequest {
            execution_id: id.clone(),
            action: Some(Action::Resize(Resize { rows: rows.into(), columns: columns.into() })),
            ..ControlRequest::default()
        };
        // A size that did not arrive is mended by the next one.
        let _ = client.control(request).await;
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> Failure {
    Failure::Io { what: format!("cannot read {}", path.display()), source }
}
