//! Where our cgroups are: `<own cgroup>/cc-executor/<instance>/<execution>`, and which controllers reach down there.

use std::{io, time::Duration};

use super::{Enforceable, cgroup::Cgroup};

/// Below our own cgroup, everything is below this.
const TOP: &str = "cc-executor";
/// Where the server itself goes if it has to make room: a cgroup with controllers below may hold no processes.
const SERVER: &str = "server";
/// How long one leftover may take to be killed.
const CLEANING: Duration = Duration::from_secs(2);

/// Makes the instance's cgroup and switches on the controllers there are. A sentence if it cannot be.
pub(super) fn prepare(instance: &str) -> Result<(Cgroup, Enforceable), String> {
    let own = Cgroup::own().ok_or("there is no cgroup v2 hierarchy with this process in it")?;
    let top = own.child(TOP);
    let cgroup = top.child(instance);
    cgroup.create().map_err(|error| format!("{} cannot be made: {error}", cgroup.path().display()))?;
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
    Ok((cgroup, enforceable))
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

/// Kills and removes what other instances have left, unless `is_alive` vouches for them; their names. Blocks.
pub(super) fn clean(instance: &Cgroup, is_alive: impl Fn(&str) -> bool) -> Vec<String> {
    let others =
        siblings(instance).into_iter().filter(|other| other.path() != instance.path() && !is_alive(&other.name()));
    others.filter(|other| other.destroy(CLEANING)).map(|other| other.name()).collect()
}

/// The instances beside this one, and itself.
pub(super) fn siblings(instance: &Cgroup) -> Vec<Cgroup> {
    let Some(top) = instance.path().parent() else { return Vec::new() };
    Cgroup::at(top).children().into_iter().filter(|child| child.name() != SERVER).collect()
}
