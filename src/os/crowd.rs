//! Freezes, wakes, signals and kills a set of processes that changes while we look at it.
//!
//! Who belongs to the set is the caller's business: the shim lists what is below it, the floor searches `/proc`.
//! Everything here blocks for a moment, so it runs in the shim or on a blocking thread, never on a runtime worker.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{
    process::{Key, Process},
    shim::protocol::{Answer, Living},
    syscall,
};

/// Passes over a growing set before a freeze is called incomplete.
const PASSES: u32 = 10;
/// How long a stop may take to show.
const SETTLING: Duration = Duration::from_millis(500);
/// How long killing is tried before survivors are reported.
pub(super) const KILLING: Duration = Duration::from_secs(2);

/// The processes stopped by us and by nobody else, parents before children.
#[derive(Debug, Default)]
pub(super) struct Stopped(Vec<Key>);

impl Stopped {
    /// Stops every process of the set, parents first, until nothing new appears and all are seen stopped.
    ///
    /// A process that was stopped already is not remembered, so it is not woken by [`Stopped::thaw`].
    pub(super) fn freeze(&mut self, mut list: impl FnMut() -> Vec<Process>) -> Answer {
        let mut asked: HashSet<Key> = self.0.iter().copied().collect();
        // Counted from the last process that was met: looking for them may take longer than a stop does.
        let mut deadline = now() + SETTLING;
        let mut passes = 0;
        loop {
            let members: Vec<Process> = list().into_iter().filter(Process::is_alive).collect();
            let mut found_new = false;
            for member in &members {
                if member.is_stopped() || asked.contains(&member.key()) {
                    continue;
                }
                found_new = true;
                if syscall::signal_process(member.pid, libc::SIGSTOP).is_ok() {
                    asked.insert(member.key());
                    self.0.push(member.key());
                }
            }
            let complete = !found_new && members.iter().all(|member| is_held(member, &members));
            passes += u32::from(found_new);
            if complete || passes >= PASSES || (!found_new && now() >= deadline) {
                return Answer::Frozen { processes: count(members.len()), complete };
            }
            if found_new {
                deadline = now() + SETTLING;
            } else {
                syscall::pause(Duration::from_millis(1));
            }
        }
    }

    /// Wakes what [`Stopped::freeze`] stopped, children first, and nothing else.
    pub(super) fn thaw(&mut self) -> u32 {
        let mut woken = 0;
        for (pid, started) in self.0.drain(..).rev() {
            let is_the_same = Process::read(pid).is_some_and(|process| process.started == started);
            if is_the_same && syscall::signal_process(pid, libc::SIGCONT).is_ok() {
                woken += 1;
            }
        }
        woken
    }
}

/// Stopped, or waiting in `vfork` for a child that is: it cannot run before that child does, and stops then.
fn is_held(process: &Process, members: &[Process]) -> bool {
    let has_stopped_child = || members.iter().any(|other| other.parent == process.pid && other.is_stopped());
    process.is_stopped() || (process.state == 'D' && has_stopped_child())
}

/// Sends `number` once to every process of the set, parents first; with `resume` each is woken after that, so that
/// one which had stopped itself can handle it.
///
/// A second look finds what was forked during the first. There is no third: it would rather find what handlers
/// of the signal start to clean up.
pub(super) fn signal_all(number: i32, resume: bool, mut list: impl FnMut() -> Vec<Process>) -> Answer {
    let mut reached: HashSet<Key> = HashSet::new();
    let mut refused: HashSet<Key> = HashSet::new();
    let mut error = None;
    for _ in 0..2 {
        let mut found_new = false;
        for member in list().into_iter().filter(Process::is_alive) {
            if reached.contains(&member.key()) || refused.contains(&member.key()) {
                continue;
            }
            found_new = true;
            match syscall::signal_process(member.pid, number) {
                Ok(()) => {
                    reached.insert(member.key());
                    if resume {
                        // It may have ended on the signal already.
                        let _ = syscall::signal_process(member.pid, libc::SIGCONT);
                    }
                }
                Err(reason) => {
                    refused.insert(member.key());
                    if reason.raw_os_error() != Some(libc::ESRCH) {
                        error = reason.raw_os_error();
                    }
                }
            }
        }
        if !found_new {
            break;
        }
    }
    match error {
        Some(errno) if reached.is_empty() => Answer::Failed(errno),
        _ => Answer::Count(count(reached.len())),
    }
}

/// Sends `number` to one process that cannot have been replaced (a child not yet reaped).
pub(super) fn signal_one(pid: i32, number: i32, resume: bool) -> Answer {
    let sent = syscall::signal_process(pid, number);
    if resume && sent.is_ok() {
        let _ = syscall::signal_process(pid, libc::SIGCONT);
    }
    counted(sent, 1)
}

/// Sends `number` to the process group `group`, in one call that no fork escapes.
///
/// `members` must come from a moment ago: a group without a living member is not signalled, its number may be
/// somebody else's by now.
pub(super) fn signal_group(group: i32, number: i32, resume: bool, members: &[Process]) -> Answer {
    let size = members.iter().filter(|process| process.group == group && process.is_alive()).count();
    if size == 0 {
        return Answer::Count(0);
    }
    let sent = syscall::signal_group(group, number);
    if resume && sent.is_ok() {
        let _ = syscall::signal_group(group, libc::SIGCONT);
    }
    counted(sent, count(size))
}

/// Kills the set again and again until `is_empty` says so or `budget` is used up. Never stops anything first: a
/// process that runs away is met again a pass later.
pub(super) fn kill_all(
    budget: Duration,
    mut list: impl FnMut() -> Vec<Process>,
    mut is_empty: impl FnMut() -> bool,
) -> Answer {
    let deadline = now() + budget;
    let mut killed: HashSet<Key> = HashSet::new();
    loop {
        let members: Vec<Process> = list().into_iter().filter(Process::is_alive).collect();
        let mut found_new = false;
        for member in &members {
            let _ = syscall::signal_process(member.pid, libc::SIGKILL);
            found_new |= killed.insert(member.key());
        }
        if is_empty() {
            return Answer::Killed { processes: count(killed.len()), survivors: Vec::new() };
        }
        if now() >= deadline {
            return Answer::Killed { processes: count(killed.len()), survivors: living(&list()) };
        }
        if !found_new {
            syscall::pause(Duration::from_millis(1));
        }
    }
}

/// The set without its zombies, for a report.
pub(super) fn living(members: &[Process]) -> Vec<Living> {
    members
        .iter()
        .filter(|process| process.is_alive())
        .filter_map(|process| {
            let pid = u32::try_from(process.pid).ok()?;
            Some(Living { pid, command: process.command.clone(), state: process.state })
        })
        .collect()
}

fn counted(sent: std::io::Result<()>, size: u32) -> Answer {
    match sent {
        Ok(()) => Answer::Count(size),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Answer::Count(0),
        Err(error) => Answer::Failed(error.raw_os_error().unwrap_or(libc::EINVAL)),
    }
}

pub(super) fn count(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// The shim and the blocking threads have no runtime whose clock could be asked.
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_is_complete_however_long_the_search_takes() {
        #[expect(clippy::disallowed_methods, reason = "only something to look for")]
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let slowly = || {
            syscall::pause(SETTLING + Duration::from_millis(10));
            Process::read(pid).into_iter().collect()
        };
        let mut stopped = Stopped::default();
        assert!(matches!(stopped.freeze(slowly), Answer::Frozen { processes: 1, complete: true }));
        assert_eq!(stopped.thaw(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
