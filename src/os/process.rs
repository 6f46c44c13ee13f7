//! What `/proc` says about processes: one of them, the ones below one, all of them.
//!
//! Only reads. A process that ended while we looked is simply absent.

use std::{collections::HashSet, ffi::OsStr, fs, os::unix::ffi::OsStrExt, time::Duration};

use super::syscall;

/// One process as it was a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// The letter of `ps`: `R`, `S`, `D`, `T`, `Z`, …
    pub(super) state: char,
    pub(super) command: String,
    /// Clock ticks after boot at which it started; with the pid this names a process for good.
    pub(super) started: u64,
    /// Clock ticks in user mode, with those of children it has waited for.
    pub(super) user_ticks: u64,
    /// Clock ticks in kernel mode, with those of children it has waited for.
    pub(super) system_ticks: u64,
}

/// Names one process, even after its number was given to another.
pub(super) type Key = (i32, u64);

impl Process {
    /// Reads `/proc/<pid>/stat`; `None` if there is no such process.
    pub(super) fn read(pid: i32) -> Option<Process> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        parse(pid, &String::from_utf8_lossy(&text))
    }

    pub(super) fn key(&self) -> Key {
        (self.pid, self.started)
    }

    /// Zombies hold nothing but their number.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Processor time in user mode, with that of children it has waited for.
    pub(super) fn user_time(&self) -> Duration {
        time(self.user_ticks)
    }

    /// Processor time in the kernel, with that of children it has waited for.
    pub(super) fn system_time(&self) -> Duration {
        time(self.system_ticks)
    }

    /// Stopped by a signal or held by a tracer.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

fn time(ticks: u64) -> Duration {
    let tick = Duration::from_secs(1) / u32::try_from(syscall::ticks_per_second()).unwrap_or(100);
    tick.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// The command name stands in brackets and may itself hold spaces and brackets.
fn parse(pid: i32, text: &str) -> Option<Process> {
    let (head, tail) = text.rsplit_once(')')?;
    let command = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
    let count = |index: usize| Some(u64::try_from(number(index)?).unwrap_or(0));
    Some(Process {
        pid,
        state: fields.first()?.chars().next()?,
        parent: i32::try_from(number(1)?).ok()?,
        group: i32::try_from(number(2)?).ok()?,
        session: i32::try_from(number(3)?).ok()?,
        user_ticks: count(11)? + count(13)?,
        system_ticks: count(12)? + count(14)?,
        started: fields.get(19)?.parse().ok()?,
        command,
    })
}

/// The children of `pid`, of all its threads, zombies included.
///
/// Complete only while those children are stopped: whoever needs more asks again until nothing new appears.
pub(super) fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        let Ok(text) = fs::read_to_string(thread.path().join("children")) else { continue };
        found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    found
}

/// Whether this kernel has the `children` files.
pub(super) fn lists_children() -> bool {
    fs::read_to_string("/proc/thread-self/children").is_ok()
}

/// Every process below `root`, parents before children, zombies included, `root` itself not.
pub(super) fn descendants(root: i32) -> Vec<Process> {
    if !lists_children() {
        return below(&[root], all());
    }
    let mut found: Vec<Process> = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut next = 0;
    let mut parent = root;
    loop {
        for pid in children(parent) {
            if seen.insert(pid) {
                found.extend(Process::read(pid));
            }
        }
        let Some(process) = found.get(next) else { return found };
        parent = process.pid;
        next += 1;
    }
}

/// Those of `processes` that descend from one of `roots` and are none themselves, parents before children.
pub(super) fn below(roots: &[i32], mut processes: Vec<Process>) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    processes.retain(|process| !roots.contains(&process.pid));
    let mut parents: HashSet<i32> = roots.iter().copied().collect();
    while !parents.is_empty() {
        let (level, rest): (Vec<_>, Vec<_>) =
            processes.into_iter().partition(|process| parents.contains(&process.parent));
        parents = level.iter().map(|process| process.pid).collect();
        found.extend(level);
        processes = rest;
    }
    found
}

/// Every process of the machine that we can see.
pub(super) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(Process::read)
        .collect()
}

/// Whether the process was started with the variable `name` set to `value`.
/// False if its environment may not be read (another user's, set-user-id).
pub(super) fn has_variable(pid: i32, name: &str, value: &OsStr) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    environment.split(|byte| *byte == 0).any(|variable| {
        variable.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) == Some(value.as_bytes())
    })
}

/// The largest resident size the process ever had, in bytes.
pub(super) fn peak_memory(pid: i32) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or(0, |kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_may_hold_brackets_and_spaces() {
        let text = "7 (a) b (c) S 1 2 3 0 -1 4194560 0 0 0 0 10 20 30 40 20 0 1 0 555 0 0";
        let process = parse(7, text).expect("it is complete");
        assert_eq!(process.command, "a) b (c");
        assert_eq!((process.parent, process.group, process.session, process.state), (1, 2, 3, 'S'));
        assert_eq!((process.user_ticks, process.system_ticks, process.started), (40, 60, 555));
    }

    #[test]
    fn this_process_can_be_read() {
        let own = i32::try_from(std::process::id()).expect("a process number fits");
        let process = Process::read(own).expect("we are running");
        assert!(process.is_alive());
        assert!(peak_memory(own) > 0);
        assert!(all().iter().any(|other| other.key() == process.key()));
    }
}
