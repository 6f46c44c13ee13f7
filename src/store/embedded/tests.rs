use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::history::sample::{begun, ended};
use crate::store::contract::{Bench, contract};

struct Directory(TempDir);

impl Directory {
    fn file(&self) -> PathBuf {
        self.0.path().join("history.db")
    }

    fn store(&self) -> Embedded {
        Embedded::open(self.0.path()).unwrap()
    }
}

impl Bench for Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Arc<dyn History> {
        crate::store::open(self.0.path()).unwrap()
    }

    fn damage(&self, id: &ExecutionId) {
        let connection = rusqlite::Connection::open(self.file()).unwrap();
        let changed = connection.execute(
            "UPDATE body SET json = CAST(replace(CAST(json AS TEXT), 'make', 'fake') AS BLOB)
             WHERE number = (SELECT number FROM run WHERE execution_id = ?1)",
            [id.as_str()],
        );
        assert_eq!(changed.unwrap(), 1);
    }
}

contract!(Directory);
