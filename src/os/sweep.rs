//! Ends what earlier lives of the service left behind, found by the marker in its environment and by its cgroup.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    time::{Duration, Instant},
};

use super::{
    MARKER,
    cgroup::Cgroup,
    crowd, hierarchy,
    process::{self, Key, Process},
    syscall,
};

/// How long to wait for everything to be gone.
const SWEEPING: Duration = Duration::from_secs(2);

/// Kills until nothing of these executions is left, or for two seconds; how many processes of each. Blocks.
///
/// A stopped process needs no waking to be killed, a frozen cgroup no thawing.
pub(super) fn sweep(ids: Vec<String>, instance: Option<&Cgroup>) -> Vec<(String, u32)> {
    if ids.is_empty() {
        return Vec::new();
    }
    let deadline = Instant::now() + SWEEPING;
    let cgroups: HashMap<&String, Vec<Cgroup>> =
        ids.iter().map(|id| (id, instance.map(|instance| leftovers(instance, id)).unwrap_or_default())).collect();
    let mut ended: HashMap<&String, HashSet<Key>> = ids.iter().map(|id| (id, HashSet::new())).collect();
    loop {
        let everything = process::all();
        let mut is_clean = true;
        for id in &ids {
            for process in belonging(&everything, id, &cgroups[id]) {
                is_clean = false;
                if syscall::signal_process(process.pid, libc::SIGKILL).is_ok() {
                    ended.entry(id).or_default().insert(process.key());
                }
            }
        }
        if is_clean || Instant::now() >= deadline {
            break;
        }
        syscall::pause(Duration::from_millis(2));
    }
    for cgroup in cgroups.values().flatten() {
        cgroup.destroy(deadline.saturating_duration_since(Instant::now()));
    }
    ids.iter().map(|id| (id.clone(), crowd::count(ended[id].len()))).collect()
}

fn belonging<'a>(everything: &'a [Process], id: &str, cgroups: &[Cgroup]) -> Vec<&'a Process> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let in_cgroups: HashSet<i32> = cgroups.iter().flat_map(Cgroup::members).collect();
    everything
        .iter()
        .filter(|process| process.is_alive() && process.pid > 1 && process.pid != own)
        .filter(|process| {
            in_cgroups.contains(&process.pid) || process::has_variable(process.pid, MARKER, OsStr::new(id))
        })
        .collect()
}

/// The cgroups of this execution, under whichever instance it ran.
fn leftovers(instance: &Cgroup, id: &str) -> Vec<Cgroup> {
    if id.is_empty() || id.starts_with('.') || id.contains('/') {
        return Vec::new();
    }
    hierarchy::siblings(instance).iter().map(|instance| instance.child(id)).filter(Cgroup::exists).collect()
}
