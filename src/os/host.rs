//! This machine as a place to run commands: which containment works here, and the one way to start something.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use nix::sys::{
    prctl,
    resource::{Resource, getrlimit, setrlimit},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Child, Containment, Exit, Output, Plan, Reader, ResourceLimits, SpawnError, SpawnStep, Stdin, Tree, Writer,
    cgroup::Cgroup,
    child::Progress,
    floor::{Floor, Remains, Watcher},
    hierarchy::{self, Claim},
    link::{Link, Parts},
    reaper::Reaper,
    shim,
    spawner::{Launched, Spawner},
    sweep,
};

/// How long trying out one kind of containment may take.
const PROBING: Duration = Duration::from_secs(10);

/// What a host is opened with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// Which containment to use; the best that works unless given.
    pub containment: Option<Containment>,
    /// Names this instance of the service among others on the machine: one path component.
    pub instance: String,
    /// The binary that becomes the shim; the running one unless given. For tests, which are another binary.
    pub executable: Option<PathBuf>,
}

/// Which limits on whole trees can be kept here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Enforceable {
    /// `ResourceLimits::memory_bytes`.
    pub memory: bool,
    /// `ResourceLimits::processes`.
    pub processes: bool,
    /// `ResourceLimits::cpus`.
    pub cpus: bool,
}

/// A machine with what it takes to run commands on it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spawner: Spawner,
    reaper: Reaper,
    containment: Containment,
    refused: Vec<String>,
    enforceable: Enforceable,
    /// Where the cgroups of commands are made.
    claim: Option<Claim>,
    /// Shared by the rungs that are tried; ends with the last of them.
    _reaping: Arc<Reaping>,
}

/// The task that reaps orphans.
#[derive(Debug)]
struct Reaping(tokio::task::AbortHandle);

/// Why a host cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The instance's name is not one path component.
    Instance(String),
    /// The process could not be prepared for having children.
    Prepare(io::Error),
    /// No containment works, or not the one asked for; the reasons are sentences.
    Containment(Vec<String>),
}

impl Host {
    /// Prepares this process (descriptor limit, adoption of orphans, spawner thread) and finds out, by starting
    /// something small, which containment works. To be called within a runtime that outlives all commands.
    pub async fn open(config: HostConfig) -> Result<Host, OpenError> {
        if config.instance.is_empty() || config.instance.starts_with('.') || config.instance.contains(['/', '\0']) {
            return Err(OpenError::Instance(config.instance));
        }
        raise_descriptor_limit().map_err(OpenError::Prepare)?;
        prctl::set_child_subreaper(true).map_err(|errno| OpenError::Prepare(errno.into()))?;
        let executable = config.executable.unwrap_or_else(|| "/proc/self/exe".into());
        let reaper = Reaper;
        let spawner = Spawner::start(executable.clone(), reaper).map_err(OpenError::Prepare)?;
        let reaping = Arc::new(Reaping(tokio::spawn(reaper.run()).abort_handle()));
        let candidates = match config.containment {
            Some(one) => vec![one],
            None => vec![Containment::Cgroup, Containment::Shim, Containment::Group],
        };
        let mut refused = Vec::new();
        for containment in candidates {
            let (claim, enforceable) = match containment {
                Containment::Cgroup => match hierarchy::prepare(&config.instance) {
                    Ok((claim, enforceable)) => (Some(claim), enforceable),
                    Err(why) => {
                        refused.push(format!("cgroup: {why}"));
                        continue;
                    }
                },
                Containment::Shim | Containment::Group => (None, Enforceable::default()),
            };
            let host = Host {
                shared: Arc::new(Shared {
                    spawner: spawner.clone(),
                    reaper,
                    containment,
                    refused: refused.clone(),
                    enforceable,
                    claim,
                    _reaping: reaping.clone(),
                }),
            };
            match tokio::time::timeout(PROBING, host.probe(&executable)).await {
                Ok(Ok(())) => return Ok(host),
                Ok(Err(why)) => refused.push(format!("{containment}: {why}")),
                Err(_) => refused.push(format!("{containment}: no answer within {} s", PROBING.as_secs())),
            }
        }
        Err(OpenError::Containment(refused))
    }

    /// The containment in use.
    #[must_use]
    pub fn containment(&self) -> Containment {
        self.shared.containment
    }

    /// Why better containment is not used: sentences for people, one for each.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.shared.refused.clone()
    }

    /// Which limits on trees can be kept.
    #[must_use]
    pub fn enforceable(&self) -> Enforceable {
        self.shared.enforceable
    }

    /// Starts a command; returns once its program is executing, or says at which step that failed.
    ///
    /// Cancel-safe: a start that nobody waits for any more is undone.
    pub async fn spawn(&self, plan: Plan) -> Result<Child, SpawnError> {
        plan.check()?;
        self.check_limits(&plan.limits)?;
        let host = self.clone();
        // A task of its own, so that it runs to the point where dropping the result undoes everything.
        match tokio::spawn(async move { host.start(plan).await }).await {
            Ok(started) => started,
            Err(_) => Err(SpawnError::new(SpawnStep::Resources, libc::ECANCELED)),
        }
    }

    /// Kills everything that earlier lives of the service left behind: processes whose environment has
    /// [`MARKER`](super::MARKER) set to one of these ids, and leftover cgroups of that name. Each id with the number
    /// of processes ended. Waits at most two seconds for them to be gone.
    pub async fn sweep(&self, leftovers: &[String]) -> Vec<(String, u32)> {
        let ids = leftovers.to_vec();
        let cgroup = self.cgroup();
        let swept = tokio::task::spawn_blocking(move || sweep::sweep(ids, cgroup.as_ref()));
        swept.await.unwrap_or_default()
    }

    /// Kills and removes the cgroups of instances that are no more; their names. An instance whose process lives, in
    /// whatever deployment, is never touched; `is_alive` can vouch for others besides.
    pub async fn clean(&self, is_alive: impl Fn(&str) -> bool + Send + 'static) -> Vec<String> {
        let Some(cgroup) = self.cgroup() else { return Vec::new() };
        let cleaned = tokio::task::spawn_blocking(move || hierarchy::clean(&cgroup, is_alive));
        cleaned.await.unwrap_or_default()
    }

    fn cgroup(&self) -> Option<Cgroup> {
        self.shared.claim.as_ref().map(|claim| claim.cgroup.clone())
    }

    fn check_limits(&self, limits: &ResourceLimits) -> Result<(), SpawnError> {
        let can = self.shared.enforceable;
        let is_kept = (limits.memory_bytes.is_none() || can.memory)
            && (limits.processes.is_none() || can.processes)
            && (limits.cpus.is_none() || can.cpus);
        if is_kept { Ok(()) } else { Err(SpawnError::new(SpawnStep::Limits, libc::ENOTSUP)) }
    }

    async fn start(&self, plan: Plan) -> Result<Child, SpawnError> {
        let shared = &self.shared;
        let id = plan.id.clone();
        let cgroup = self.cgroup().map(|cgroup| cgroup.child(&id));
        let launched = shared.spawner.launch(plan, shared.containment, cgroup.clone()).await?;
        let Launched { pid, socket, stdio } = launched;
        drop(stdio.theirs);
        let (progress, known) = watch::channel(Progress::default());
        let end = CancellationToken::new();
        let guard = end.clone().drop_guard();
        let resources = |error: io::Error| SpawnError::io(SpawnStep::Resources, &error);
        let is_pinned = shared.containment == Containment::Group;
        let remains = Remains { id, leader: pid, is_pinned, cgroup };
        let reaper = shared.reaper;
        // The tasks keep the host alive: its spawner thread, its orphans' reaper and its cgroup are theirs too.
        let (host, end_of_run) = (self.clone(), end.clone());
        let mut floor = Floor::new(remains.clone());
        let link = if is_pinned {
            let watcher = Watcher { pid, reaper, floor: floor.clone(), progress, end: end_of_run, _host: host };
            watcher.start(socket).map_err(resources)?;
            None
        } else {
            let parts = Parts { pid, reaper, remains: remains.clone(), progress, end: end_of_run, _host: host };
            Some(Link::start(socket, parts).map_err(resources)?)
        };
        let started =
            known.clone().wait_for(|progress| progress.start.is_some()).await.map(|known| known.start.clone());
        let pid = match started {
            Ok(Some(Ok(pid))) => pid,
            Ok(Some(Err(error))) => return Err(error),
            Ok(None) | Err(_) => return Err(SpawnError::new(SpawnStep::Resources, libc::ECANCELED)),
        };
        if link.is_some() {
            floor = Floor::new(remains.led_by(pid));
        }
        let reader = |descriptor| Reader::new(descriptor).map_err(resources);
        Ok(Child {
            pid,
            stdin: stdio.input.map(Writer::new).transpose().map_err(resources)?,
            stdout: stdio.output.map(reader).transpose()?,
            stderr: stdio.error.map(reader).transpose()?,
            tree: Tree::new(link, floor, known.clone(), stdio.terminal, end),
            progress: known,
            _guard: guard,
        })
    }

    /// Starts something that waits, holds it, kills it, and looks whether all of that was so.
    async fn probe(&self, executable: &std::path::Path) -> Result<(), String> {
        let plan = Plan {
            id: format!("probe-{}", std::process::id()),
            program: executable.into(),
            arg0: Some(shim::PROBE.into()),
            args: Vec::new(),
            environment: Vec::new(),
            working_directory: "/".into(),
            user: None,
            stdin: Stdin::Null,
            output: Output::Pipes { merge_stderr: true },
            limits: ResourceLimits::default(),
        };
        let mut child = self.spawn(plan).await.map_err(|error| format!("failed to {error}"))?;
        let failed = |error: super::TreeError| format!("failed to {error}");
        let frozen = child.tree.freeze().await.map_err(failed)?;
        let killed = child.tree.kill().await.map_err(failed)?;
        let exit = child.exited().await;
        child.emptied().await;
        child.tree.release().await;
        if !frozen.complete || frozen.processes != 1 {
            return Err(format!("a freeze held {} processes of 1", frozen.processes));
        }
        if !killed.survivors.is_empty() || exit != (Exit::Signal { number: libc::SIGKILL, core_dumped: false }) {
            return Err(format!("a kill led to {exit}"));
        }
        Ok(())
    }
}

impl Drop for Reaping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Every command costs descriptors; the soft limit is for programs that use `select`.
fn raise_descriptor_limit() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Instance(name) => write!(formatter, "use {name:?} as the name of a directory"),
            OpenError::Prepare(_) => formatter.write_str("prepare this process for starting others"),
            OpenError::Containment(reasons) => {
                write!(formatter, "find a way to contain commands ({})", reasons.join("; "))
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Prepare(error) => Some(error),
            OpenError::Instance(_) | OpenError::Containment(_) => None,
        }
    }
}
