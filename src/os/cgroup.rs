//! One cgroup v2 directory: of a command, of an instance, or our own.
//!
//! Files are read and written by hand; that is all there is to cgroup v2. Both the server and the shim use this.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{ResourceLimits, Usage, UsageSource, syscall};

/// The period of a processor quota, in microseconds: the kernel's default.
const PERIOD: f64 = 100_000.0;

/// A cgroup, by its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    pub(super) fn at(path: impl Into<PathBuf>) -> Cgroup {
        Cgroup { path: path.into() }
    }

    /// Where this process is and where the hierarchy begins: `(own cgroup, mount point)`.
    pub(super) fn own() -> Option<Cgroup> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (root, mount) = mounts.lines().find_map(unified_mount)?;
        let path = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
        // A bind mount or a cgroup namespace shows a part of the hierarchy: `root` is where that part begins.
        let below = Path::new(path).strip_prefix(&root).or_else(|_| Path::new(path).strip_prefix("/")).ok()?;
        Some(Cgroup::at(mount.join(below)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn child(&self, name: &str) -> Cgroup {
        Cgroup::at(self.path.join(name))
    }

    pub(super) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes the directory and those above it.
    pub(super) fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)
    }

    /// The cgroups directly below.
    pub(super) fn children(&self) -> Vec<Cgroup> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| Cgroup::at(entry.path()))
            .collect()
    }

    pub(super) fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Moves the calling process here.
    pub(super) fn join(&self) -> io::Result<()> {
        self.write("cgroup.procs", "0")
    }

    /// Whether this kernel can kill and freeze whole groups (5.14 and 5.2).
    pub(super) fn can_kill_and_freeze(&self) -> bool {
        self.path.join("cgroup.kill").exists() && self.path.join("cgroup.freeze").exists()
    }

    /// Ends every process here and below, also frozen ones, also those being forked.
    pub(super) fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// Holds every process here and below; whether all of them were held within `budget`. Blocks.
    pub(super) fn freeze(&self, budget: Duration) -> io::Result<bool> {
        self.write("cgroup.freeze", "1")?;
        let deadline = Instant::now() + budget;
        loop {
            if self.event("frozen")? == 1 {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            syscall::pause(Duration::from_millis(1));
        }
    }

    /// Lets them go on.
    pub(super) fn thaw(&self) -> io::Result<()> {
        self.write("cgroup.freeze", "0")
    }

    /// The processes here and below, zombies included.
    pub(super) fn members(&self) -> Vec<i32> {
        let text = self.read("cgroup.procs").unwrap_or_default();
        let mut found: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        for child in self.children() {
            found.extend(child.members());
        }
        found
    }

    /// Removes the directory and those below; all must be empty.
    pub(super) fn remove(&self) -> io::Result<()> {
        for child in self.children() {
            child.remove()?;
        }
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            answer => answer,
        }
    }

    /// Kills everything here and removes the directory, within `budget`. True if it is gone. Blocks.
    pub(super) fn destroy(&self, budget: Duration) -> bool {
        let deadline = Instant::now() + budget;
        loop {
            let _ = self.kill();
            if self.remove().is_ok() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            syscall::pause(Duration::from_millis(2));
        }
    }

    /// Which of the controllers are on for the cgroups below this one.
    pub(super) fn enabled_below(&self) -> Vec<String> {
        let text = self.read("cgroup.subtree_control").unwrap_or_default();
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// Switches a controller on for the cgroups below this one.
    pub(super) fn enable_below(&self, controller: &str) -> io::Result<()> {
        self.write("cgroup.subtree_control", &format!("+{controller}"))
    }

    /// Sets those of the limits that bound a tree.
    pub(super) fn limit(&self, limits: &ResourceLimits) -> io::Result<()> {
        if let Some(bytes) = limits.memory_bytes {
            self.write("memory.max", &bytes.to_string())?;
            // Without swap accounting these two do not exist, and need no setting.
            let _ = self.write("memory.swap.max", "0");
            let _ = self.write("memory.oom.group", "1");
        }
        if let Some(processes) = limits.processes {
            self.write("pids.max", &processes.to_string())?;
        }
        if let Some(cpus) = limits.cpus {
            let quota = (cpus * PERIOD).max(1_000.0);
            self.write("cpu.max", &format!("{quota:.0} {PERIOD:.0}"))?;
        }
        Ok(())
    }

    /// Adds what this cgroup has counted to `usage`, which holds what the processes themselves reported.
    pub(super) fn count_into(&self, usage: &mut Usage) {
        let Ok(processor) = self.read("cpu.stat") else { return };
        let time = |name| value(&processor, name).map(Duration::from_micros);
        if let (Some(user), Some(system)) = (time("user_usec"), time("system_usec")) {
            usage.user = user;
            usage.system = system;
            usage.source = UsageSource::Cgroup;
        }
        if let Some(peak) = self.number("memory.peak") {
            usage.peak_memory_bytes = peak;
        }
        usage.peak_processes = self.number("pids.peak").and_then(|peak| u32::try_from(peak).ok());
        usage.oom_kills = self.read("memory.events").ok().and_then(|events| value(&events, "oom_kill"));
        if let Ok(devices) = self.read("io.stat") {
            usage.read_bytes = sum(&devices, "rbytes=");
            usage.written_bytes = sum(&devices, "wbytes=");
        }
    }

    fn event(&self, name: &str) -> io::Result<u64> {
        Ok(value(&self.read("cgroup.events")?, name).unwrap_or(0))
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file).ok()?.trim().parse().ok()
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.path.join(file))
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        // Not fs::write: that would create a missing file where the directory is no cgroup.
        use std::io::Write as _;
        fs::OpenOptions::new().write(true).open(self.path.join(file))?.write_all(text.as_bytes())
    }
}

/// `(root of the mount, mount point)` if this line of mountinfo is a cgroup2 mount.
fn unified_mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    if filesystem.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    Some((unescape(fields.next()?), unescape(fields.next()?)))
}

/// Spaces stand as `\040` there.
fn unescape(field: &str) -> PathBuf {
    PathBuf::from(field.replace("\\040", " "))
}

/// The number after `name` in a file of `name number` lines.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The sum of all numbers that follow `key`.
fn sum(text: &str, key: &str) -> u64 {
    text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found_among_others() {
        let line = "41 31 0:38 / /sys/fs/cgroup/my\\040group rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(unified_mount(line), Some(("/".into(), "/sys/fs/cgroup/my group".into())));
        assert_eq!(unified_mount("40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw"), None);
    }

    #[test]
    fn counters_are_read_by_their_whole_name() {
        let events = "low 0\noom 3\noom_kill 2\n";
        assert_eq!(value(events, "oom"), Some(3));
        assert_eq!(value(events, "oom_kill"), Some(2));
        assert_eq!(sum("8:0 rbytes=5 wbytes=7\n8:1 rbytes=1 wbytes=2", "wbytes="), 9);
    }
}
