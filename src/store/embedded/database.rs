//! The file, and connections to it that notice when it is taken away.
//!
//! SQLite goes on writing into a file that has lost its name, and everything written there is lost with the last
//! descriptor. So each use asks first whether the name still leads to the file that was opened.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::schema;
use crate::history::Error;

/// How long a connection waits for another one that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection works with: NORMAL loses nothing when a process dies, and at a power cut only the last moments.
const SETTINGS: &str = "
    PRAGMA synchronous = NORMAL;
    PRAGMA foreign_keys = ON;
    PRAGMA cache_size = -8192;
    PRAGMA journal_size_limit = 67108864;
";

/// A history file that exists and has the present schema.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
}

/// A connection that is its user's alone.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) connection: Connection,
    identity: Identity,
}

/// Device and inode.
type Identity = (u64, u64);

impl Database {
    /// Makes the directory (for its owner only) and the file where they are missing, and brings the schema up to date.
    pub(super) fn prepare(state_dir: &Path) -> Result<Database, Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(unavailable)?;
        // Two processes that turn on write-ahead logging at once do not wait for each other by themselves.
        let lock = File::create(state_dir.join("history.lock")).map_err(unavailable)?;
        lock.lock().map_err(unavailable)?;

        let database = Database { path: state_dir.join("history.db") };
        database.create_if_missing().map_err(unavailable)?;
        let mut connection = database.open(OpenFlags::default())?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        schema::migrate(&mut connection)?;
        Ok(database)
    }

    /// A new connection; never makes the file, since an empty history in place of a lost one would be a lie.
    pub(super) fn connect(&self) -> Result<Connected, Error> {
        let identity = self.identity().map_err(unavailable)?;
        let connection = self.open(OpenFlags::default() - OpenFlags::SQLITE_OPEN_CREATE)?;
        let connected = Connected { connection, identity };
        self.check(&connected)?;
        Ok(connected)
    }

    /// Whether `connected` still leads to what the path names.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is no file, or another one.
    pub(super) fn check(&self, connected: &Connected) -> Result<(), Error> {
        match self.identity() {
            Ok(identity) if identity == connected.identity => Ok(()),
            Ok(_) => Err(unavailable(io::Error::other("another file has taken its place"))),
            Err(error) => Err(unavailable(error)),
        }
    }

    fn open(&self, flags: OpenFlags) -> Result<Connection, Error> {
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch(SETTINGS)?;
        Ok(connection)
    }

    /// For its owner only; SQLite gives the files beside it the same mode. An existing file must not be opened here:
    /// closing it again would release the locks that SQLite holds on it in this process.
    fn create_if_missing(&self) -> io::Result<()> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    fn identity(&self) -> io::Result<Identity> {
        fs::metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()))
    }
}

pub(super) fn unavailable(error: io::Error) -> Error {
    Error::Unavailable(Box::new(error))
}
