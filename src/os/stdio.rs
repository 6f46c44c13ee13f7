//! Makes the descriptors a plan asks for: three for the command, the others for us.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, SealFlag, fcntl},
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::pipe2,
};

use super::{
    plan::{Output, Stdin},
    syscall,
};

/// The command's three descriptors and our ends of them, all closed on exec.
#[derive(Debug)]
pub(super) struct Stdio {
    /// What becomes the command's 0, 1 and 2.
    pub(super) theirs: [OwnedFd; 3],
    /// Writes to the command's input. Non-blocking, as all of ours.
    pub(super) input: Option<OwnedFd>,
    /// Reads the command's output, or the terminal.
    pub(super) output: Option<OwnedFd>,
    /// Reads the command's standard error, if apart.
    pub(super) error: Option<OwnedFd>,
    /// A terminal's master side, for its size.
    pub(super) terminal: Option<OwnedFd>,
}

impl Stdio {
    /// Opens everything. On an error nothing stays open.
    pub(super) fn open(stdin: &Stdin, output: Output) -> io::Result<Stdio> {
        match output {
            Output::Terminal { rows, columns } => Stdio::terminal(stdin, rows, columns),
            Output::Files { stdout, stderr } => {
                let (theirs, input) = open_stdin(stdin)?;
                let stderr = stderr.map_or_else(|| stdout.try_clone(), Ok)?;
                Ok(Stdio {
                    theirs: [theirs, stdout.into(), stderr.into()],
                    input,
                    output: None,
                    error: None,
                    terminal: None,
                })
            }
            Output::Pipes { merge_stderr } => {
                let (theirs, input) = open_stdin(stdin)?;
                let (output, stdout) = output_pipe()?;
                let (error, stderr) = if merge_stderr {
                    (None, stdout.try_clone()?)
                } else {
                    let (error, stderr) = output_pipe()?;
                    (Some(error), stderr)
                };
                Ok(Stdio { theirs: [theirs, stdout, stderr], input, output: Some(output), error, terminal: None })
            }
        }
    }

    fn terminal(stdin: &Stdin, rows: u16, columns: u16) -> io::Result<Stdio> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = posix_openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname_r(&master)?;
        let slave: OwnedFd = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name)?.into();
        // The master is not Clone; its number is duplicated instead, which also sets close-on-exec.
        let reader = syscall::duplicate(master.as_raw_fd())?;
        let terminal = reader.try_clone()?;
        syscall::resize_terminal(&terminal, rows, columns)?;
        let (theirs, input) = match stdin {
            Stdin::Pipe => (slave.try_clone()?, Some(reader.try_clone()?)),
            Stdin::Null | Stdin::Inline(_) => open_stdin(stdin)?,
        };
        Ok(Stdio {
            theirs: [theirs, slave.try_clone()?, slave],
            input,
            output: Some(reader),
            error: None,
            terminal: Some(terminal),
        })
    }
}

/// The command's input, and our end of it if there is one.
fn open_stdin(stdin: &Stdin) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    match stdin {
        Stdin::Null => Ok((File::open("/dev/null")?.into(), None)),
        Stdin::Inline(bytes) => Ok((inline(bytes)?, None)),
        Stdin::Pipe => {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
            set_nonblocking(&ours)?;
            Ok((theirs, Some(ours)))
        }
    }
}

/// Our end and theirs.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    set_nonblocking(&ours)?;
    Ok((ours, theirs))
}

fn set_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(io::Error::from).and(Ok(()))
}

/// Bytes in memory that the command can read from the start and nobody can change.
fn inline(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"stdin", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    // Opened anew: read-only, and with an offset of its own at the start.
    let read_only = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    debug_assert!(fcntl(&read_only, FcntlArg::F_GETFD).is_ok_and(|flags| flags & FdFlag::FD_CLOEXEC.bits() != 0));
    Ok(read_only.into())
}
