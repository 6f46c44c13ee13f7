//! The floor of containment: a command without an init of its own, found again by what it cannot easily shed.
//!
//! Used where the shim cannot stay (`Containment::Group`), and for the tree of a shim that was killed. A process
//! belongs to the tree if it is in the leader's session or group, has the marker in its environment, or descends
//! from one that does. What leaves all four (a new session with an emptied environment and a dead parent) is lost.
//! Everything here searches the whole of `/proc`, so it runs on blocking threads.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    os::unix::net::UnixStream as Socket,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, Interest, unix::AsyncFd},
    net::UnixStream,
    sync::watch,
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

use super::{
    Exit, Host, MARKER, SpawnError, SpawnStep, Usage,
    cgroup::Cgroup,
    child::Progress,
    crowd::{self, Stopped},
    process::{self, Process},
    reaper::Reaper,
    shim::protocol::{Answer, Message, Reach, Request, unframe},
    syscall,
};

/// Between two looks at whether a tree without its leader is empty.
const LOOKING: Duration = Duration::from_millis(100);

/// How to find the processes of one command without a shim.
#[derive(Debug, Clone)]
pub(super) struct Remains {
    /// The value of the marker.
    pub(super) id: String,
    /// The leader, and whether it is our own child, not yet reaped: only then is its number sure to be still its.
    pub(super) leader: i32,
    pub(super) is_pinned: bool,
    pub(super) cgroup: Option<Cgroup>,
}

/// Obeys the requests a shim would.
#[derive(Debug, Clone)]
pub(super) struct Floor {
    remains: Remains,
    stopped: Arc<Mutex<Stopped>>,
}

impl Remains {
    /// The same, of a tree whose leader the shim has told.
    pub(super) fn led_by(self, leader: u32) -> Remains {
        Remains { leader: i32::try_from(leader).unwrap_or(0), ..self }
    }

    /// Everything that belongs to the command, parents before children as far as they are related.
    pub(super) fn list(&self) -> Vec<Process> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let everything = process::all();
        let in_cgroup: HashSet<i32> = self.cgroup.iter().flat_map(Cgroup::members).collect();
        let belongs = |process: &Process| {
            let is_related = process.session == self.leader || process.group == self.leader;
            (is_related && self.leader > 1 && (self.is_pinned || process.parent == own))
                || in_cgroup.contains(&process.pid)
                || process::has_variable(process.pid, MARKER, OsStr::new(&self.id))
        };
        let mut found: Vec<Process> = everything
            .iter()
            .filter(|process| process.pid > 1 && process.pid != own && belongs(process))
            .cloned()
            .collect();
        let roots: Vec<i32> = found.iter().map(|process| process.pid).collect();
        found.extend(process::below(&roots, everything).into_iter().filter(|process| process.pid != own));
        // The leader first, then the oldest: that is parents before children, nearly always.
        found.sort_by_key(|process| (process.pid != self.leader, process.started, process.pid));
        found
    }

    fn is_empty(&self) -> bool {
        !self.list().iter().any(Process::is_alive)
    }

    /// Kills everything until it is gone, however long that takes, and removes the cgroup.
    pub(super) async fn end(self) {
        let mut wait = Duration::from_millis(1);
        loop {
            let remains = self.clone();
            let is_gone = spawn_blocking(move || {
                if let Some(cgroup) = &remains.cgroup
                    && cgroup.exists()
                {
                    cgroup.destroy(crowd::KILLING);
                }
                matches!(remains.kill(), Answer::Killed { survivors, .. } if survivors.is_empty())
            });
            // An error means that the runtime ends.
            if is_gone.await.unwrap_or(true) {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(1));
        }
    }

    fn kill(&self) -> Answer {
        crowd::kill_all(crowd::KILLING, || self.list(), || self.is_empty())
    }
}

impl Floor {
    pub(super) fn new(remains: Remains) -> Floor {
        Floor { remains, stopped: Arc::default() }
    }

    /// Does what a shim would, on a blocking thread. `None` if the runtime ends.
    pub(super) async fn ask(&self, request: Request) -> Option<Answer> {
        let floor = self.clone();
        spawn_blocking(move || floor.obey(request)).await.ok()
    }

    fn obey(&self, request: Request) -> Answer {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let list = || self.remains.list();
        match request {
            Request::Signal { number, reach, resume } => {
                let answer = match reach {
                    Reach::Leader if self.remains.is_pinned => crowd::signal_one(self.remains.leader, number, resume),
                    Reach::Leader => Answer::Count(0),
                    Reach::Group => crowd::signal_group(self.remains.leader, number, resume, &list()),
                    Reach::Tree => crowd::signal_all(number, resume, list),
                };
                if resume {
                    stopped.thaw();
                }
                answer
            }
            Request::Freeze => stopped.freeze(list),
            Request::Thaw => Answer::Count(stopped.thaw()),
            Request::Kill => self.remains.kill(),
            Request::Members => Answer::Members(crowd::living(&list())),
            Request::Usage => Answer::Usage(self.usage()),
            Request::Release => Answer::Count(0),
        }
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for member in self.remains.list() {
            usage.user += member.user_time();
            usage.system += member.system_time();
            usage.peak_memory_bytes = usage.peak_memory_bytes.max(process::peak_memory(member.pid));
        }
        usage
    }
}

/// The one task of a command that has no shim: hears whether it started, waits for its end, then for the others'.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) pid: i32,
    pub(super) reaper: Reaper,
    pub(super) floor: Floor,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) end: CancellationToken,
    /// The command dies with the thread that started it, so that thread must live on.
    pub(super) _host: Host,
}

impl Watcher {
    /// Starts the task.
    pub(super) fn start(self, socket: Socket) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let stream = UnixStream::from_std(socket)?;
        let ended = syscall::register(syscall::pidfd(self.pid)?, Interest::READABLE)?;
        tokio::spawn(async move {
            match start_failure(stream).await {
                Some(error) => self.refused(error).await,
                None => self.watch(ended).await,
            }
        });
        Ok(())
    }

    async fn refused(self, error: SpawnError) {
        self.reaper.finish(self.pid).await;
        self.progress.send_modify(|progress| {
            progress.start = Some(Err(error));
            progress.usage = Some(Usage::default());
            progress.is_over = true;
        });
    }

    async fn watch(self, ended: AsyncFd<std::os::fd::OwnedFd>) {
        let pid = u32::try_from(self.pid).unwrap_or_default();
        self.progress.send_modify(|progress| progress.start = Some(Ok(pid)));
        tokio::select! {
            _ = ended.readable() => {}
            () = self.end.cancelled() => {
                self.floor.ask(Request::Kill).await;
                let _ = ended.readable().await;
            }
        }
        // Not reaped yet: as long as it is a zombie nobody else can get its number, nor its session's or group's.
        let exit = match syscall::peek(ended.get_ref()) {
            Ok(Some(ended)) => Exit::from(ended),
            Ok(None) => Exit::Unknown { why: "its end was announced too early".to_owned() },
            Err(error) => Exit::Unknown { why: format!("its status was taken by somebody else: {error}") },
        };
        self.progress.send_modify(|progress| progress.exit = Some(exit));
        self.wait_until_empty().await;
        let usage = syscall::reap_with_usage(self.pid).unwrap_or_default();
        self.reaper.disown(self.pid);
        self.progress.send_modify(|progress| {
            progress.usage = Some(usage);
            progress.is_over = true;
        });
    }

    async fn wait_until_empty(&self) {
        let mut wait = Duration::from_millis(2);
        loop {
            let remains = self.floor.remains.clone();
            if spawn_blocking(move || remains.is_empty()).await.unwrap_or(true) {
                return;
            }
            tokio::select! {
                () = self.end.cancelled() => return self.floor.remains.clone().end().await,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(LOOKING),
            }
        }
    }
}

/// Why the program could not be executed; `None` once it is executing, which closes the socket without a word.
async fn start_failure(mut stream: UnixStream) -> Option<SpawnError> {
    let mut received = BytesMut::new();
    while matches!(stream.read_buf(&mut received).await, Ok(count) if count > 0) {}
    match unframe::<Message>(&mut received) {
        Ok(None) => None,
        Ok(Some(Message::Failed(error))) => Some(error),
        _ => Some(SpawnError::new(SpawnStep::Resources, libc::EPROTO)),
    }
}
