//! The server's end of a shim's socket: one task that passes requests on and takes the shim's story in.

use std::{collections::HashMap, io, os::unix::net::UnixStream as Socket};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    Exit, Host, SpawnError, SpawnStep,
    cgroup::Cgroup,
    child::Progress,
    floor::Remains,
    reaper::Reaper,
    shim::protocol::{Answer, Message, Request, frame, unframe},
};

/// Asks the shim. Cheap to clone; works until the shim is gone.
#[derive(Debug, Clone)]
pub(super) struct Link {
    asks: mpsc::UnboundedSender<Ask>,
}

#[derive(Debug)]
struct Ask {
    request: Request,
    answer: oneshot::Sender<Answer>,
}

/// What the task needs besides the socket.
#[derive(Debug)]
pub(super) struct Parts {
    /// The shim.
    pub(super) pid: i32,
    pub(super) reaper: Reaper,
    /// How to find the tree should the shim be killed.
    pub(super) remains: Remains,
    pub(super) progress: watch::Sender<Progress>,
    /// The child was dropped, or released: everything is to end.
    pub(super) end: CancellationToken,
    /// Lives as long as any of its commands.
    pub(super) _host: Host,
}

/// The task's state.
struct Conversation {
    parts: Parts,
    stream: UnixStream,
    received: BytesMut,
    asks: mpsc::UnboundedReceiver<Ask>,
    pending: HashMap<u64, oneshot::Sender<Answer>>,
    numbered: u64,
}

impl Link {
    /// Starts the task. It ends when the shim has, and then nothing of the run remains.
    pub(super) fn start(socket: Socket, parts: Parts) -> io::Result<Link> {
        socket.set_nonblocking(true)?;
        let stream = UnixStream::from_std(socket)?;
        let (asks, receiver) = mpsc::unbounded_channel();
        let conversation = Conversation {
            parts,
            stream,
            received: BytesMut::new(),
            asks: receiver,
            pending: HashMap::new(),
            numbered: 0,
        };
        tokio::spawn(conversation.run());
        Ok(Link { asks })
    }

    /// The shim's answer; `None` if it is gone.
    pub(super) async fn ask(&self, request: Request) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask { request, answer }).ok()?;
        answered.await.ok()
    }
}

impl Conversation {
    async fn run(mut self) {
        let mut is_ending = false;
        loop {
            tokio::select! {
                read = self.stream.read_buf(&mut self.received) => {
                    if !matches!(read, Ok(count) if count > 0) || !self.hear() {
                        break;
                    }
                }
                Some(ask) = self.asks.recv() => {
                    self.numbered += 1;
                    self.pending.insert(self.numbered, ask.answer);
                    self.say(self.numbered, ask.request).await;
                }
                () = self.parts.end.cancelled(), if !is_ending => {
                    is_ending = true;
                    self.say(0, Request::Release).await;
                }
            }
        }
        self.conclude().await;
    }

    async fn say(&mut self, number: u64, request: Request) {
        // If this fails the shim is gone, and the next read says so.
        let _ = self.stream.write_all(&frame(&(number, request))).await;
    }

    /// Takes in every whole message; false if the shim does not make sense.
    fn hear(&mut self) -> bool {
        loop {
            match unframe::<Message>(&mut self.received) {
                Ok(Some(Message::Answer(number, answer))) => {
                    if let Some(waiting) = self.pending.remove(&number) {
                        // Whoever asked may have stopped waiting.
                        let _ = waiting.send(answer);
                    }
                }
                Ok(Some(message)) => self.parts.progress.send_modify(|progress| note(progress, message)),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// The shim is gone: as it should be, or killed.
    async fn conclude(self) {
        let Conversation { parts, pending, stream, asks, .. } = self;
        // A shim that does not make sense sees the end of the file and ends its command.
        drop((stream, asks));
        parts.reaper.finish(parts.pid).await;
        let is_complete = {
            let progress = parts.progress.borrow();
            progress.usage.is_some() || matches!(progress.start, Some(Err(_)))
        };
        if !is_complete {
            parts.progress.send_modify(|progress| {
                let why = || Exit::Unknown { why: "the process that watched it was killed".to_owned() };
                progress.exit.get_or_insert_with(why);
                let failed = || Err(SpawnError::new(SpawnStep::Resources, libc::ESRCH));
                progress.start.get_or_insert_with(failed);
            });
        }
        drop(pending);
        let remains = match &parts.progress.borrow().start {
            Some(Ok(leader)) => parts.remains.clone().led_by(*leader),
            _ => parts.remains.clone(),
        };
        if !is_complete {
            remains.end().await;
        } else if remains.cgroup.as_ref().is_some_and(Cgroup::exists) {
            // The shim has removed it already, unless it was in a hurry.
            remains.end().await;
        }
        parts.progress.send_modify(|progress| {
            progress.usage.get_or_insert_default();
            progress.is_over = true;
        });
    }
}

fn note(progress: &mut Progress, message: Message) {
    match message {
        Message::Started { pid } => progress.start = Some(Ok(pid)),
        Message::Failed(error) => progress.start = Some(Err(error)),
        Message::Exited { code } => progress.exit = Some(Exit::Code(code)),
        Message::Signaled { number, core_dumped } => progress.exit = Some(Exit::Signal { number, core_dumped }),
        Message::Empty(usage) => progress.usage = Some(usage),
        Message::Answer(..) => {}
    }
}
