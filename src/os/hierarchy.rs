//! Where our cgroups are: `<own cgroup>/cc-executor/<instance>/<execution>`, and which controllers reach down there.

use std::{fs::File, io, time::Duration};

use super::{Enforceable, cgroup::Cgroup};

/// Below our own cgroup, everything is below this.
const TOP: &str = "cc-executor";
/// Where the server itself goes if it has to make room: a cgroup with controllers below may hold no processes.
const SERVER: &str = "server";
/// How long one leftover may take to be killed.
const CLEANING: Duration = Duration::from_secs(2);

/// An instance's cgroup, which nobody takes for a dead one's as long as this exists.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) cgroup: Cgroup,
    /// The kernel lets go of the lock when the process is gone, however it went.
    _lock: File,
}

impl Claim {
    fn make(cgroup: Cgroup) -> io::Result<Claim> {
        loop {
            cgroup.create()?;
            let lock = match File::open(cgroup.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                answer => answer?,
            };
            // Shared, for the same instance may be opened twice; only a cleaner asks for it alone.
            lock.lock_shared()?;
            // A cleaner may have removed it between the first step and the last.
            if cgroup.exists() {
                return Ok(Claim { cgroup, _lock: lock });
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Fails while commands of ours still run, and then their cgroups are needed.
        let _ = std::fs::remove_dir(self.cgroup.path());
    }
}

/// The lock on an instance that no process claims, to be kept while it is removed; `None` if one does, whatever
/// state directory or user that has.
fn abandoned(instance: &Cgroup) -> Option<File> {
    let lock = File::open(instance.path()).ok()?;
    lock.try_lock().is_ok().then_some(lock)
}

/// Makes the instance's cgroup and switches on the controllers there are. A sentence if it cannot be.
pub(super) fn prepare(instance: &str) -> Result<(Claim, Enforceable), String> {
    let own = Cgroup::own().ok_or("there is no cgroup v2 hierarchy with this process in it")?;
    let top = own.child(TOP);
    let cgroup = top.child(instance);
    let claim =
        Claim::make(cgroup.clone()).map_err(|error| format!("{} cannot be made: {error}", cgroup.path().display()))?;
    if !cgroup.can_kill_and_freeze() {
        return Err("this kernel's cgroups lack kill (Linux 5.14) or freeze".to_owned());
    }
    let enable = |controller: &str| {
        let enabled = enable_here(&own, &top, controller)
            && top.enable_below(controller).is_ok()
            && cgroup.enable_below(controller).is_ok();
        enabled && cgroup.enabled_below().iter().any(|name| name == controller)
    };
    let enforceable = Enforceable { memory: enable("memory"), processes: enable("pids"), cpus: enable("cpu") };
    Ok((claim, enforceable))
}

/// Switches a controller on below our own cgroup, leaving it for a leaf if we are what is in the way.
fn enable_here(own: &Cgroup, top: &Cgroup, controller: &str) -> bool {
    if own.enabled_below().iter().any(|name| name == controller) {
        return true;
    }
    match own.enable_below(controller) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let leaf = top.child(SERVER);
            leaf.create().and_then(|()| leaf.join()).and_then(|()| own.enable_below(controller)).is_ok()
        }
        Err(_) => false,
    }
}

/// Kills and removes what dead instances have left; their names. Blocks.
///
/// Dead is who neither holds its claim nor is vouched for by `is_alive`: several services with nothing else in common
/// may share the machine.
pub(super) fn clean(instance: &Cgroup, is_alive: impl Fn(&str) -> bool) -> Vec<String> {
    let mut cleaned = Vec::new();
    for other in siblings(instance) {
        if other.path() == instance.path() || is_alive(&other.name()) {
            continue;
        }
        let Some(_lock) = abandoned(&other) else { continue };
        if other.destroy(CLEANING) {
            cleaned.push(other.name());
        }
    }
    cleaned
}

/// The instances beside this one, and itself.
pub(super) fn siblings(instance: &Cgroup) -> Vec<Cgroup> {
    let Some(top) = instance.path().parent() else { return Vec::new() };
    Cgroup::at(top).children().into_iter().filter(|child| child.name() != SERVER).collect()
}
