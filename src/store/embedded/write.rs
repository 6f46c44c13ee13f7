//! The three writes, each inside a transaction that its caller commits.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::query;
use super::row::{Row, nanoseconds};
use crate::execution::ExecutionId;
use crate::history::{Claim, Deletion, Error};

/// What deciding about a run needs to know of it.
struct Found {
    number: i64,
    has_ended: bool,
    spec_sha256: [u8; 32],
}

pub(super) fn begin(connection: &Connection, row: &Row) -> Result<Claim, Error> {
    if let Some(entry) = query::entry(connection, &row.id)? {
        return Ok(Claim::Exists(entry));
    }
    row.insert(connection)?;
    Ok(Claim::New)
}

pub(super) fn finish(connection: &Connection, row: &Row) -> Result<(), Error> {
    match find(connection, &row.id)? {
        Some(found) if found.has_ended => return Ok(()),
        Some(found) => remove(connection, &found)?,
        None if query::tombstone(connection, &row.id)?.is_some() => return Ok(()),
        None => {}
    }
    Ok(row.insert(connection)?)
}

pub(super) fn delete(connection: &Connection, id: &ExecutionId, how: Deletion) -> Result<bool, Error> {
    let Some(found) = find(connection, id)? else { return Ok(false) };
    if !found.has_ended && !matches!(query::entry(connection, id), Err(Error::Corrupt { .. })) {
        return Err(Error::NotEnded { id: id.clone() });
    }
    remove(connection, &found)?;
    match how {
        Deletion::ByCaller { time } => bury(connection, id, &found, time)?,
        Deletion::ByRetention => {}
    }
    Ok(true)
}

fn find(connection: &Connection, id: &ExecutionId) -> rusqlite::Result<Option<Found>> {
    connection
        .prepare_cached("SELECT number, cause IS NOT NULL, spec_sha256 FROM run WHERE execution_id = ?1")?
        .query_row([id.as_str()], |row| {
            Ok(Found { number: row.get(0)?, has_ended: row.get(1)?, spec_sha256: row.get(2)? })
        })
        .optional()
}

/// Takes its body and labels along.
fn remove(connection: &Connection, found: &Found) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM run WHERE number = ?1")?.execute([found.number]).map(drop)
}

fn bury(connection: &Connection, id: &ExecutionId, found: &Found, time: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO tombstone (execution_id, spec_sha256, delete_time) VALUES (?1, ?2, ?3)")?
        .execute(params![id.as_str(), found.spec_sha256, nanoseconds(time)])
        .map(drop)
}
