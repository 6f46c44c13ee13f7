//! The process table, read without the server's help.

use std::fs;

use super::eventually;

/// A word in the arguments or the environment of a run's processes, by which they are found.
#[derive(Clone, Debug)]
pub(crate) struct Cookie(pub(crate) String);

impl Cookie {
    pub(crate) fn new() -> Cookie {
        Cookie(format!("ccx-cookie-{}", uuid::Uuid::new_v4().simple()))
    }

    /// The processes that have it, zombies left out.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| self.is_in(*pid) && state(*pid).is_some_and(|state| state != 'Z'))
            .collect()
    }

    fn is_in(&self, pid: u32) -> bool {
        ["cmdline", "environ"].iter().any(|file| {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            text.windows(self.0.len()).any(|window| window == self.0.as_bytes())
        })
    }

    /// Waits until exactly so many have it.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<u32> {
        eventually(&format!("{count} processes with the cookie"), async || {
            let found = self.processes();
            (found.len() == count).then_some(found)
        })
        .await
    }

    /// Waits until none has it.
    pub(crate) async fn wait_for_none(&self) {
        self.wait_for(0).await;
    }
}

/// The state of a process: R, S, T, Z …
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// CPU time of a process in clock ticks.
pub(crate) fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}
