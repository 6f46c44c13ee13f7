//! Ctrl-C and SIGTERM of this process, passed on to the run: the first cancels it, the second kills it, the third lets go.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use tonic::transport::Channel;

use super::exit::Interrupt;
use super::failure::{Failure, sentence};
use crate::proto::control_request::Action;
use crate::proto::execution_service_client::ExecutionServiceClient;
use crate::proto::{Cancel, ControlRequest, Kill};

/// The signals so far. Dropping it stops passing them on.
pub(super) struct Interrupts {
    seen: watch::Receiver<Seen>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    first: Option<Interrupt>,
    count: u32,
}

impl Interrupts {
    /// Passes the signals on to the run from now on.
    pub(super) fn forward(client: ExecutionServiceClient<Channel>, id: String) -> Result<Interrupts, Failure> {
        let subscribe =
            |kind| signal(kind).map_err(|source| Failure::Io { what: "cannot handle signals".to_owned(), source });
        let (sender, seen) = watch::channel(Seen::default());
        let (int, term) = (subscribe(SignalKind::interrupt())?, subscribe(SignalKind::terminate())?);
        let task = tokio::spawn(pass_on(client, id, int, term, sender));
        Ok(Interrupts { seen, _task: AbortOnDropHandle::new(task) })
    }

    /// The first of them.
    pub(super) fn first(&self) -> Option<Interrupt> {
        self.seen.borrow().first
    }

    /// Waits for the third. Cancel-safe: nothing is lost when it is dropped.
    pub(super) async fn third(&self) {
        let mut seen = self.seen.clone();
        if seen.wait_for(|seen| seen.count >= 3).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn pass_on(
    client: ExecutionServiceClient<Channel>,
    id: String,
    mut int: Signal,
    mut term: Signal,
    seen: watch::Sender<Seen>,
) {
    let mut controls = tokio::task::JoinSet::new();
    loop {
        let interrupt = tokio::select! {
            _ = int.recv() => Interrupt::Int,
            _ = term.recv() => Interrupt::Term,
        };
        let mut count = 0;
        seen.send_modify(|seen| {
            seen.first.get_or_insert(interrupt);
            seen.count += 1;
            count = seen.count;
        });
        let action = if count == 1 { Action::Cancel(Cancel::default()) } else { Action::Kill(Kill {}) };
        let reason = match interrupt {
            Interrupt::Int => "interrupted at the terminal",
            Interrupt::Term => "the client was told to end",
        };
        let request = ControlRequest {
            execution_id: id.clone(),
            reason: reason.to_owned(),
            action: Some(action),
            ..ControlRequest::default()
        };
        controls.spawn(control(client.clone(), request));
    }
}

/// Sends a control; again for a while when the run is not known yet, or the server not there.
async fn control(mut client: ExecutionServiceClient<Channel>, request: ControlRequest) {
    const TRIES: u32 = 25;
    for attempt in 1..=TRIES {
        match client.control(request.clone()).await {
            Ok(_) => return,
            Err(status) if attempt < TRIES && matches!(status.code(), Code::NotFound | Code::Unavailable) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(status) => {
                return super::print::complain(&format!("cc-executor: cannot end the run: {}", sentence(&status)));
            }
        }
    }
}
