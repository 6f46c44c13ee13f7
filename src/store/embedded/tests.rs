//! What SQLite and the file system can do to a history, besides the contract.

mod speed;

use std::error::Error as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use rusqlite::Connection;
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
        let connection = Connection::open(self.file()).unwrap();
        let changed = connection.execute(
            "UPDATE body SET json = CAST(replace(CAST(json AS TEXT), 'make', 'fake') AS BLOB)
             WHERE number = (SELECT number FROM run WHERE execution_id = ?1)",
            [id.as_str()],
        );
        assert_eq!(changed.unwrap(), 1);
    }
}

contract!(Directory);

fn id(text: &str) -> ExecutionId {
    text.parse().unwrap()
}

/// One that needs new pages in the file.
fn large(id: &str) -> Record {
    let mut record = ended(id, 0);
    record.snapshot.outcome.as_mut().unwrap().reason = "x".repeat(1 << 20);
    record
}

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
}

#[tokio::test]
async fn numbers_and_times_come_back_exactly() {
    let directory = Directory::new();
    let store = directory.store();
    let mut record = ended("a", 123_456_789);
    record.snapshot.command.options.limits.cpus = Some(0.1 + 0.2);
    record.snapshot.created = jiff::Timestamp::MIN;
    record.timeouts[0].value = Duration::new(u64::MAX, 999_999_999);
    store.finish(&record).await.unwrap();
    assert_eq!(store.get(&id("a")).await.unwrap(), Some(Entry::Record(Box::new(record))));
}

#[tokio::test]
async fn a_record_that_json_cannot_hold_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let directory = Directory::new();
    let mut record = ended("a", 0);
    let not_utf8 = std::ffi::OsString::from_vec(vec![0xff]);
    record.snapshot.command.options.working_directory = Some(not_utf8.into());
    assert!(matches!(directory.store().finish(&record).await, Err(Error::Unstorable { .. })));
}

#[tokio::test]
async fn dropping_the_last_handle_writes_what_was_handed_over() {
    let directory = Directory::new();
    let store = directory.store();
    for run in 0..20 {
        // Polled once and dropped: the caller went away, the write goes on.
        let _ = store.finish(&ended(&format!("run-{run}"), run)).now_or_never();
    }
    drop(store);
    assert_eq!(directory.store().oldest(99).await.unwrap().len(), 20);
}

#[tokio::test]
async fn writes_that_wait_share_a_transaction() {
    let directory = Directory::new();
    let store = directory.store();
    let file = directory.file();
    let (release, released) = std::sync::mpsc::channel();
    let blocking = store.writer.write(move |_| {
        released.recv().unwrap();
        Ok(())
    });
    let record = ended("a", 0);
    let looking = store.writer.write(move |connection| {
        let outside = query::entry(&Connection::open(file)?, &id("a"))?;
        Ok((query::entry(connection, &id("a"))?.is_some(), outside.is_some()))
    });
    let releasing = async { release.send(()).unwrap() };
    let (_, _, looked, ()) = tokio::join!(blocking, store.finish(&record), looking, releasing);
    assert_eq!(looked.unwrap(), (true, false), "written, but not yet committed");
}

#[tokio::test]
async fn a_write_that_fails_undoes_only_itself() {
    let directory = Directory::new();
    let store = directory.store();
    let (release, released) = std::sync::mpsc::channel();
    let blocking = store.writer.write(move |_| {
        released.recv().unwrap();
        Ok(())
    });
    let row = Row::of(&ended("failed", 0)).unwrap();
    let failing = store.writer.write(move |connection| {
        row.insert(connection)?;
        Err::<(), _>(Error::NotEnded { id: id("failed") })
    });
    let record = ended("a", 0);
    let releasing = async { release.send(()).unwrap() };
    let (_, failed, finished, ()) = tokio::join!(blocking, failing, store.finish(&record), releasing);
    assert!(matches!(failed, Err(Error::NotEnded { .. })));
    finished.unwrap();
    assert_eq!(store.oldest(9).await.unwrap(), [id("a")]);
}

#[tokio::test]
async fn a_full_disk_is_unavailable_until_there_is_room() {
    let directory = Directory::new();
    let store = directory.store();
    store.finish(&ended("before", 0)).await.unwrap();
    let limit_pages = |pages: u32| {
        store.writer.write(move |connection| Ok(connection.pragma_update(None, "max_page_count", pages)?))
    };

    limit_pages(1).await.unwrap(); // not below what the file has
    assert_unavailable(store.finish(&large("large")).await);
    assert!(store.get(&id("before")).await.unwrap().is_some());
    assert_eq!(store.get(&id("large")).await.unwrap(), None);

    limit_pages(1 << 30).await.unwrap();
    store.finish(&large("large")).await.unwrap();
    assert!(store.get(&id("large")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_locked_file_is_unavailable_until_it_is_free() {
    let directory = Directory::new();
    let store = directory.store();
    store.finish(&ended("before", 0)).await.unwrap();
    store.writer.write(|connection| Ok(connection.busy_timeout(Duration::ZERO)?)).await.unwrap();

    let other = Connection::open(directory.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.finish(&ended("after", 0)).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(source) if source.to_string() == "database is locked"), "{error:?}");
    assert!(store.get(&id("before")).await.unwrap().is_some(), "reading needs no lock");
    other.execute_batch("ROLLBACK").unwrap();
    store.finish(&ended("after", 0)).await.unwrap();
}

#[tokio::test]
async fn a_vanished_file_is_unavailable_until_it_is_back() {
    let directory = Directory::new();
    let store = directory.store();
    store.finish(&ended("before", 0)).await.unwrap();
    assert!(store.get(&id("before")).await.unwrap().is_some());

    let aside = directory.0.path().join("aside");
    fs::rename(directory.file(), &aside).unwrap();
    assert_unavailable(store.get(&id("before")).await);
    assert_unavailable(store.finish(&ended("meanwhile", 0)).await);
    assert!(!directory.file().exists(), "an empty history must not take its place");

    // Another inode, as after a way through another file system.
    fs::copy(&aside, directory.file()).unwrap();
    assert!(store.get(&id("before")).await.unwrap().is_some());
    store.finish(&ended("after", 0)).await.unwrap();
    assert_eq!(directory.store().oldest(9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let directory = Directory::new();
    drop(directory.store());
    Connection::open(directory.file()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Embedded::open(directory.0.path()).unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "it has schema version 99, this server knows up to 1");
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let directory = Directory::new();
    let state_dir = directory.0.path().join("new/state");
    let store = Embedded::open(&state_dir).unwrap();
    store.finish(&ended("a", 0)).await.unwrap();
    let mode = |name: &str| fs::metadata(state_dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["", "history.db", "history.db-wal", "history.db-shm"].map(mode), [0o700, 0o600, 0o600, 0o600]);
}

#[test]
fn many_open_a_new_one_at_once() {
    for _ in 0..50 {
        let directory = Directory::new();
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    directory.store()
                });
            }
        });
    }
}

/// What a killed process leaves: the file as of the last checkpoint and a log that may end in the middle of a write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_answered_is_there_after_a_kill_in_mid_write() {
    let directory = Directory::new();
    let store = Arc::new(directory.store());
    store.writer.write(|connection| Ok(connection.pragma_update(None, "wal_autocheckpoint", 0)?)).await.unwrap();
    for round in 0..5 {
        let (answered, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let mut writers = JoinSet::new();
        for writer in 0..8 {
            let (store, answered) = (store.clone(), answered.clone());
            writers.spawn(async move {
                for run in 0..20 {
                    let name = format!("{round}-{writer}-{run}");
                    store.begin(&begun(&name, run)).await.unwrap();
                    store.finish(&ended(&name, run)).await.unwrap();
                    answered.send(name).unwrap();
                }
            });
        }
        let mut names = vec![heard.recv().await.unwrap()];
        heard.recv_many(&mut names, round * 10).await;
        let killed = Directory::new();
        for name in ["history.db", "history.db-wal"] {
            fs::copy(directory.0.path().join(name), killed.0.path().join(name)).unwrap();
        }

        let survivor = killed.store();
        for name in &names {
            let entry = survivor.get(&id(name)).await.unwrap();
            assert!(matches!(entry, Some(Entry::Record(record)) if record.snapshot.outcome.is_some()), "{name}");
        }
        let query = Query { page_size: 10_000, include_unfinished: true, ..Query::default() };
        assert_eq!(survivor.list(&query).await.unwrap().records.corrupt, []);
        writers.join_all().await;
    }
}
