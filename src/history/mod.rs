//! What is remembered of runs, and the port through which stores keep it.
//!
//! The supervisor writes here, the api and retention read. This module knows no store and no wire: it says what a
//! store must promise, and `store::contract` holds every store to it.

pub mod filter;
pub mod page;
pub mod stats;

#[cfg(test)]
pub(crate) mod sample;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::execution::command::EffectiveTimeout;
use crate::execution::{ExecutionId, Snapshot};
use filter::Filter;
use page::PageKey;
use stats::{Group, Stats};

/// A run as it is remembered. Everything a signed receipt will need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The run; in its final state once it has ended, as accepted before.
    pub snapshot: Snapshot,
    /// SHA-256 of the command and options as requested.
    pub spec_sha256: [u8; 32],
    /// The clocks in force.
    pub timeouts: Vec<EffectiveTimeout>,
    /// The machine.
    pub node: String,
    /// Version and build of the server.
    pub build: String,
    /// The process of the server that owns, or owned, the run.
    pub instance: String,
    /// When record and output are removed; set when the run ends.
    pub expires: Option<Timestamp>,
}

/// What a store knows about an id.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A run; `snapshot.outcome` tells whether it has ended.
    Record(Box<Record>),
    /// A caller deleted the record; the id stays taken.
    Deleted {
        /// SHA-256 of the command and options as requested.
        spec_sha256: [u8; 32],
        /// When it was deleted.
        time: Timestamp,
    },
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// The id was free and is now the claimer's.
    New,
    /// Somebody had it before.
    Exists(Entry),
}

/// Which records are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Only these. Default: all.
    pub filter: Filter,
    /// At most so many; 0 gives an empty page without a next one.
    pub page_size: usize,
    /// Only records older than this one. Default: from the newest.
    pub after: Option<PageKey>,
    /// Also runs that have not ended. Default: they are left out.
    pub include_unfinished: bool,
}

/// Records, and the ids of those that can no longer be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// The readable ones.
    pub sound: Vec<Record>,
    /// Those whose content fails its checksum, in the same order; only [`History::delete`] still works on them.
    pub corrupt: Vec<ExecutionId>,
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Newest first by creation, then by id.
    pub records: Records,
    /// Where the next page begins; `None` when this is the last one.
    pub next: Option<PageKey>,
}

/// Why a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// A caller wants it gone: the id stays taken.
    ByCaller {
        /// Now.
        time: Timestamp,
    },
    /// Its time is over: nothing is left of it.
    ByRetention,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be reached, is full, locked or gone; the same call may succeed later.
    #[error("reach the history store")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored for this run is not what was written.
    #[error("read the damaged record of {id}")]
    Corrupt {
        /// The run.
        id: ExecutionId,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This record can never be stored, for instance for a working directory that is not UTF-8.
    #[error("store a record of {id}")]
    Unstorable {
        /// The run.
        id: ExecutionId,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The call is for runs that have ended, and this one has not.
    #[error("treat {id} as ended, which it is not")]
    NotEnded {
        /// The run.
        id: ExecutionId,
    },
}

/// Remembers runs, across restarts of the server.
///
/// A write that returned `Ok` is seen by every later read, also after a restart. After [`Error::Unavailable`] it is not
/// known whether a write happened; it may be repeated, and for [`History::begin`] the repeat then finds its own record.
///
/// Cancel safety: a read can be dropped at any time; a write that is dropped happens entirely or not at all.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// Claims the id of `record` and remembers the run as begun: of all claims of one id exactly one gets [`Claim::New`].
    async fn begin(&self, record: &Record) -> Result<Claim, Error>;

    /// Remembers that the run ended, instead of what [`History::begin`] stored, or without it.
    ///
    /// A run ends once: a repeat is accepted and changes nothing, also when the record has been deleted by a caller.
    /// A record without an outcome is [`Error::NotEnded`].
    async fn finish(&self, record: &Record) -> Result<(), Error>;

    /// What is known about `id`; `None` when it is free.
    async fn get(&self, id: &ExecutionId) -> Result<Option<Entry>, Error>;

    /// One page of the records that match, newest first by creation, then by id.
    ///
    /// Following [`Page::next`] gives every record that matched at the start exactly once, whatever is added meanwhile.
    async fn list(&self, query: &Query) -> Result<Page, Error>;

    /// Figures over the ended runs that match, and over their groups.
    async fn stats(&self, filter: &Filter, group: Option<&Group>) -> Result<Stats, Error>;

    /// The runs that began and have not ended, of any instance, oldest first.
    async fn unfinished(&self) -> Result<Records, Error>;

    /// At most `limit` ended runs, the one completed longest ago first: what retention by size removes next.
    async fn oldest(&self, limit: usize) -> Result<Vec<ExecutionId>, Error>;

    /// At most `limit` ended runs whose time is over at `now`, the one overdue longest first.
    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Vec<ExecutionId>, Error>;

    /// Removes the record; tells whether there was one.
    ///
    /// A run that has not ended is [`Error::NotEnded`], unless its record is corrupt. Retention leaves the mark of an
    /// earlier deletion by a caller in place.
    async fn delete(&self, id: &ExecutionId, how: Deletion) -> Result<bool, Error>;
}
