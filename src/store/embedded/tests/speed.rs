//! Whether a history stays quick when it is large.

use std::time::Instant;

use rusqlite::params_from_iter;

use super::*;
use crate::execution::command::CommandLine;
use crate::execution::outcome::Cause;
use crate::history::page::PageKey;
use crate::history::sample::labels;

/// How the engine finds the runs of a page, one step a line.
fn plan(connection: &Connection, filter: &str, after: Option<PageKey>) -> String {
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
    let key = PageKey::of(&begun("a", 0).snapshot);
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
            let elapsed = start.elapsed();
            println!("{elapsed:>12.2?}  stats by {group:?} of {filter}");
            assert!(elapsed < Duration::from_secs(10), "{filter}: {elapsed:?}");
        }
    }
}

fn various(run: i64) -> Record {
    let mut record = ended(&format!("run-{run}"), run * 1_000_000);
    let program = format!("tool-{}", run % 100);
    record.snapshot.command.line = CommandLine::Argv { program, args: vec!["build".to_owned()] };
    record.snapshot.command.options.labels = labels("team", &format!("team-{}", run % 13));
    let outcome = record.snapshot.outcome.as_mut().unwrap();
    outcome.durations.running = Duration::from_millis((run * 7919 % 100_000) as u64);
    if run % 100 == 99 {
        outcome.cause = Cause::RunTimeout;
    }
    record
}
