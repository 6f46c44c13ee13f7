//! The directory in which all logs lie. It knows which files belong to which run, not what is in them. Everything here blocks
//! on the disk, [`Spool::create`] only to look.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::core::Core;
use super::digest::Digests;
use super::disk::Disk;
use super::files::{Files, Part, absent_is_none, allocated, make_directory};
use super::index::{Index, Place};
use super::scan::scan;
use super::scribe::Scribe;
use super::state::{Ending, State};
use super::writer::Writer;
use super::{Log, LogConfig, LogError};
use crate::execution::ExecutionId;
use crate::execution::command::OutputPolicy;

/// A directory of logs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool {
    directory: Arc<Path>,
    disk: Arc<Disk>,
}

impl Spool {
    /// The spool in this directory, which is made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(directory: PathBuf) -> io::Result<Spool> {
        make_directory(&directory)?;
        Ok(Spool { directory: directory.into(), disk: Disk::new() })
    }

    /// A new log. Looks whether there is one, and writes nothing before the first events are written behind.
    ///
    /// # Errors
    /// [`LogError::Exists`], [`LogError::Io`].
    pub fn create(&self, id: &ExecutionId, config: LogConfig) -> Result<(Writer, Log), LogError> {
        let files = self.files(id);
        if files.exists(Part::Log)? {
            return Err(LogError::Exists);
        }
        let state = State::new(config.clone(), Index::new(config.step()), Digests::new(), Place::START);
        let core = Core::new(Arc::clone(&self.disk), files, state, Scribe::new());
        Ok((Writer::new(Arc::clone(&core)), Log { core }))
    }

    /// Whether there is a log of this run.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn exists(&self, id: &ExecutionId) -> io::Result<bool> {
        self.files(id).exists(Part::Log)
    }

    /// The log of a run that has ended. If its writer was lost, that is announced at its end.
    ///
    /// # Errors
    /// [`LogError::NotFound`], [`LogError::Corrupt`] when it is not a log at all, [`LogError::Io`].
    pub fn load(&self, id: &ExecutionId) -> Result<Log, LogError> {
        let files = self.files(id);
        let mut scan = scan(&files, &kept())?.ok_or(LogError::NotFound)?;
        let ending = scan.sealed.take().map_or(Ending::Lost, Ending::Sealed);
        let mut state = scan.into_state(kept());
        state.ended(ending);
        Ok(Log { core: Core::new(Arc::clone(&self.disk), files, state, Scribe::new()) })
    }

    /// A log whose writer was lost, to be continued: behind its last good event, and with the bytes that had come to the disk
    /// without their event. An empty log when there is none. It has no digests, and everything is kept.
    ///
    /// # Errors
    /// [`LogError::Sealed`] when nothing is to be done, [`LogError::Corrupt`] when it is not a log at all, [`LogError::Io`].
    pub fn recover(&self, id: &ExecutionId) -> Result<(Writer, Log), LogError> {
        let files = self.files(id);
        let Some(scan) = scan(&files, &kept())? else { return self.create(id, kept()) };
        if scan.sealed.is_some() {
            return Err(LogError::Sealed);
        }
        let (state, scribe) = scan.into_continued(&files, kept())?;
        let core = Core::new(Arc::clone(&self.disk), files, state, scribe);
        Ok((Writer::new(Arc::clone(&core)), Log { core }))
    }

    /// Removes a log. Returns the bytes of disk that it took.
    ///
    /// # Errors
    /// When a file cannot be removed; then the log itself is still there.
    pub fn remove(&self, id: &ExecutionId) -> io::Result<u64> {
        self.files(id).remove()
    }

    /// The bytes of disk a log takes; 0 when there is none.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn size(&self, id: &ExecutionId) -> io::Result<u64> {
        self.files(id).allocated()
    }

    /// The bytes of disk all logs take. Looks at every file.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn total_size(&self) -> io::Result<u64> {
        let mut size = 0;
        for directory in std::fs::read_dir(&self.directory)? {
            for file in absent_is_none(std::fs::read_dir(directory?.path()))?.into_iter().flatten() {
                size += allocated(&file?.path())?;
            }
        }
        Ok(size)
    }

    fn files(&self, id: &ExecutionId) -> Files {
        Files::new(Arc::clone(&self.directory), id.clone())
    }
}

/// The limits of a log that exists: what is there is kept.
fn kept() -> LogConfig {
    LogConfig { output_bytes: u64::MAX, policy: OutputPolicy::DropOldest, ..LogConfig::default() }
}
