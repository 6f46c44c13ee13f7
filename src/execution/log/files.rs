//! The files of one log. It knows names and bytes, not what they mean; it is the one place where a log meets the system.
//! Everything here blocks.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::uio::pwritev;
use nix::unistd::{Whence, lseek};

use crate::execution::ExecutionId;
use crate::execution::event::Channel;

/// The most slices the system takes at once.
const SLICES: usize = 1024;

/// The names of one log's files.
#[derive(Clone, Debug)]
pub(super) struct Files {
    spool: Arc<Path>,
    id: ExecutionId,
    #[cfg(test)]
    pub(super) faults: Faults,
}

/// Makes writes fail, for tests.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<std::sync::atomic::AtomicI32>);

#[cfg(test)]
impl Faults {
    /// From now on every write fails with `errno`, until it is 0.
    pub(super) fn set(&self, errno: i32) {
        self.0.store(errno, std::sync::atomic::Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        match self.0.load(std::sync::atomic::Ordering::SeqCst) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// One of a log's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The frames.
    Log,
    /// The raw bytes of a channel.
    Channel(Channel),
}

impl Part {
    const ALL: [Part; 4] = [
        Part::Channel(Channel::Stdout),
        Part::Channel(Channel::Stderr),
        Part::Channel(Channel::Terminal),
        Part::Log, // the last one to be removed
    ];

    fn extension(self) -> &'static str {
        match self {
            Part::Log => "log",
            Part::Channel(Channel::Stdout) => "out",
            Part::Channel(Channel::Stderr) => "err",
            Part::Channel(Channel::Terminal) => "tty",
        }
    }
}

impl Files {
    pub(super) fn new(spool: Arc<Path>, id: ExecutionId) -> Files {
        Files {
            spool,
            id,
            #[cfg(test)]
            faults: Faults::default(),
        }
    }

    fn directory(&self) -> PathBuf {
        let hash = crc32fast::hash(self.id.as_str().as_bytes());
        self.spool.join(format!("{:02x}", hash & 0xff))
    }

    fn path(&self, part: Part) -> PathBuf {
        self.directory().join(format!("{}.{}", self.id, part.extension()))
    }

    /// Opens a file that exists, to read it.
    pub(super) fn open(&self, part: Part) -> io::Result<File> {
        File::open(self.path(part))
    }

    /// Makes a file that must not exist, to write it; with `append` every write goes to its end.
    pub(super) fn create(&self, part: Part, append: bool) -> io::Result<File> {
        #[cfg(test)]
        self.faults.check()?;
        let mut options = OpenOptions::new();
        options.write(true).append(append).create_new(true).mode(0o600);
        match options.open(self.path(part)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_directory(&self.directory())?;
                options.open(self.path(part))
            }
            opened => opened,
        }
    }

    /// Opens a file that exists, to write it.
    pub(super) fn reopen(&self, part: Part) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path(part))
    }

    /// Whether there is such a file.
    pub(super) fn exists(&self, part: Part) -> io::Result<bool> {
        self.path(part).try_exists()
    }

    /// What the files take of the disk, bytes.
    pub(super) fn allocated(&self) -> io::Result<u64> {
        Part::ALL.into_iter().map(|part| allocated(&self.path(part))).sum()
    }

    /// Removes all of them. Returns what they took of the disk, bytes.
    pub(super) fn remove(&self) -> io::Result<u64> {
        let mut freed = 0;
        for part in Part::ALL {
            let path = self.path(part);
            freed += allocated(&path)?;
            absent_is_none(std::fs::remove_file(path))?;
        }
        Ok(freed)
    }

    /// Writes all `slices`, one behind the other, from `position` on.
    pub(super) fn write_at(&self, file: &File, mut slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut position = position;
        while !slices.is_empty() {
            #[cfg(test)]
            self.faults.check()?;
            let few = &slices[..slices.len().min(SLICES)];
            match pwritev(file, few, i64::try_from(position).map_err(io::Error::other)?) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut slices, written);
                }
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Makes a directory that nobody else may look into, if there is none.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What a file takes of the disk, bytes; 0 when there is none.
pub(super) fn allocated(path: &Path) -> io::Result<u64> {
    Ok(absent_is_none(std::fs::metadata(path))?.map_or(0, |metadata| metadata.blocks() * 512))
}

/// Gives the disk back what `range` takes; its bytes are zeros afterwards. File systems without holes keep them.
pub(super) fn punch_hole(file: &File, range: Range<u64>) -> io::Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let start = i64::try_from(range.start).map_err(io::Error::other)?;
    let length = i64::try_from(range.end - range.start).map_err(io::Error::other)?;
    match fallocate(file, flags, start, length) {
        Ok(()) | Err(nix::Error::EOPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The position of the first byte from `position` on that is not in a hole.
pub(super) fn first_data(file: &File, position: u64) -> io::Result<u64> {
    match lseek(file, i64::try_from(position).map_err(io::Error::other)?, Whence::SeekData) {
        Ok(data) => Ok(data.unsigned_abs()),
        Err(nix::Error::ENXIO | nix::Error::EINVAL) => Ok(position),
        Err(error) => Err(error.into()),
    }
}

/// The bytes of `range`, or fewer where the file ends.
pub(super) fn read_range(mut file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let length = range.end.saturating_sub(range.start);
    // A damaged log may ask for anything: no more is allocated than the file has.
    let there = file.metadata()?.len().saturating_sub(range.start);
    let mut bytes = Vec::with_capacity(usize::try_from(length.min(there)).map_err(io::Error::other)?);
    file.seek(SeekFrom::Start(range.start))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Cuts a file off behind `length` bytes.
pub(super) fn truncate(file: &File, length: u64) -> io::Result<()> {
    file.set_len(length)
}

/// Reads what is there at `position` into `buffer`; returns how many bytes.
pub(super) fn read_some(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, position) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// `None` for a file that does not exist.
pub(super) fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}
