//! What is read of single runs and of lists of them.

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, params_from_iter};

use super::row::{decode, nanoseconds};
use super::selection::Selection;
use crate::execution::ExecutionId;
use crate::history::page::PageKey;
use crate::history::{Entry, Error, Page, Query, Record, Records};

/// A record as it was found: readable or not.
struct Found {
    key: PageKey,
    record: Result<Record, Error>,
}

const COLUMNS: &str = "run.execution_id, run.create_time, body.json, body.checksum";

pub(super) fn entry(connection: &Connection, id: &ExecutionId) -> Result<Option<Entry>, Error> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM run LEFT JOIN body ON body.number = run.number WHERE run.execution_id = ?1"
        ))?
        .query_row([id.as_str()], found)
        .optional()?;
    match found {
        Some(found) => Ok(Some(Entry::Record(Box::new(found.record?)))),
        None => Ok(tombstone(connection, id)?),
    }
}

pub(super) fn tombstone(connection: &Connection, id: &ExecutionId) -> rusqlite::Result<Option<Entry>> {
    connection
        .prepare_cached("SELECT spec_sha256, delete_time FROM tombstone WHERE execution_id = ?1")?
        .query_row([id.as_str()], |row| Ok(Entry::Deleted { spec_sha256: row.get(0)?, time: time(row.get(1)?) }))
        .optional()
}

pub(super) fn page(connection: &Connection, query: &Query) -> Result<Page, Error> {
    if query.page_size == 0 {
        return Ok(Page::default());
    }
    let Selection { text, parameters, .. } = page_selection(query);
    // The body is looked up last, for the few that are shown.
    let mut found = all(
        connection,
        &format!(
            "WITH chosen AS MATERIALIZED (SELECT run.number{text}) \
             SELECT {COLUMNS} FROM chosen JOIN run ON run.number = chosen.number \
             LEFT JOIN body ON body.number = run.number ORDER BY run.create_time DESC, run.execution_id DESC"
        ),
        params_from_iter(parameters),
    )?;
    let has_more = found.len() > query.page_size;
    found.truncate(query.page_size);
    let next = found.last().filter(|_| has_more).map(|last| last.key.clone());
    Ok(Page { records: sorted_out(found)?, next })
}

/// The runs of the page, and one more that tells whether there is a next one.
pub(super) fn page_selection(query: &Query) -> Selection {
    let mut selection = Selection::of(&query.filter, query.include_unfinished);
    let sorted_by = selection.sorted_by;
    if let Some(key) = &query.after {
        selection.push(&format!(" AND ({sorted_by}.create_time, {sorted_by}.execution_id) < ("));
        selection.bind(nanoseconds(key.created)).push(", ").bind(key.id.to_string()).push(")");
    }
    selection.push(&format!(" ORDER BY {sorted_by}.create_time DESC, {sorted_by}.execution_id DESC LIMIT "));
    selection.bind(count(query.page_size).saturating_add(1));
    selection
}

pub(super) fn unfinished(connection: &Connection) -> Result<Records, Error> {
    let statement = format!(
        "SELECT {COLUMNS} FROM run LEFT JOIN body ON body.number = run.number \
         WHERE run.cause IS NULL ORDER BY run.create_time, run.execution_id"
    );
    sorted_out(all(connection, &statement, [])?)
}

pub(super) fn oldest(connection: &Connection, limit: usize) -> Result<Vec<ExecutionId>, Error> {
    let statement = "SELECT execution_id FROM run WHERE +cause IS NOT NULL ORDER BY complete_time LIMIT ?1";
    ids(connection, statement, [count(limit)])
}

pub(super) fn expired(connection: &Connection, now: Timestamp, limit: usize) -> Result<Vec<ExecutionId>, Error> {
    let statement = "SELECT execution_id FROM run \
                     WHERE expire_time <= ?1 AND +cause IS NOT NULL ORDER BY expire_time LIMIT ?2";
    ids(connection, statement, [nanoseconds(now), count(limit)])
}

/// The instant of a column.
pub(super) fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).expect("64 bits of nanoseconds end in 2262")
}

fn all(connection: &Connection, statement: &str, parameters: impl Params) -> rusqlite::Result<Vec<Found>> {
    connection.prepare(statement)?.query_map(parameters, found)?.collect()
}

fn ids(connection: &Connection, statement: &str, parameters: impl Params) -> Result<Vec<ExecutionId>, Error> {
    let mut statement = connection.prepare_cached(statement)?;
    let ids = statement.query_map(parameters, |row| execution_id(row, 0))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

fn found(row: &rusqlite::Row<'_>) -> rusqlite::Result<Found> {
    let id = execution_id(row, 0)?;
    let json: Option<Vec<u8>> = row.get(2)?;
    let checksum: Option<u32> = row.get(3)?;
    let record = decode(&id, &json.unwrap_or_default(), checksum.unwrap_or_default());
    Ok(Found { key: PageKey { created: time(row.get(1)?), id }, record })
}

fn execution_id(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<ExecutionId> {
    let damage = |error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error));
    row.get::<_, String>(index)?.parse().map_err(damage)
}

/// # Errors
/// Whatever is worse than a corrupt record.
fn sorted_out(found: Vec<Found>) -> Result<Records, Error> {
    let mut records = Records::default();
    for found in found {
        match found.record {
            Ok(record) => records.sound.push(record),
            Err(Error::Corrupt { id, .. }) => records.corrupt.push(id),
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
