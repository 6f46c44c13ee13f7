//! The one permanent thread that starts every process of ours.
//!
//! It never ends while a [`Spawner`] is left, because the kernel takes the end of the *thread* that started a shim
//! for the death of the shim's parent. Only absolute paths and no `pre_exec`, so that the standard library stays on
//! its `posix_spawn` path, whose cost does not grow with our memory.

use std::{
    fs::File,
    io::{self, IoSlice, Seek as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt as _, net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio as Standard},
};

use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    socket::{ControlMessage, MsgFlags, sendmsg},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Containment, Plan, SpawnError, SpawnStep,
    cgroup::Cgroup,
    reaper::Reaper,
    shim::{
        self,
        protocol::{Identity, Order, VERSION},
    },
    stdio::Stdio,
};
use crate::os::plan::Output;

/// Starts that may wait for the thread before callers do.
const QUEUE: usize = 1024;

/// A handle to the thread. The thread ends when the last one is gone.
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

/// One start, and who wants to hear of it.
struct Job {
    plan: Plan,
    containment: Containment,
    cgroup: Option<Cgroup>,
    launched: oneshot::Sender<Result<Launched, SpawnError>>,
}

/// A shim that runs and has its order. Nothing is known of the command yet.
#[derive(Debug)]
pub(super) struct Launched {
    /// The shim; on the floor it becomes the command.
    pub(super) pid: i32,
    pub(super) socket: UnixStream,
    pub(super) stdio: Stdio,
}

impl Spawner {
    /// Starts the thread. `executable` is our own binary.
    pub(super) fn start(executable: PathBuf, reaper: Reaper) -> io::Result<Spawner> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        std::thread::Builder::new().name("cc-spawner".into()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                let launched = launch(&executable, &reaper, job.plan, job.containment, job.cgroup.as_ref());
                if let (Err(_), Some(cgroup)) = (&launched, &job.cgroup) {
                    let _ = cgroup.remove();
                }
                // Whoever asked waits for the answer without being cancelled: see `Host::spawn`.
                let _ = job.launched.send(launched);
            }
        })?;
        Ok(Spawner { jobs })
    }

    /// Starts a shim for `plan`. Must not be cancelled: the shim that was started meanwhile would not be reaped.
    pub(super) async fn launch(
        &self,
        plan: Plan,
        containment: Containment,
        cgroup: Option<Cgroup>,
    ) -> Result<Launched, SpawnError> {
        let gone = SpawnError::new(SpawnStep::Resources, libc::ESRCH);
        let (launched, answer) = oneshot::channel();
        let job = Job { plan, containment, cgroup, launched };
        if self.jobs.send(job).await.is_err() {
            return Err(gone);
        }
        answer.await.unwrap_or(Err(gone))
    }
}

fn launch(
    executable: &Path,
    reaper: &Reaper,
    plan: Plan,
    containment: Containment,
    cgroup: Option<&Cgroup>,
) -> Result<Launched, SpawnError> {
    if let Some(cgroup) = cgroup {
        let failed = |error: io::Error| {
            SpawnError::at(SpawnStep::Containment, error.raw_os_error().unwrap_or(libc::EIO), cgroup.path())
        };
        cgroup.create().map_err(failed)?;
        cgroup.limit(&plan.limits).map_err(|error| SpawnError::io(SpawnStep::Limits, &error))?;
    }
    let resources = |error: io::Error| SpawnError::io(SpawnStep::Resources, &error);
    let order = write_order(&order(&plan, containment, cgroup)?).map_err(resources)?;
    let stdio = Stdio::open(&plan.stdin, plan.output).map_err(resources)?;
    let (socket, theirs) = UnixStream::pair().map_err(resources)?;
    let pid = start(executable, reaper, containment, theirs.into()).map_err(resources)?;
    send_order(&socket, &order, &stdio.theirs).or_else(|error| {
        // A shim that died already says more by its end than by the broken socket.
        if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(resources(error)) }
    })?;
    Ok(Launched { pid, socket, stdio })
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
fn start(executable: &Path, reaper: &Reaper, containment: Containment, socket: OwnedFd) -> io::Result<i32> {
    let mut command = Command::new(executable);
    command.arg0(shim::NAME).env_clear().current_dir("/");
    command.stdin(Standard::from(socket)).stdout(Standard::null()).stderr(Standard::null());
    if containment != Containment::Group {
        // Out of our group, so that Ctrl-C at our terminal is for us alone. A shim that is to become the command
        // must not lead a group: it could not open a session.
        command.process_group(0);
    }
    reaper.own(|| {
        let child = command.spawn()?;
        // The handle is dropped without a wait: the reaper or the driver takes the status by number.
        Ok(i32::try_from(child.id()).unwrap_or(0))
    })
}

fn order(plan: &Plan, containment: Containment, cgroup: Option<&Cgroup>) -> Result<Order, SpawnError> {
    let bytes = |text: &std::ffi::OsString| text.as_bytes().to_vec();
    let arguments = std::iter::once(plan.arg0.as_ref().unwrap_or(&plan.program)).chain(&plan.args);
    let environment = plan.environment.iter().map(|(name, value)| {
        let mut variable = bytes(name);
        variable.push(b'=');
        variable.extend_from_slice(value.as_bytes());
        variable
    });
    let working_directory = std::path::absolute(&plan.working_directory)
        .map_err(|_| SpawnError::at(SpawnStep::WorkingDirectory, libc::ENOENT, &plan.working_directory))?;
    let terminal = matches!(plan.output, Output::Terminal { .. });
    let is_made_by_us = !matches!(plan.output, Output::Files { .. });
    Ok(Order {
        version: VERSION,
        server: std::process::id(),
        resident: containment != Containment::Group,
        program: bytes(&plan.program),
        arguments: arguments.map(bytes).collect(),
        environment: environment.collect(),
        path: plan.environment.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| bytes(value)),
        working_directory,
        user: plan.user.as_ref().map(|user| Identity { uid: user.uid, gid: user.gid, groups: user.groups.clone() }),
        terminal,
        owned: [plan.stdin == super::Stdin::Pipe, is_made_by_us, is_made_by_us],
        cgroup: cgroup.map(|cgroup| cgroup.path().to_owned()),
        open_files: plan.limits.open_files,
        cpu_seconds: plan.limits.cpu_time.map(shim::whole_seconds),
    })
}

fn write_order(order: &Order) -> io::Result<OwnedFd> {
    let text = postcard::to_stdvec(order).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut file = File::from(memfd_create(c"order", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&text)?;
    file.rewind()?;
    Ok(file.into())
}

fn send_order(socket: &UnixStream, order: &OwnedFd, stdio: &[OwnedFd; 3]) -> io::Result<()> {
    let [stdin, stdout, stderr] = stdio;
    let descriptors: [RawFd; 4] = [order.as_raw_fd(), stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(b"o")], &control, flags, None)?;
    Ok(())
}
