//! The history of one machine, in one SQLite file.
//!
//! ```text
//! begin, finish, delete ─▶ Writer: one thread, all waiting writes in one transaction ─┐
//! get, list, stats, …   ─▶ Readers: a few connections, each on a snapshot of its own ─┴▶ history.db
//! ```
//!
//! A record is kept as JSON with a checksum, which is the truth, beside columns and labels that only find it.
//! It knows nothing of runs but what [`History`] tells it.

mod database;
mod query;
mod readers;
mod row;
mod schema;
mod selection;
mod statistics;
mod write;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::execution::ExecutionId;
use crate::history::filter::Filter;
use crate::history::stats::{Group, Stats};
use crate::history::{Claim, Deletion, Entry, Error, History, Page, Query, Record, Records};
use database::Database;
use readers::Readers;
use row::Row;
use writer::Writer;

/// A history in a file.
#[derive(Debug)]
pub(super) struct Embedded {
    writer: Writer,
    readers: Readers,
}

impl Embedded {
    /// Opens or makes the file in `state_dir`.
    pub(super) fn open(state_dir: &Path) -> Result<Embedded, Error> {
        let database = Arc::new(Database::prepare(state_dir)?);
        Ok(Embedded { writer: Writer::start(database.clone())?, readers: Readers::new(database) })
    }
}

#[async_trait]
impl History for Embedded {
    async fn begin(&self, record: &Record) -> Result<Claim, Error> {
        let row = Row::of(record)?;
        self.writer.write(move |connection| write::begin(connection, &row)).await
    }

    async fn finish(&self, record: &Record) -> Result<(), Error> {
        if record.snapshot.outcome.is_none() {
            return Err(Error::NotEnded { id: record.snapshot.id.clone() });
        }
        let row = Row::of(record)?;
        self.writer.write(move |connection| write::finish(connection, &row)).await
    }

    async fn get(&self, id: &ExecutionId) -> Result<Option<Entry>, Error> {
        let id = id.clone();
        self.readers.read(move |connection| query::entry(connection, &id)).await
    }

    async fn list(&self, query: &Query) -> Result<Page, Error> {
        let query = query.clone();
        self.readers.read(move |connection| query::page(connection, &query)).await
    }

    async fn stats(&self, filter: &Filter, group: Option<&Group>) -> Result<Stats, Error> {
        let (filter, group) = (filter.clone(), group.cloned());
        self.readers.read(move |connection| statistics::stats(connection, &filter, group.as_ref())).await
    }

    async fn unfinished(&self) -> Result<Records, Error> {
        self.readers.read(query::unfinished).await
    }

    async fn oldest(&self, limit: usize) -> Result<Vec<ExecutionId>, Error> {
        self.readers.read(move |connection| query::oldest(connection, limit)).await
    }

    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Vec<ExecutionId>, Error> {
        self.readers.read(move |connection| query::expired(connection, now, limit)).await
    }

    async fn delete(&self, id: &ExecutionId, how: Deletion) -> Result<bool, Error> {
        let id = id.clone();
        self.writer.write(move |connection| write::delete(connection, &id, how)).await
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        Error::Unavailable(Box::new(error))
    }
}

#[cfg(test)]
mod tests;
