//! Connections that read, away from the async threads and from the writer.
//!
//! A read sees one snapshot of the file from its first statement to its last, and waits for no writer.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::Semaphore;

use super::database::{Connected, Database};
use crate::history::Error;

/// How many reads run at once; others wait.
const MAX_READERS: usize = 4;

/// Reads from one database.
#[derive(Debug)]
pub(super) struct Readers {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct Pool {
    database: Arc<Database>,
    idle: Mutex<Vec<Connected>>,
}

impl Readers {
    pub(super) fn new(database: Arc<Database>) -> Readers {
        let pool = Pool { database, idle: Mutex::default() };
        Readers { pool: Arc::new(pool), permits: Arc::new(Semaphore::new(MAX_READERS)) }
    }

    /// What `work` reads. Cancel-safe: what was begun is finished in the background and thrown away.
    pub(super) async fn read<T, W>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let pool = self.pool.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            pool.read(work)
        });
        reading.await.map_err(|error| Error::Unavailable(Box::new(error)))?
    }
}

impl Pool {
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let mut connected = match self.take_idle() {
            Some(connected) => connected,
            None => self.database.connect()?,
        };
        let snapshot = connected.connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let result = work(&snapshot);
        snapshot.finish()?;
        if !matches!(result, Err(Error::Unavailable(_))) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connected);
        }
        result
    }

    /// An idle connection that still leads to the file; those that do not are closed.
    fn take_idle(&self) -> Option<Connected> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(|connected| self.database.check(connected).is_ok())
    }
}
