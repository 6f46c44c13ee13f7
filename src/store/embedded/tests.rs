use std::error::Error as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rusqlite::{Connection, params_from_iter};
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
    assert_unavailable(store.finish(&ended("after", 0)).await);
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

#[test]
fn many_open_a_new_one_at_once() {
    let directory = Directory::new();
    std::thread::scope(|scope| {
        let opening: Vec<_> = (0..8).map(|_| scope.spawn(|| directory.store())).collect();
        opening.into_iter().for_each(|opening| drop(opening.join().unwrap()));
    });
}

/// What a killed process leaves: the file as of the last checkpoint and a log that may end in the middle of a write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_answered_is_there_after_a_kill_in_mid_write() {
    let directory = Directory::new();
    let store = Arc::new(directory.store());
    store.writer.write(|connection| Ok(connection.pragma_update(None, "wal_autocheckpoint", 0)?)).await.unwrap();
    for round in 0..10 {
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

/// How the engine finds the runs of a page, one step a line.
fn plan(connection: &Connection, filter: &str, after: Option<crate::history::page::PageKey>) -> String {
    let query = Query { filter: filter.parse().unwrap(), page_size: 50, after, include_unfinished: false };
    let selection = query::page_selection(&query);
    let statement = format!("EXPLAIN QUERY PLAN SELECT run.number{}", selection.text);
    let mut statement = connection.prepare(&statement).unwrap();
    let steps = statement.query_map(params_from_iter(selection.parameters), |row| row.get::<_, String>("detail"));
    steps.unwrap().collect::<Result<Vec<_>, _>>().unwrap().join("\n")
}

#[test]
fn common_pages_are_read_off_an_index_without_sorting() {
    let directory = Directory::new();
    drop(directory.store());
    let connection = Connection::open(directory.file()).unwrap();
    let key = crate::history::page::PageKey::of(&begun("a", 0).snapshot);
    for after in [None, Some(key)] {
        for (filter, index) in [
            ("", "run USING INDEX run_by_creation"),
            ("success = false", "run USING INDEX run_by_creation"),
            ("create_time > 2026-01-01T00:00:00Z", "run USING INDEX run_by_creation"),
            ("cause = RUN_TIMEOUT", "run USING INDEX run_by_cause"),
            ("cause = RUN_TIMEOUT AND labels.team = web", "run USING INDEX run_by_cause"),
            ("command = \"make test\" AND labels.team = web", "run USING INDEX run_by_command"),
            ("labels.team = web AND duration > 10s", "lead USING PRIMARY KEY"),
            ("labels.team = web AND cause = EXITED", "lead USING PRIMARY KEY"),
        ] {
            let plan = plan(&connection, filter, after.clone());
            let first = plan.lines().next().unwrap().replace("COVERING ", "");
            assert!(first.contains(index), "{filter}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{filter}: {plan}");
        }
    }
}

#[tokio::test]
#[ignore = "writes a million records; run it in a release build after changes of schema or queries"]
async fn a_million_records_stay_quick() {
    let directory = Directory::new();
    let store = directory.store();
    let start = Instant::now();
    for chunk in 0..100 {
        let rows = (0..10_000).map(|run| Row::of(&various(chunk * 10_000 + run)).unwrap()).collect::<Vec<_>>();
        store
            .writer
            .write(move |connection| Ok(rows.iter().try_for_each(|row| row.insert(connection))?))
            .await
            .unwrap();
    }
    println!("written in {:?}, {} bytes", start.elapsed(), fs::metadata(directory.file()).unwrap().len());

    for filter in [
        "",
        "cause = RUN_TIMEOUT",
        "labels.team = team-7",
        "labels.team = nobody",
        "cause = RUN_TIMEOUT AND labels.team = team-7 AND duration > 10s",
        "command = \"tool-77 build\"",
        "execution_id = run-4711",
        "success = false",
        "create_time < 2023-11-14T22:20:00Z",
    ] {
        let query = Query { filter: filter.parse().unwrap(), page_size: 50, ..Query::default() };
        let first = store.list(&query).await.unwrap(); // warms up
        let start = Instant::now();
        store.list(&query).await.unwrap();
        let elapsed = start.elapsed();
        println!("{elapsed:>12.2?}  {:>2} found  {filter}", first.records.sound.len());
        assert!(elapsed < Duration::from_millis(50), "{filter}: {elapsed:?}");
    }
    for filter in ["", "labels.team = team-7", "command:\"no such thing\""] {
        for group in [None, Some(Group::Command), Some(Group::Label("team".to_owned()))] {
            let start = Instant::now();
            store.stats(&filter.parse().unwrap(), group.as_ref()).await.unwrap();
            println!("{:>12.2?}  stats by {group:?} of {filter}", start.elapsed());
        }
    }
}

fn various(run: i64) -> Record {
    use crate::execution::command::CommandLine;
    let mut record = ended(&format!("run-{run}"), run * 1_000_000);
    let program = format!("tool-{}", run % 100);
    record.snapshot.command.line = CommandLine::Argv { program, args: vec!["build".to_owned()] };
    record.snapshot.command.options.labels = crate::history::sample::labels("team", &format!("team-{}", run % 13));
    let outcome = record.snapshot.outcome.as_mut().unwrap();
    outcome.durations.running = Duration::from_millis((run * 7919 % 100_000) as u64);
    if run % 100 == 99 {
        outcome.cause = crate::execution::outcome::Cause::RunTimeout;
    }
    record
}
