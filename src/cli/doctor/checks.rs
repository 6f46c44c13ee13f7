//! Judges facts: what is well, what could be better, what is wrong, and the remedy. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::machine::Machine;
use crate::cli::human;
use crate::proto::{Containment, GetServerInfoResponse};

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    pub(super) finding: String,
    /// What to do; empty when there is nothing to do.
    pub(super) remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// All that was seen.
pub(super) struct Facts {
    /// Where the server is.
    pub(super) place: String,
    /// It lives in this process.
    pub(super) is_own: bool,
    pub(super) info: GetServerInfoResponse,
    /// The machine, when the server is on it.
    pub(super) machine: Option<Machine>,
    /// Just before the server was asked, by the clock here.
    pub(super) asked: Timestamp,
}

/// Descriptors a run needs: pipes, spool, shim, and some for its watchers.
const FILES_OF_A_RUN: u64 = 16;
/// Pages of its pipes, at 16 pages each.
const PAGES_OF_A_RUN: u64 = 3 * 16;

impl Check {
    fn ok(name: &'static str, finding: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Ok, finding: finding.into(), remedy: String::new() }
    }

    fn warn(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Warn, finding: finding.into(), remedy: remedy.into() }
    }

    fn fail(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Fail, finding: finding.into(), remedy: remedy.into() }
    }

    /// There is no server to ask.
    pub(super) fn unreachable(failure: &str) -> Check {
        Check::fail("server", failure, "nothing else can be checked before that is mended")
    }

    /// As one line of JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("texts have a JSON form")
    }
}

/// All checks, in the order in which a person would go about them.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let runs = u64::from(facts.info.limits.as_ref().map_or(1, |limits| limits.max_concurrent.max(1)));
    let mut checks = vec![server(facts)];
    if let Some(machine) = &facts.machine {
        checks.extend([state_dir(machine, facts.is_own), disk(machine)]);
    }
    checks.extend([containment(&facts.info), limits(&facts.info)]);
    if let Some(machine) = &facts.machine {
        checks.extend([pipes(machine, runs), open_files(machine, runs), shells(machine, &facts.info)]);
    }
    checks.push(clock(facts));
    checks.extend(facts.info.degraded.iter().map(|what| Check::warn("degraded", what, "see the server's log")));
    checks
}

fn server(facts: &Facts) -> Check {
    let finding = format!("{} (version {})", facts.place, facts.info.version);
    if facts.is_own {
        Check::warn("server", finding, "runs end with their command; to detach from runs, start one: cc-executor serve")
    } else {
        Check::ok("server", finding)
    }
}

fn state_dir(machine: &Machine, is_own: bool) -> Check {
    let whose = if is_own { "" } else { " (by this configuration; the server may have another)" };
    let directory = format!("{}{whose}", machine.state_dir);
    match &machine.not_writable {
        None => Check::ok("state directory", format!("{directory} can be written")),
        Some(why) => Check::fail(
            "state directory",
            format!("{directory} cannot be written: {why}"),
            "let this user write there, or name another with --state-dir",
        ),
    }
}

fn disk(machine: &Machine) -> Check {
    const NAME: &str = "disk";
    let remedy = "make room, lower retention.size, or move the state directory";
    match machine.free_bytes {
        None => Check::warn(NAME, "the room left cannot be told", "check the state directory's disk yourself"),
        Some(free) if free < 64 << 20 => Check::fail(NAME, format!("{} left", human::size(free)), remedy),
        Some(free) if free < 2 << 30 => Check::warn(NAME, format!("{} left", human::size(free)), remedy),
        Some(free) => Check::ok(NAME, format!("{} left", human::size(free))),
    }
}

fn containment(info: &GetServerInfoResponse) -> Check {
    const NAME: &str = "containment";
    let notes = info.containment_notes.join("; ");
    let remedy = "let the server use cgroup v2: a delegated, writable cgroup (systemd: Delegate=yes)";
    match info.containment() {
        Containment::Cgroup => Check::ok(NAME, "cgroup: nothing escapes"),
        Containment::Shim => {
            Check::ok(NAME, format!("shim: an init process for each run, nothing escapes; no cgroup: {notes}"))
        }
        Containment::Group => Check::warn(
            NAME,
            format!("group: processes in sessions of their own are found by search only; {notes}"),
            remedy,
        ),
        Containment::Unspecified => Check::fail(NAME, "the server does not say", "use a server of the same version"),
    }
}

fn limits(info: &GetServerInfoResponse) -> Check {
    const NAME: &str = "limits";
    let missing: Vec<&str> = ["memory_bytes", "processes", "cpus"]
        .into_iter()
        .filter(|limit| !info.enforceable_limits.iter().any(|known| known == limit))
        .collect();
    if missing.is_empty() {
        return Check::ok(NAME, "memory, processes and cpus of a run can be limited");
    }
    Check::warn(
        NAME,
        format!("runs that ask for a limit on {} are refused", missing.join(", ")),
        "needs cgroup v2 with the controllers memory, pids and cpu delegated to the server",
    )
}

fn pipes(machine: &Machine, runs: u64) -> Check {
    const NAME: &str = "pipes";
    match machine.pipe_pages {
        _ if machine.is_root => Check::ok(NAME, "no limit for root"),
        None | Some(0) => Check::ok(NAME, "no limit"),
        Some(pages) if pages < runs * PAGES_OF_A_RUN => Check::warn(
            NAME,
            format!("full-sized pipes for {} runs only, {runs} may run at once", pages / PAGES_OF_A_RUN),
            format!("sysctl fs.pipe-user-pages-soft={}, or lower limits.max_concurrent", runs * PAGES_OF_A_RUN),
        ),
        Some(_) => Check::ok(NAME, format!("enough for {runs} runs")),
    }
}

fn open_files(machine: &Machine, runs: u64) -> Check {
    const NAME: &str = "open files";
    let needed = runs.saturating_mul(FILES_OF_A_RUN) + 256;
    match machine.open_files {
        None => Check::warn(NAME, "the limit cannot be told", format!("make sure it is at least {needed}")),
        Some(limit) if limit < needed => Check::warn(
            NAME,
            format!("at most {limit}, {runs} runs at once may need {needed}"),
            format!("raise the hard limit (systemd: LimitNOFILE={needed}), or lower limits.max_concurrent"),
        ),
        Some(limit) => Check::ok(NAME, format!("at most {limit}, enough for {runs} runs")),
    }
}

fn shells(machine: &Machine, info: &GetServerInfoResponse) -> Check {
    const NAME: &str = "shell";
    if machine.shells.is_empty() {
        return Check::fail(
            NAME,
            "none of zsh, bash, sh is on the PATH",
            "install one, or set `shell` in the configuration",
        );
    }
    Check::ok(NAME, format!("{} by default, found: {}", info.default_shell, machine.shells.join(", ")))
}

fn clock(facts: &Facts) -> Check {
    const NAME: &str = "clock";
    let remedy = "set the clock of this machine, and of the server's, by NTP";
    let slack = Duration::from_secs(5);
    // Nothing of this project was made before.
    let origin = Timestamp::from_second(1_763_000_000).expect("a moment of our time");
    match human::moment(facts.info.start_time) {
        _ if facts.asked < origin => Check::fail(NAME, format!("it is {} here, which cannot be", facts.asked), remedy),
        Some(start) if start > facts.asked + slack => {
            Check::warn(NAME, format!("the server started at {start}, which is still to come here"), remedy)
        }
        _ => Check::ok(NAME, format!("{:.0}", facts.asked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ServerLimits;

    fn well() -> Facts {
        let limits = ServerLimits { max_concurrent: 100, ..ServerLimits::default() };
        Facts {
            place: "answers at 127.0.0.1:50051".to_owned(),
            is_own: false,
            info: GetServerInfoResponse {
                containment: Containment::Cgroup.into(),
                enforceable_limits: ["memory_bytes", "processes", "cpus"].map(str::to_owned).into(),
                limits: Some(limits),
                start_time: Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 }),
                ..GetServerInfoResponse::default()
            },
            machine: Some(Machine {
                state_dir: "/state".to_owned(),
                not_writable: None,
                free_bytes: Some(10 << 30),
                open_files: Some(4096),
                pipe_pages: Some(16_384),
                is_root: false,
                shells: vec!["sh"],
            }),
            asked: Timestamp::from_second(1_790_000_100).unwrap(),
        }
    }

    /// What is not ok once this has happened to a well machine.
    fn findings(change: impl FnOnce(&mut Facts, &mut Machine)) -> Vec<(&'static str, Verdict)> {
        let mut facts = well();
        let mut machine = facts.machine.take().unwrap();
        change(&mut facts, &mut machine);
        facts.machine = Some(machine);
        let checks = judge(&facts);
        for check in &checks {
            assert_eq!(check.remedy.is_empty(), check.verdict == Verdict::Ok, "{check:?}");
        }
        checks
            .into_iter()
            .filter(|check| check.verdict != Verdict::Ok)
            .map(|check| (check.name, check.verdict))
            .collect()
    }

    #[test]
    fn every_trouble_is_found_and_has_a_remedy() {
        use Verdict::{Fail, Warn};
        assert_eq!(findings(|_, _| ()), []);
        assert_eq!(findings(|facts, _| facts.is_own = true), [("server", Warn)]);
        assert_eq!(findings(|_, machine| machine.not_writable = Some("no".to_owned())), [("state directory", Fail)]);
        assert_eq!(findings(|_, machine| machine.free_bytes = Some(1 << 30)), [("disk", Warn)]);
        assert_eq!(findings(|_, machine| machine.free_bytes = Some(0)), [("disk", Fail)]);
        assert_eq!(findings(|facts, _| facts.info.set_containment(Containment::Group)), [("containment", Warn)]);
        assert_eq!(findings(|facts, _| drop(facts.info.enforceable_limits.pop())), [("limits", Warn)]);
        assert_eq!(findings(|_, machine| machine.pipe_pages = Some(1_000)), [("pipes", Warn)]);
        assert_eq!(findings(|_, machine| (machine.pipe_pages, machine.is_root) = (Some(1_000), true)), []);
        assert_eq!(findings(|_, machine| machine.open_files = Some(1_024)), [("open files", Warn)]);
        assert_eq!(findings(|_, machine| machine.shells.clear()), [("shell", Fail)]);
        assert_eq!(
            findings(|facts, _| facts.asked = Timestamp::from_second(1_789_000_000).unwrap()),
            [("clock", Warn)]
        );
        assert_eq!(findings(|facts, _| facts.asked = Timestamp::UNIX_EPOCH), [("clock", Fail)]);
        assert_eq!(findings(|facts, _| facts.info.degraded.push("slow disk".to_owned())), [("degraded", Warn)]);
    }

    #[test]
    fn server_elsewhere_is_not_judged_by_this_machine() {
        let names: Vec<_> = judge(&Facts { machine: None, ..well() }).into_iter().map(|check| check.name).collect();
        assert_eq!(names, ["server", "containment", "limits", "clock"]);
    }

    #[test]
    fn checks_have_a_stable_json_form() {
        let check = Check::warn("disk", "1 GiB left", "make room");
        assert_eq!(check.json(), r#"{"name":"disk","verdict":"warn","finding":"1 GiB left","remedy":"make room"}"#);
    }
}
