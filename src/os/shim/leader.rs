//! The last steps before the command's first instruction, taken in the process that becomes it.
//!
//! This process has one thread and shares nothing, so it may allocate. Whatever fails is handed back by step, error
//! number and path; nothing is tried a second way (no `sh` for a file without `#!`).

use std::{
    ffi::{CString, OsStr, OsString},
    fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
        stat::{Mode, umask},
    },
    unistd::{AccessFlags, Gid, Uid, access, chdir, execve, fchown, getppid, setgroups, setresgid, setresuid, setsid},
};

use super::protocol::{Identity, Order};
use crate::os::{SpawnError, SpawnStep, cgroup::Cgroup, syscall};

/// Soft limit of descriptors unless the order names one: what programs using `select` can bear.
const OPEN_FILES: u64 = 1024;
/// Between "you have used your time" and the end.
const CPU_GRACE: u64 = 5;
/// The kernel takes a command before it takes the server.
const OOM_SCORE: &str = "300";
/// Where a bare name is looked for if the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/bin:/bin";

/// Becomes the command; returns only if that failed. `parent` is whose death must be ours.
pub(super) fn become_command(order: &Order, stdio: &[OwnedFd; 3], parent: i32) -> SpawnError {
    match prepare(order, stdio, parent).and_then(|()| execute(order)) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn prepare(order: &Order, stdio: &[OwnedFd; 3], parent: i32) -> Result<(), SpawnError> {
    if let Some(path) = &order.cgroup {
        Cgroup::at(path).join().map_err(|error| at(SpawnStep::Containment, &error, path))?;
    }
    setsid().map_err(step(SpawnStep::Containment))?;
    if order.terminal {
        syscall::take_terminal(&stdio[1]).map_err(io_step(SpawnStep::Terminal))?;
    }
    for (descriptor, number) in stdio.iter().zip(0..) {
        syscall::place(descriptor, number).map_err(io_step(SpawnStep::Resources))?;
    }
    limit(order)?;
    // Raising one's own score is always allowed; where it is not, the command is just not preferred.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    umask(Mode::from_bits_truncate(0o022));
    if let Some(user) = &order.user {
        become_user(user, stdio, order.owned)?;
    }
    // A change of user disarms this, so it comes after.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(step(SpawnStep::Containment))?;
    if getppid().as_raw() != parent {
        return Err(SpawnError::new(SpawnStep::Containment, libc::ESRCH));
    }
    chdir(&order.working_directory)
        .map_err(|errno| SpawnError::at(SpawnStep::WorkingDirectory, errno as i32, &order.working_directory))?;
    syscall::close_on_exec_from_three().map_err(io_step(SpawnStep::Resources))?;
    syscall::reset_signals();
    Ok(())
}

fn limit(order: &Order) -> Result<(), SpawnError> {
    let limits = step(SpawnStep::Limits);
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).map_err(&limits)?;
    setrlimit(Resource::RLIMIT_CORE, 0, hard).map_err(&limits)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(&limits)?;
    match order.open_files {
        Some(count) => setrlimit(Resource::RLIMIT_NOFILE, count, count).map_err(&limits)?,
        None => setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES.min(hard), hard).map_err(&limits)?,
    }
    if let Some(seconds) = order.cpu_seconds {
        setrlimit(Resource::RLIMIT_CPU, seconds, seconds.saturating_add(CPU_GRACE)).map_err(&limits)?;
    }
    Ok(())
}

fn become_user(user: &Identity, stdio: &[OwnedFd; 3], owned: [bool; 3]) -> Result<(), SpawnError> {
    let failed = step(SpawnStep::User);
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if uid == Uid::effective() && gid == Gid::effective() {
        return Ok(());
    }
    // Else the command could not open its own /dev/stdout: the pipe belongs to whoever made it.
    for (descriptor, _) in stdio.iter().zip(owned).filter(|(_, owned)| *owned) {
        fchown(descriptor, Some(uid), None).map_err(&failed)?;
    }
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(&failed)?;
    setresgid(gid, gid, gid).map_err(&failed)?;
    setresuid(uid, uid, uid).map_err(&failed)
}

fn execute(order: &Order) -> Result<std::convert::Infallible, SpawnError> {
    let program = OsStr::from_bytes(&order.program);
    let path = order.path.as_deref().unwrap_or(DEFAULT_PATH);
    let file = resolve(program, path, &order.working_directory, is_executable)
        .map_err(|errno| SpawnError::at(SpawnStep::Exec, errno, program))?;
    let failed = |errno: i32| SpawnError::at(SpawnStep::Exec, errno, &file);
    let words = |list: &[Vec<u8>]| -> Result<Vec<CString>, SpawnError> {
        list.iter().map(|word| CString::new(word.as_slice()).map_err(|_| failed(libc::EINVAL))).collect()
    };
    let name = CString::new(file.as_os_str().as_bytes()).map_err(|_| failed(libc::EINVAL))?;
    execve(&name, &words(&order.arguments)?, &words(&order.environment)?).map_err(|errno| failed(errno as i32))
}

/// Which file `program` means: itself if it has a `/`, else the first of that name in `path` that `probe` accepts.
/// Relative ones are taken from `directory`. An error number if there is none: that of a file found but refused, if any.
fn resolve(
    program: &OsStr,
    path: &[u8],
    directory: &Path,
    probe: impl Fn(&Path) -> Result<(), i32>,
) -> Result<PathBuf, i32> {
    if program.is_empty() {
        return Err(libc::ENOENT);
    }
    if program.as_bytes().contains(&b'/') {
        return Ok(directory.join(program));
    }
    let mut refusal = libc::ENOENT;
    for entry in path.split(|byte| *byte == b':') {
        let file = directory.join(OsString::from(OsStr::from_bytes(entry))).join(program);
        match probe(&file) {
            Ok(()) => return Ok(file),
            Err(libc::EACCES) => refusal = libc::EACCES,
            Err(_) => {}
        }
    }
    Err(refusal)
}

fn is_executable(file: &Path) -> Result<(), i32> {
    let metadata = fs::metadata(file).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
    if !metadata.is_file() {
        return Err(libc::EACCES);
    }
    access(file, AccessFlags::X_OK).map_err(|errno| errno as i32)
}

fn step(step: SpawnStep) -> impl Fn(nix::errno::Errno) -> SpawnError {
    move |errno| SpawnError::new(step, errno as i32)
}

fn io_step(step: SpawnStep) -> impl Fn(io::Error) -> SpawnError {
    move |error| SpawnError::io(step, &error)
}

fn at(step: SpawnStep, error: &io::Error, path: &Path) -> SpawnError {
    SpawnError::at(step, error.raw_os_error().unwrap_or(libc::EIO), path)
}

/// Whole seconds, rounded up, at least one: what `RLIMIT_CPU` understands.
pub(in crate::os) fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(accepted: &'static str) -> impl Fn(&Path) -> Result<(), i32> {
        move |file| if file == Path::new(accepted) { Ok(()) } else { Err(libc::ENOENT) }
    }

    #[test]
    fn a_path_is_used_as_it_is_from_the_working_directory() {
        let nothing = only("");
        assert_eq!(resolve(OsStr::new("./a"), b"/bin", Path::new("/w"), &nothing), Ok("/w/./a".into()));
        assert_eq!(resolve(OsStr::new("/bin/a"), b"", Path::new("/w"), &nothing), Ok("/bin/a".into()));
    }

    #[test]
    fn a_bare_name_is_searched_and_an_empty_entry_is_the_working_directory() {
        assert_eq!(resolve(OsStr::new("a"), b"/x:/y", Path::new("/w"), only("/y/a")), Ok("/y/a".into()));
        assert_eq!(resolve(OsStr::new("a"), b"/x::/y", Path::new("/w"), only("/w/a")), Ok("/w/a".into()));
        assert_eq!(resolve(OsStr::new("a"), b"/x", Path::new("/w"), only("/y/a")), Err(libc::ENOENT));
        assert_eq!(resolve(OsStr::new(""), b"/x", Path::new("/w"), only("/x")), Err(libc::ENOENT));
    }

    #[test]
    fn a_refused_file_is_said_to_be_refused_not_missing() {
        let probe = |file: &Path| Err(if file.starts_with("/x") { libc::EACCES } else { libc::ENOENT });
        assert_eq!(resolve(OsStr::new("a"), b"/x:/y", Path::new("/w"), probe), Err(libc::EACCES));
    }

    #[test]
    fn processor_time_is_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(2001)), 3);
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }
}
