//! Our ends of a command's pipes and terminal: read and written by readiness, without a buffer while idle.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use bytes::BytesMut;
use tokio::io::{Interest, unix::AsyncFd};

use super::syscall;

/// Where a command's output can be read. Dropping it closes our end.
#[derive(Debug)]
pub struct Reader {
    descriptor: AsyncFd<OwnedFd>,
}

/// Where a command's input can be written. Dropping it closes our end; on a terminal that is no end of input
/// (write the byte 4 for that), the terminal lives on in the [`Reader`].
#[derive(Debug)]
pub struct Writer {
    descriptor: AsyncFd<OwnedFd>,
}

impl Reader {
    /// Takes a non-blocking descriptor. Must be called within a runtime.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Reader> {
        syscall::register(descriptor, Interest::READABLE).map(|descriptor| Reader { descriptor })
    }

    /// Waits until there is something to read, or the end. Cancel-safe.
    pub async fn readable(&self) -> io::Result<()> {
        // Readiness is kept until a read finds nothing, so dropping the guard loses no wake-up.
        self.descriptor.readable().await.map(drop)
    }

    /// Appends what is there, at most the spare capacity of `buffer`; never waits.
    ///
    /// `Ok(0)` is the end: every writer has closed, or the terminal has hung up. `WouldBlock`: nothing now.
    /// A buffer without spare capacity is `InvalidInput`, for it could not be told from the end.
    pub fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.descriptor.try_io(Interest::READABLE, |descriptor| read(descriptor, buffer))
    }

    /// As [`Reader::try_read`], but asks the system even when nobody has told yet that there is something: for the
    /// moment in which nothing that was written before may be overlooked.
    pub fn read_now(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        read(self.descriptor.get_ref(), buffer)
    }
}

fn read(descriptor: &OwnedFd, buffer: &mut BytesMut) -> io::Result<usize> {
    loop {
        match syscall::read_into(descriptor, buffer) {
            // What a terminal says once nobody has it open any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

impl Writer {
    /// Takes a non-blocking descriptor. Must be called within a runtime.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Writer> {
        syscall::register(descriptor, Interest::WRITABLE).map(|descriptor| Writer { descriptor })
    }

    /// Waits until something can be written, or nobody reads any more. Cancel-safe.
    pub async fn writable(&self) -> io::Result<()> {
        self.descriptor.writable().await.map(drop)
    }

    /// Writes as much of `data` as there is room for and returns how much; never waits.
    ///
    /// `WouldBlock`: nothing now. `BrokenPipe`: the command has closed its input.
    pub fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        self.descriptor.try_io(Interest::WRITABLE, |descriptor| {
            loop {
                match nix::unistd::write(descriptor.as_fd(), data) {
                    Err(nix::errno::Errno::EINTR) => {}
                    answer => return answer.map_err(io::Error::from),
                }
            }
        })
    }
}
