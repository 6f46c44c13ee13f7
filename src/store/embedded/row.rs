//! A record as it lies in the file: the JSON that is the truth, and the columns that find it.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params, params_from_iter};

use crate::execution::ExecutionId;
use crate::history::filter::{Column, Value};
use crate::history::{Error, Record};

/// What is written for one record. Made before the writer sees it, so that encoding does not hold up others.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: ExecutionId,
    columns: Vec<SqlValue>,
    labels: Vec<(String, String)>,
    create_time: i64,
    json: Vec<u8>,
}

/// What was read is not what was written.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it is the record of {0}")]
    OtherRun(ExecutionId),
}

impl Row {
    /// Encodes it.
    ///
    /// # Errors
    /// [`Error::Unstorable`] for what JSON cannot hold.
    pub(super) fn of(record: &Record) -> Result<Row, Error> {
        let run = &record.snapshot;
        let json = serde_json::to_vec(record)
            .map_err(|error| Error::Unstorable { id: run.id.clone(), source: Box::new(error) })?;
        let output = run.outcome.iter().flat_map(|outcome| &outcome.channels);
        let output_bytes = output.fold(0_u64, |sum, channel| sum.saturating_add(channel.bytes_total));
        let mut columns = Column::NAMED.map(|column| column.of(run).map_or(SqlValue::Null, sql_value)).to_vec();
        columns.extend([
            record.expires.map(nanoseconds).into(),
            run.command.line.name().to_owned().into(),
            i64::try_from(output_bytes).unwrap_or(i64::MAX).into(),
            record.spec_sha256.to_vec().into(),
        ]);
        let labels = run.command.options.labels.clone().into_iter().collect();
        Ok(Row { id: run.id.clone(), columns, labels, create_time: nanoseconds(run.created), json })
    }

    /// Adds it; the id must be free.
    pub(super) fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        let names = Column::NAMED.map(|column| column.to_string()).join(", ");
        connection
            .prepare_cached(&format!(
                "INSERT INTO run ({names}, expire_time, command_name, output_bytes, spec_sha256) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
            ))?
            .execute(params_from_iter(&self.columns))?;
        let number = connection.last_insert_rowid();
        connection
            .prepare_cached("INSERT INTO body (number, json, checksum) VALUES (?1, ?2, ?3)")?
            .execute(params![number, self.json, crc32fast::hash(&self.json)])?;
        let mut label = connection.prepare_cached(
            "INSERT INTO label (key, value, create_time, execution_id, number) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for (key, value) in &self.labels {
            label.execute(params![key, value, self.create_time, self.id.as_str(), number])?;
        }
        Ok(())
    }
}

/// The record in `json`, provided it is what was written for `id`.
///
/// # Errors
/// [`Error::Corrupt`]
pub(super) fn decode(id: &ExecutionId, json: &[u8], checksum: u32) -> Result<Record, Error> {
    let corrupt = |source| Error::Corrupt { id: id.clone(), source };
    if crc32fast::hash(json) != checksum {
        return Err(corrupt(Damage::Checksum.into()));
    }
    let record: Record = serde_json::from_slice(json).map_err(|error| corrupt(error.into()))?;
    if record.snapshot.id != *id {
        return Err(corrupt(Damage::OtherRun(record.snapshot.id).into()));
    }
    Ok(record)
}

/// A filter's value as SQLite compares it: text by its bytes, all else as integers.
pub(super) fn sql_value(value: Value) -> SqlValue {
    match value {
        Value::Text(text) => text.into(),
        Value::Name(name) => name.to_owned().into(),
        Value::Flag(flag) => flag.into(),
        Value::Number(number) => number.into(),
        Value::Time(time) => nanoseconds(time).into(),
        Value::Duration(duration) => i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX).into(),
    }
}

/// Since the epoch; beyond the years 1677 and 2262 it stands still.
pub(super) fn nanoseconds(time: jiff::Timestamp) -> i64 {
    time.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into()) as i64
}
