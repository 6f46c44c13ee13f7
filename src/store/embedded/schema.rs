//! The tables, and how older ones become the present ones.
//!
//! The file says in `user_version` how many of the migrations it has seen. One that was released is never changed.

use rusqlite::{Connection, TransactionBehavior};

use crate::history::Error;

/// Each brings the file from the version of its index to the next.
const MIGRATIONS: [&str; 1] = [FIRST];

/// Columns that filters know are named as in filters. Times are nanoseconds since the epoch, durations nanoseconds.
/// A run has ended when it has a cause.
const FIRST: &str = "
    CREATE TABLE run (
        number        INTEGER PRIMARY KEY,
        execution_id  TEXT NOT NULL UNIQUE,
        state         TEXT NOT NULL,
        cause         TEXT,
        success       INTEGER,
        exit_code     INTEGER,
        signal        INTEGER,
        command       TEXT NOT NULL,
        user          TEXT,
        create_time   INTEGER NOT NULL,
        start_time    INTEGER,
        complete_time INTEGER,
        duration      INTEGER,
        expire_time   INTEGER,
        command_name  TEXT NOT NULL,
        output_bytes  INTEGER NOT NULL,
        spec_sha256   BLOB NOT NULL
    );
    CREATE INDEX run_by_creation   ON run (create_time, execution_id);
    CREATE INDEX run_by_cause      ON run (cause, create_time, execution_id);
    CREATE INDEX run_by_command    ON run (substr(command, 1, 64), create_time, execution_id);
    CREATE INDEX run_by_completion ON run (complete_time);
    CREATE INDEX run_by_expiry     ON run (expire_time);

    -- Apart from run, so that a scan of run does not wade through it.
    CREATE TABLE body (
        number   INTEGER PRIMARY KEY REFERENCES run ON DELETE CASCADE,
        json     BLOB NOT NULL,
        checksum INTEGER NOT NULL
    );

    -- Repeats when the run was created, so that the page of a label needs no sorting.
    CREATE TABLE label (
        key          TEXT NOT NULL,
        value        TEXT NOT NULL,
        create_time  INTEGER NOT NULL,
        execution_id TEXT NOT NULL,
        number       INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
        PRIMARY KEY (key, value, create_time, execution_id)
    ) WITHOUT ROWID;
    CREATE INDEX label_by_run ON label (number, key);

    CREATE TABLE tombstone (
        execution_id TEXT PRIMARY KEY,
        spec_sha256  BLOB NOT NULL,
        delete_time  INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// The file is from the future.
#[derive(Debug, thiserror::Error)]
#[error("it has schema version {found}, this server knows up to {known}")]
struct NewerSchema {
    found: usize,
    known: usize,
}

/// Brings the file to the present version, or leaves it as it is.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = MIGRATIONS.len();
    let missing = MIGRATIONS.get(found..).ok_or_else(|| Error::Unavailable(Box::new(NewerSchema { found, known })))?;
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    if !missing.is_empty() {
        transaction.pragma_update(None, "user_version", known)?;
    }
    Ok(transaction.commit()?)
}
