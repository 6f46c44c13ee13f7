//! The resident shim: starts the leader, then answers requests and reaps until nobody needs it.
//!
//! One thread, one `poll`. An operation may hold the loop for a bounded moment (two seconds for a kill that meets
//! unkillable processes); the leader's end is reported from within such a moment too.

use std::{
    fs::File,
    io::{self, IoSliceMut, Read as _, Seek as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use bytes::BytesMut;
use nix::{
    cmsg_space,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        socket::{ControlMessageOwned, MsgFlags, recv, recvmsg},
    },
    unistd::{getpid, getppid, pipe2},
};

use super::{
    leader::become_command,
    protocol::{Answer, Message, Order, Reach, Request, VERSION, frame, unframe},
};
use crate::os::{
    SpawnError, SpawnStep, Usage,
    cgroup::Cgroup,
    crowd::{self, Stopped},
    process::{self, Process},
    syscall::{self, Ended, Waited},
};

/// Between attempts to kill what could not be killed at once.
const RETRY: u16 = 50;
/// How long a freeze may take to be complete.
const FREEZING: Duration = Duration::from_secs(2);
/// How long it may take where it is only a help.
const HOLDING: Duration = Duration::from_millis(200);
/// How long removing the cgroup may take at the end.
const REMOVING: Duration = Duration::from_secs(1);

/// Everything the loop knows.
struct Init {
    /// The server; gone once this is `None`.
    socket: Option<UnixStream>,
    received: BytesMut,
    signals: SignalFd,
    server: i32,
    leader: i32,
    /// Says why the leader could not become the command; closed without a word once it has.
    starting: Option<File>,
    has_exited: bool,
    is_empty: bool,
    stopped: Stopped,
    is_frozen: bool,
    cgroup: Option<Cgroup>,
    /// Everything is to end, and is killed until it has.
    is_killing: bool,
    /// One long attempt to kill has been made; what is left is met again every now and then.
    has_tried: bool,
    is_released: bool,
}

/// Takes the order and lives through it; the process's exit code, which nobody reads.
pub(super) fn run() -> i32 {
    let Ok((socket, signals)) = set_up() else { return 1 };
    let Ok((order, stdio)) = receive_order(&socket) else { return 1 };
    let server = i32::try_from(order.server).unwrap_or(0);
    if order.version != VERSION {
        tell(&socket, &Message::Failed(SpawnError::new(SpawnStep::Resources, libc::EPROTO)));
        return 1;
    }
    if !order.resident {
        let error = become_command(&order, &stdio, server);
        tell(&socket, &Message::Failed(error));
        return 1;
    }
    match start(socket, signals, server, &order, stdio) {
        Ok(init) => init.live(),
        Err(()) => 1,
    }
}

/// Descriptors and signals as a shim needs them: the socket at 3, nothing at 0 to 2, nothing else open.
fn set_up() -> io::Result<(UnixStream, SignalFd)> {
    // The name of the file we were started through is "exe", which tells an operator nothing.
    prctl::set_name(c"cc-executor-ini")?;
    syscall::close_from_three();
    let socket = UnixStream::from(syscall::duplicate(0)?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    syscall::place(&null, 0)?;
    let all = SigSet::all();
    all.thread_block()?;
    let mut taken = SigSet::empty();
    taken.add(Signal::SIGCHLD);
    taken.add(Signal::SIGTERM);
    let signals = SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    Ok((socket, signals))
}

/// The first message: one byte with the order's memfd and the command's three descriptors.
fn receive_order(socket: &UnixStream) -> io::Result<(Order, [OwnedFd; 3])> {
    let mut byte = [0u8; 1];
    let mut space = cmsg_space!([RawFd; 4]);
    let mut descriptors: Vec<OwnedFd> = Vec::with_capacity(4);
    {
        let mut parts = [IoSliceMut::new(&mut byte)];
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                for number in numbers {
                    descriptors.push(own(number));
                }
            }
        }
    }
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or(io::ErrorKind::InvalidData);
    let mut file = File::from(next()?);
    let stdio = [next()?, next()?, next()?];
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    let order = postcard::from_bytes(&text).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok((order, stdio))
}

fn own(number: RawFd) -> OwnedFd {
    use std::os::fd::FromRawFd as _;
    #[expect(unsafe_code, reason = "a descriptor received over a socket arrives as a number")]
    // SAFETY: the kernel has just made it for us.
    unsafe {
        OwnedFd::from_raw_fd(number)
    }
}

/// Becomes the command's init and forks the leader.
fn start(socket: UnixStream, signals: SignalFd, server: i32, order: &Order, stdio: [OwnedFd; 3]) -> Result<Init, ()> {
    let refuse = |error: SpawnError| {
        tell(&socket, &Message::Failed(error));
    };
    let errno = |step: SpawnStep| move |errno: nix::errno::Errno| SpawnError::new(step, errno as i32);
    prctl::set_child_subreaper(true).map_err(errno(SpawnStep::Containment)).map_err(refuse)?;
    prctl::set_pdeathsig(Signal::SIGTERM).map_err(errno(SpawnStep::Containment)).map_err(refuse)?;
    if getppid().as_raw() != server {
        return Err(());
    }
    let (verdict, report) = pipe2(OFlag::O_CLOEXEC).map_err(errno(SpawnStep::Resources)).map_err(refuse)?;
    let own = getpid().as_raw();
    let leader = syscall::fork().map_err(|error| refuse(SpawnError::io(SpawnStep::Resources, &error)))?;
    if leader == 0 {
        let error = become_command(order, &stdio, own);
        // Shorter than a pipe's atomic size unless a path is very long; the reader waits for the end anyway.
        let _ = File::from(report).write_all(&postcard::to_stdvec(&error).unwrap_or_default());
        syscall::exit_now(127);
    }
    // Who keeps these open would keep the pipes and the terminal from ever ending.
    drop((report, stdio));
    Ok(Init {
        socket: Some(socket),
        received: BytesMut::new(),
        signals,
        server,
        leader,
        starting: Some(File::from(verdict)),
        has_exited: false,
        is_empty: false,
        stopped: Stopped::default(),
        is_frozen: false,
        cgroup: order.cgroup.clone().map(Cgroup::at),
        is_killing: false,
        has_tried: false,
        is_released: false,
    })
}

impl Init {
    fn live(mut self) -> i32 {
        loop {
            let (starting, socket) = self.wait();
            if starting {
                self.hear_leader();
            }
            self.hear_signals();
            if socket {
                self.hear_server();
            }
            if self.is_killing && !self.is_empty {
                let budget = if self.has_tried { Duration::ZERO } else { crowd::KILLING };
                self.kill(budget);
            }
            if self.is_empty && (self.is_released || self.socket.is_none()) {
                if let Some(cgroup) = &self.cgroup {
                    cgroup.destroy(REMOVING);
                }
                return 0;
            }
        }
    }

    /// Waits for anything to happen; whether the leader, whether the server has something to say.
    fn wait(&self) -> (bool, bool) {
        let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let starting = self.starting.as_ref().map(AsFd::as_fd);
        let socket = self.socket.as_ref().map(AsFd::as_fd);
        watched.extend(starting.into_iter().chain(socket).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let retry = self.is_killing && !self.is_empty;
        let answer = if retry { poll(&mut watched, RETRY) } else { poll(&mut watched, nix::poll::PollTimeout::NONE) };
        if answer.is_err() {
            return (false, false);
        }
        let mut rest = watched.iter().skip(1).map(|one| one.any().unwrap_or(false));
        let starting = starting.is_some() && rest.next().unwrap_or(false);
        (starting, rest.next().unwrap_or(false))
    }

    /// The leader executes, or says why it cannot.
    fn hear_leader(&mut self) {
        let Some(mut verdict) = self.starting.take() else { return };
        let mut text = Vec::new();
        let heard = verdict.read_to_end(&mut text);
        if heard.is_ok() && text.is_empty() {
            let pid = u32::try_from(self.leader).unwrap_or_default();
            return self.tell(&Message::Started { pid });
        }
        let broken = SpawnError::new(SpawnStep::Resources, libc::EIO);
        let error = postcard::from_bytes(&text).unwrap_or(broken);
        self.tell(&Message::Failed(error));
        // No exit is to follow; what is left is to reap the copy of us and go.
        self.has_exited = true;
        self.is_killing = true;
        self.is_released = true;
    }

    fn hear_signals(&mut self) {
        let mut is_asked_to_end = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            is_asked_to_end |= i32::try_from(signal.ssi_signo).is_ok_and(|number| number == libc::SIGTERM);
        }
        self.reap();
        // Sent by the kernel when the server dies. From anybody else it is ignored: a service manager that ends all
        // of us at once wants the server to decide how its commands end.
        if is_asked_to_end && getppid().as_raw() != self.server {
            self.lose_server();
        }
    }

    fn hear_server(&mut self) {
        let mut chunk = [0u8; 4096];
        let Some(socket) = &self.socket else { return };
        match recv(socket.as_raw_fd(), &mut chunk, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return self.lose_server(),
            Ok(count) => self.received.extend_from_slice(&chunk[..count]),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return,
            Err(_) => return self.lose_server(),
        }
        loop {
            match unframe::<(u64, Request)>(&mut self.received) {
                Ok(Some((_, Request::Release))) => {
                    self.is_released = true;
                    self.is_killing = true;
                }
                Ok(Some((number, request))) => {
                    let answer = self.obey(request);
                    self.tell(&Message::Answer(number, answer));
                }
                Ok(None) => return,
                Err(_) => return self.lose_server(),
            }
        }
    }

    fn lose_server(&mut self) {
        self.socket = None;
        self.is_killing = true;
    }

    fn obey(&mut self, request: Request) -> Answer {
        match request {
            Request::Signal { number, reach, resume } => {
                let answer = self.signal(number, reach, resume);
                if resume {
                    self.thaw();
                }
                answer
            }
            Request::Freeze => self.freeze(),
            Request::Thaw => Answer::Count(self.thaw()),
            Request::Kill => {
                self.is_killing = true;
                self.kill(crowd::KILLING)
            }
            Request::Members => Answer::Members(crowd::living(&tree())),
            Request::Usage => Answer::Usage(self.usage()),
            Request::Release => Answer::Count(0),
        }
    }

    fn signal(&self, number: i32, reach: Reach, resume: bool) -> Answer {
        match reach {
            Reach::Leader if self.has_exited => Answer::Count(0),
            Reach::Leader => crowd::signal_one(self.leader, number, resume),
            Reach::Group => crowd::signal_group(self.leader, number, resume, &tree()),
            Reach::Tree => self.signal_tree(number, resume),
        }
    }

    /// Held while it is signalled, the tree gets the signal exactly once each, and nothing that a handler starts in
    /// answer to it does. Without a cgroup that would need stops which a parent could notice, so it is not done.
    fn signal_tree(&self, number: i32, resume: bool) -> Answer {
        let held = self.cgroup.as_ref().filter(|cgroup| !self.is_frozen && cgroup.freeze(HOLDING).is_ok());
        let answer = crowd::signal_all(number, resume, tree);
        if let Some(cgroup) = held {
            // It was possible to freeze, so this is too.
            let _ = cgroup.thaw();
        }
        answer
    }

    fn freeze(&mut self) -> Answer {
        let Some(cgroup) = &self.cgroup else {
            return self.stopped.freeze(tree);
        };
        match cgroup.freeze(FREEZING) {
            Ok(complete) => {
                self.is_frozen = true;
                Answer::Frozen { processes: crowd::count(crowd::living(&tree()).len()), complete }
            }
            Err(error) => Answer::Failed(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    fn thaw(&mut self) -> u32 {
        let woken = self.stopped.thaw();
        match &self.cgroup {
            Some(cgroup) if self.is_frozen && cgroup.thaw().is_ok() => {
                self.is_frozen = false;
                crowd::count(crowd::living(&tree()).len())
            }
            _ => woken,
        }
    }

    /// Kills everything for `budget`; the loop goes on with it afterwards if that was not enough.
    fn kill(&mut self, budget: Duration) -> Answer {
        self.has_tried = true;
        let cgroup = self.cgroup.clone();
        let list = move || {
            let members = tree();
            // After the list, so that the count is right: these are the ones it ends.
            if let Some(cgroup) = &cgroup {
                let _ = cgroup.kill();
            }
            members
        };
        crowd::kill_all(budget, list, || {
            self.reap();
            self.is_empty
        })
    }

    /// Takes the status of every ended child and reports the leader's, and that none is left.
    fn reap(&mut self) {
        if self.is_empty {
            return;
        }
        loop {
            match syscall::reap(-1) {
                Waited::Ended(pid, ended) if pid == self.leader => self.leader_ended(ended),
                Waited::Ended(..) => {}
                Waited::Running => return,
                Waited::Nobody => {
                    self.is_empty = true;
                    let usage = self.usage();
                    return self.tell(&Message::Empty(usage));
                }
            }
        }
    }

    fn leader_ended(&mut self, ended: Ended) {
        // It may have started and ended within one poll: the order of the story is kept.
        self.hear_leader();
        if self.has_exited {
            return;
        }
        self.has_exited = true;
        self.tell(&match ended {
            Ended::Code(code) => Message::Exited { code },
            Ended::Signal { number, core_dumped } => Message::Signaled { number, core_dumped },
        });
    }

    fn usage(&self) -> Usage {
        let mut usage = syscall::reaped_usage();
        for process in tree() {
            usage.user += process.user_time();
            usage.system += process.system_time();
            usage.peak_memory_bytes = usage.peak_memory_bytes.max(process::peak_memory(process.pid));
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.count_into(&mut usage);
        }
        usage
    }

    fn tell(&mut self, message: &Message) {
        if let Some(socket) = &self.socket
            && !tell(socket, message)
        {
            self.lose_server();
        }
    }
}

/// What is below this process.
fn tree() -> Vec<Process> {
    process::descendants(getpid().as_raw())
}

/// Whether the message went out.
fn tell(mut socket: &UnixStream, message: &Message) -> bool {
    socket.write_all(&frame(message)).is_ok()
}
