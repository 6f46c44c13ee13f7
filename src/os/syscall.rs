//! The handful of system calls that nix does not offer in the shape we need, each behind a safe function.
//!
//! Everything below `os` calls these; nobody outside may. The rule that no signal ever goes to a process number of
//! one or less (`kill(-1)` would end everything we may signal) lives here, in one function.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use tokio::io::{Interest, unix::AsyncFd};

use super::Usage;

/// How a process ended, as the kernel reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Code(i32),
    Signal { number: i32, core_dumped: bool },
}

/// What a call of the wait family said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// This child ended and is reaped.
    Ended(i32, Ended),
    /// There are children, none of them has ended.
    Running,
    /// There is no such child.
    Nobody,
}

/// Reaps one ended child, `pid`, or any if it is -1; never waits.
///
/// nix's `waitpid` fails on a death by a real-time signal *after* having reaped the child, so it would lose a result.
pub(super) fn reap(pid: i32) -> Waited {
    let mut status = 0;
    #[expect(unsafe_code, reason = "nix cannot report real-time signals")]
    // SAFETY: `status` is a valid place for the answer.
    let found = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
    match found {
        0 => Waited::Running,
        found if found > 0 => Waited::Ended(found, decode(status)),
        _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Waited::Running,
        _ => Waited::Nobody,
    }
}

/// Reaps the ended child `pid` and says what it and the children it had waited for have used.
pub(super) fn reap_with_usage(pid: i32) -> Option<Usage> {
    let mut status = 0;
    #[expect(unsafe_code, reason = "nix has no wait4")]
    // SAFETY: all zeroes is a valid rusage, and both places are valid for the answer.
    let (found, counted) = unsafe {
        let mut counted: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut counted), counted)
    };
    (found == pid).then(|| usage(&counted))
}

/// What all children reaped so far have used, with those they had waited for.
pub(super) fn reaped_usage() -> Usage {
    #[expect(unsafe_code, reason = "nix's type could not be shared with wait4")]
    // SAFETY: all zeroes is a valid rusage, and the place is valid for the answer.
    let counted = unsafe {
        let mut counted: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut counted);
        counted
    };
    usage(&counted)
}

fn usage(counted: &libc::rusage) -> Usage {
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    let time =
        |time: libc::timeval| Duration::from_secs(number(time.tv_sec)) + Duration::from_micros(number(time.tv_usec));
    Usage {
        user: time(counted.ru_utime),
        system: time(counted.ru_stime),
        peak_memory_bytes: number(counted.ru_maxrss) * 1024,
        read_bytes: number(counted.ru_inblock) * 512,
        written_bytes: number(counted.ru_oublock) * 512,
        ..Usage::default()
    }
}

fn decode(status: i32) -> Ended {
    if libc::WIFSIGNALED(status) {
        Ended::Signal { number: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
    } else {
        Ended::Code(libc::WEXITSTATUS(status))
    }
}

/// Looks at how the child behind `pidfd` ended and leaves it unreaped, so that its number stays taken.
/// `None` while it runs.
pub(super) fn peek(pidfd: &OwnedFd) -> io::Result<Option<Ended>> {
    let id = libc::id_t::try_from(pidfd.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    #[expect(unsafe_code, reason = "nix cannot report real-time signals")]
    // SAFETY: all zeroes is a valid siginfo_t, and the kernel fills it in.
    let info = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_PIDFD, id, &raw mut info, flags) != 0 {
            return Err(io::Error::last_os_error());
        }
        (info.si_pid(), info.si_code, info.si_status())
    };
    Ok(match info {
        (0, _, _) => None,
        (_, libc::CLD_EXITED, code) => Some(Ended::Code(code)),
        (_, code, number) => Some(Ended::Signal { number, core_dumped: code == libc::CLD_DUMPED }),
    })
}

/// A descriptor that becomes readable when the child `pid` ends. Needs Linux 5.3.
pub(super) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "nix has no pidfd_open")]
    // SAFETY: the call takes no pointers, and a non-negative answer is a descriptor nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Sends `number` to one process.
pub(super) fn signal_process(pid: i32, number: i32) -> io::Result<()> {
    send(guard(pid)?, number)
}

/// Sends `number` to every process of a group, all at one moment as far as forks are concerned.
pub(super) fn signal_group(group: i32, number: i32) -> io::Result<()> {
    send(-guard(group)?, number)
}

/// The one place that decides whom a signal may never reach.
fn guard(target: i32) -> io::Result<i32> {
    if target > 1 { Ok(target) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn send(target: i32, number: i32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "nix's kill does not take real-time signals")]
    // SAFETY: the call takes no pointers; `target` went through `guard`.
    let answer = unsafe { libc::kill(target, number) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads once, into the spare capacity of `buffer`, and returns how many bytes were appended.
pub(super) fn read_into(fd: &impl AsFd, buffer: &mut BytesMut) -> io::Result<usize> {
    let room = buffer.capacity() - buffer.len();
    if room == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    #[expect(unsafe_code, reason = "reading into spare capacity saves zeroing it for every read")]
    // SAFETY: `room` bytes after the length belong to the buffer, and only what was written is taken over.
    unsafe {
        let count = libc::read(fd.as_fd().as_raw_fd(), buffer.chunk_mut().as_mut_ptr().cast(), room);
        match usize::try_from(count) {
            Ok(count) => {
                buffer.advance_mut(count);
                Ok(count)
            }
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

/// Makes `source` the descriptor `target` of this process, to be kept across an exec.
pub(super) fn place(source: &impl AsFd, target: i32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "nix would own the target and close it")]
    // SAFETY: the call takes no pointers; whoever held `target` (0 to 2 only) is meant to lose it.
    let answer = unsafe { libc::dup2(source.as_fd().as_raw_fd(), target) };
    if answer == target { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Duplicates descriptor `number` of this process, whoever opened it, to one that is closed on exec.
pub(super) fn duplicate(number: i32) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "the number comes from outside, there is no owner to borrow from")]
    // SAFETY: the call takes no pointers, and a non-negative answer is a descriptor nobody else owns.
    unsafe {
        let fd = libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3);
        if fd >= 0 { Ok(OwnedFd::from_raw_fd(fd)) } else { Err(io::Error::last_os_error()) }
    }
}

/// Closes every descriptor from 3 on. For a process that has just begun and owns none of them.
pub(super) fn close_from_three() {
    #[expect(unsafe_code, reason = "nix has no close_range")]
    // SAFETY: the caller has opened nothing yet, so nobody's descriptor is taken away.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
    }
}

/// Marks every descriptor from 3 on to be closed by the next exec.
pub(super) fn close_on_exec_from_three() -> io::Result<()> {
    #[expect(unsafe_code, reason = "nix has no close_range")]
    // SAFETY: the call takes no pointers, and marking closes nothing now.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if answer == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if number > 2 {
            #[expect(unsafe_code, reason = "the number comes from outside, there is no owner to borrow from")]
            // SAFETY: the call takes no pointers, and marking closes nothing now.
            unsafe {
                libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
    Ok(())
}

/// Gives every signal its default disposition and unblocks all of them. For a process about to exec.
pub(super) fn reset_signals() {
    #[expect(unsafe_code, reason = "nix refuses real-time signals")]
    // SAFETY: default handlers run no code of ours; an emptied set is valid.
    unsafe {
        for number in 1..=libc::SIGRTMAX() {
            libc::signal(number, libc::SIG_DFL);
        }
        // The two that the C library keeps for itself and leaves ignored in what it spawns. All zeroes, in the
        // kernel's own form of the structure, is the default disposition.
        for number in 32..34 {
            let default = [0u64; 8];
            let nowhere = std::ptr::null_mut::<u8>();
            libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), nowhere, 8usize);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Makes the terminal behind standard input-to-be `fd` the controlling terminal of this session leader.
pub(super) fn take_terminal(fd: &impl AsFd) -> io::Result<()> {
    #[expect(unsafe_code, reason = "nix has no TIOCSCTTY")]
    // SAFETY: the request takes an integer, not a pointer.
    let answer = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Tells the terminal its size.
pub(super) fn resize_terminal(fd: &impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    #[expect(unsafe_code, reason = "nix has no TIOCSWINSZ as a function")]
    // SAFETY: `size` is valid for the length of the call.
    let answer = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A copy of this process, which must be single-threaded. Zero in the copy.
pub(super) fn fork() -> io::Result<i32> {
    #[expect(unsafe_code, reason = "fork is unsafe where there are threads; the shim has one")]
    // SAFETY: only the shim calls this, and it has one thread.
    let pid = unsafe { libc::fork() };
    if pid >= 0 { Ok(pid) } else { Err(io::Error::last_os_error()) }
}

/// Ends this process at once, running no destructors or exit handlers: for a forked copy.
pub(super) fn exit_now(code: i32) -> ! {
    #[expect(unsafe_code, reason = "a forked copy must not run the exit handlers of its original")]
    // SAFETY: the call takes no pointers and does not return.
    unsafe {
        libc::_exit(code)
    }
}

/// Waits a moment, for loops on plain threads that watch something the kernel sends no event for.
pub(super) fn pause(duration: Duration) {
    let milliseconds = u16::try_from(duration.as_millis()).unwrap_or(u16::MAX);
    // An interrupted wait is only a shorter one.
    let _ = nix::poll::poll(&mut [], milliseconds);
}

/// Ticks of `/proc/<pid>/stat` in a second.
pub(super) fn ticks_per_second() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|ticks| u64::try_from(ticks).ok())
        .unwrap_or(100)
}

/// Hands a non-blocking descriptor to the runtime, to wait for it to be ready.
pub(super) fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(unsafe_code, reason = "the registration relies on the descriptor staying open")]
    // SAFETY: an OwnedFd always answers with the same open descriptor until it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    registered.map_err(io::Error::from)
}
