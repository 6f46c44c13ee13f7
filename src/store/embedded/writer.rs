//! The one thread that writes: takes all writes that wait, does them in one transaction, then answers all of them.
//!
//! So a burst of a thousand writes costs a few commits. A write that fails undoes only itself; a commit that fails fails
//! them all. It knows nothing about what is written.

use std::error::Error as StdError;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::database::{Connected, Database, unavailable};
use crate::history::Error;

/// Writes that may wait before callers do.
const MAX_WAITING: usize = 1024;
/// Writes in one transaction.
const MAX_BATCH: usize = 512;

/// A handle to the writing thread; dropping it waits until everything handed over is written.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

/// Why a whole transaction failed, for everybody in it.
type Failure = Arc<dyn StdError + Send + Sync>;

/// The writer's thread is gone, which is a bug.
#[derive(Debug, thiserror::Error)]
#[error("the writing thread ended")]
struct ThreadEnded;

impl Writer {
    /// Connects and starts the thread.
    pub(super) fn start(database: Arc<Database>) -> Result<Writer, Error> {
        let connected = database.connect()?;
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let mut driver = Driver { database, connected: Some(connected) };
        let thread = thread::Builder::new().name("history-writer".to_owned()).spawn(move || driver.run(waiting));
        Ok(Writer { jobs: Some(jobs), thread: Some(thread.map_err(unavailable)?) })
    }

    /// Does `work` in a transaction and returns once it is committed.
    ///
    /// Cancel safety: dropped before it was handed over, it never happens, afterwards it happens.
    pub(super) async fn write<T, W>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().expect("only taken on drop");
        let job = Task { work: Some(work), result: None, reply };
        jobs.send(Box::new(job)).await.map_err(|_| Error::Unavailable(Box::new(ThreadEnded)))?;
        answer.await.map_err(|_| Error::Unavailable(Box::new(ThreadEnded)))?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic over there has been reported there, and every caller was told.
            let _ = thread.join();
        }
    }
}

/// A write, whatever it is.
trait Job: Send {
    /// Does it and keeps the result; tells whether its changes are to be kept.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells the caller the result, or why the transaction failed.
    fn answer(self: Box<Self>, failure: Option<Failure>);
}

struct Task<T, W> {
    work: Option<W>,
    result: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, W> Job for Task<T, W>
where
    T: Send,
    W: FnOnce(&Connection) -> Result<T, Error> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.result = self.work.take().map(|work| work(connection));
        matches!(self.result, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, failure: Option<Failure>) {
        let result = match (failure, self.result) {
            (Some(failure), _) => Err(Error::Unavailable(Box::new(failure))),
            (None, result) => result.expect("a transaction that succeeded has run all its jobs"),
        };
        // Nobody there any more: the caller did not want to know.
        let _ = self.reply.send(result);
    }
}

/// What runs on the thread.
struct Driver {
    database: Arc<Database>,
    connected: Option<Connected>,
}

impl Driver {
    fn run(&mut self, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch = Vec::new();
        while waiting.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
            let failure = self.commit(&mut batch).err().map(shared);
            for job in batch.drain(..) {
                job.answer(failure.clone());
            }
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), Error> {
        let connection = self.connection()?;
        let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in batch {
            let savepoint = transaction.savepoint()?;
            if job.run(&savepoint) {
                savepoint.commit()?;
            } else {
                savepoint.finish()?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// The connection to the file that is there now.
    fn connection(&mut self) -> Result<&mut Connection, Error> {
        let is_current = |connected: &Connected| self.database.check(connected).is_ok();
        let connected = match self.connected.take().filter(is_current) {
            Some(connected) => connected,
            None => self.database.connect()?,
        };
        Ok(&mut self.connected.insert(connected).connection)
    }
}

fn shared(error: Error) -> Failure {
    match error {
        Error::Unavailable(source) => source.into(),
        other => Arc::new(other),
    }
}
