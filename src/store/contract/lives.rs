//! The life of single records: claimed, ended, deleted, damaged, expired.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Bench, id, ids, known, list_all};
use crate::execution::outcome::{Cause, Ending};
use crate::history::sample::{begun, end, ended, instant};
use crate::history::{Claim, Deletion, Entry, Error, Query};

const BY_CALLER: Deletion = Deletion::ByCaller { time: jiff::Timestamp::UNIX_EPOCH };

pub(in crate::store) async fn one_of_many_claims_wins(bench: &impl Bench) {
    let handles = [bench.open(), bench.open()];
    let mut claims = JoinSet::new();
    for claimer in 0..100_usize {
        let history = handles[claimer % 2].clone();
        let mut record = begun(&format!("run-{}", claimer % 5), 0);
        record.instance = claimer.to_string();
        claims.spawn(async move { (history.begin(&record).await.unwrap(), record) });
    }
    let claims = claims.join_all().await;
    for name in 0..5 {
        let name = id(&format!("run-{name}"));
        let (won, lost): (Vec<_>, Vec<_>) =
            claims.iter().filter(|(_, record)| record.snapshot.id == name).partition(|(claim, _)| *claim == Claim::New);
        let [(_, winner)] = won.as_slice() else { panic!("{} claims of {name} won", won.len()) };
        assert_eq!(lost.len(), 19);
        assert!(lost.iter().all(|(claim, _)| *claim == Claim::Exists(Entry::Record(Box::new(winner.clone())))));
        assert_eq!(handles[0].get(&name).await.unwrap(), known(winner));
    }
}

pub(in crate::store) async fn a_claim_tells_who_was_first(bench: &impl Bench) {
    let history = bench.open();
    let first = ended("a", 0);
    history.finish(&first).await.unwrap();
    assert_eq!(history.begin(&begun("a", 5)).await.unwrap(), Claim::Exists(Entry::Record(Box::new(first))));
    assert_eq!(history.get(&id("b")).await.unwrap(), None);
}

pub(in crate::store) async fn an_end_replaces_the_beginning(bench: &impl Bench) {
    let history = bench.open();
    history.begin(&begun("a", 0)).await.unwrap();
    assert_eq!(ids(&history.unfinished().await.unwrap().sound), ["a"]);
    assert_eq!(list_all(&*history, Query { page_size: 9, ..Query::default() }).await, []);

    history.finish(&ended("a", 0)).await.unwrap();
    assert_eq!(history.unfinished().await.unwrap().sound, []);
    assert_eq!(history.get(&id("a")).await.unwrap(), known(&ended("a", 0)));
    assert_eq!(list_all(&*history, Query { page_size: 9, ..Query::default() }).await, [ended("a", 0)]);
}

pub(in crate::store) async fn a_run_ends_once(bench: &impl Bench) {
    let history = bench.open();
    let first = ended("a", 0);
    let second = end(begun("a", 0), Ending::Exited(1), Cause::Cancelled, Duration::ZERO, 0);
    for record in [&first, &first, &second] {
        history.finish(record).await.unwrap();
        assert_eq!(history.get(&id("a")).await.unwrap(), known(&first));
    }
    assert_eq!(history.stats(&"".parse().unwrap(), None).await.unwrap().total.count, 1);
}

pub(in crate::store) async fn an_end_needs_an_outcome(bench: &impl Bench) {
    let history = bench.open();
    assert!(matches!(history.finish(&begun("a", 0)).await, Err(Error::NotEnded { .. })));
    assert_eq!(history.get(&id("a")).await.unwrap(), None);
}

pub(in crate::store) async fn everything_survives_a_restart(bench: &impl Bench) {
    let history = bench.open();
    history.begin(&begun("ended", 1)).await.unwrap();
    history.finish(&ended("ended", 1)).await.unwrap();
    let mut other = begun("of-another-instance", 3);
    other.instance = "another".to_owned();
    history.begin(&other).await.unwrap();
    history.begin(&begun("unfinished", 2)).await.unwrap();
    history.finish(&ended("deleted", 4)).await.unwrap();
    history.delete(&id("deleted"), BY_CALLER).await.unwrap();
    drop(history);

    let history = bench.open();
    assert_eq!(history.get(&id("ended")).await.unwrap(), known(&ended("ended", 1)));
    assert_eq!(history.unfinished().await.unwrap().sound, [begun("unfinished", 2), other]);
    assert!(matches!(history.get(&id("deleted")).await.unwrap(), Some(Entry::Deleted { .. })));
}

pub(in crate::store) async fn a_deletion_by_a_caller_keeps_the_id_taken(bench: &impl Bench) {
    let history = bench.open();
    history.finish(&ended("a", 0)).await.unwrap();
    assert!(history.delete(&id("a"), Deletion::ByCaller { time: instant(9) }).await.unwrap());

    let mark = Entry::Deleted { spec_sha256: [7; 32], time: instant(9) };
    assert_eq!(history.get(&id("a")).await.unwrap(), Some(mark.clone()));
    assert_eq!(history.begin(&begun("a", 0)).await.unwrap(), Claim::Exists(mark.clone()));
    assert_eq!(list_all(&*history, Query { page_size: 9, ..Query::default() }).await, []);

    assert!(!history.delete(&id("a"), BY_CALLER).await.unwrap());
    assert!(!history.delete(&id("a"), Deletion::ByRetention).await.unwrap());
    history.finish(&ended("a", 0)).await.unwrap();
    assert_eq!(history.get(&id("a")).await.unwrap(), Some(mark), "a late repeat must not raise the dead");
}

pub(in crate::store) async fn a_deletion_by_retention_leaves_nothing(bench: &impl Bench) {
    let history = bench.open();
    let mut record = ended("a", 0);
    record.snapshot.command.options.labels = crate::history::sample::labels("team", "web");
    history.finish(&record).await.unwrap();
    assert!(history.delete(&id("a"), Deletion::ByRetention).await.unwrap());
    assert_eq!(history.get(&id("a")).await.unwrap(), None);
    assert!(!history.delete(&id("a"), Deletion::ByRetention).await.unwrap());
    assert_eq!(history.begin(&begun("a", 0)).await.unwrap(), Claim::New);

    let query = Query { filter: "labels.team = web".parse().unwrap(), page_size: 9, ..Query::default() };
    assert_eq!(list_all(&*history, Query { include_unfinished: true, ..query }).await, []);
}

pub(in crate::store) async fn a_run_that_has_not_ended_is_not_deleted(bench: &impl Bench) {
    let history = bench.open();
    history.begin(&begun("a", 0)).await.unwrap();
    for how in [Deletion::ByRetention, BY_CALLER] {
        assert!(matches!(history.delete(&id("a"), how).await, Err(Error::NotEnded { .. })));
        assert_eq!(history.get(&id("a")).await.unwrap(), known(&begun("a", 0)));
    }
}

pub(in crate::store) async fn a_damaged_record_is_reported_and_can_be_deleted(bench: &impl Bench) {
    let history = bench.open();
    for (name, created) in [("old", 0), ("damaged", 1), ("new", 2)] {
        history.finish(&ended(name, created)).await.unwrap();
    }
    bench.damage(&id("damaged"));

    assert!(
        matches!(history.get(&id("damaged")).await, Err(Error::Corrupt { id: found, .. }) if found == id("damaged"))
    );
    assert!(matches!(history.begin(&begun("damaged", 1)).await, Err(Error::Corrupt { .. })));
    let page = history.list(&Query { page_size: 2, ..Query::default() }).await.unwrap();
    assert_eq!(page.records.corrupt, [id("damaged")]);
    assert_eq!(ids(&page.records.sound), ["new"]);
    let page = history.list(&Query { page_size: 2, after: page.next, ..Query::default() }).await.unwrap();
    assert_eq!(ids(&page.records.sound), ["old"]);

    assert!(history.delete(&id("damaged"), Deletion::ByRetention).await.unwrap());
    assert_eq!(history.get(&id("damaged")).await.unwrap(), None);
}

pub(in crate::store) async fn a_damaged_beginning_can_end_or_be_deleted(bench: &impl Bench) {
    let history = bench.open();
    for name in ["a", "b"] {
        history.begin(&begun(name, 0)).await.unwrap();
        bench.damage(&id(name));
    }
    assert_eq!(history.unfinished().await.unwrap().corrupt, [id("a"), id("b")]);
    history.finish(&ended("a", 0)).await.unwrap();
    assert_eq!(history.get(&id("a")).await.unwrap(), known(&ended("a", 0)));
    assert!(history.delete(&id("b"), BY_CALLER).await.unwrap());
    assert!(
        matches!(history.get(&id("b")).await.unwrap(), Some(Entry::Deleted { spec_sha256, .. }) if spec_sha256 == [7; 32])
    );
}

pub(in crate::store) async fn expired_and_oldest_runs_are_found_in_order(bench: &impl Bench) {
    let history = bench.open();
    for (name, completed, expires) in [("c", 30, Some(5)), ("a", 10, Some(7)), ("b", 20, None), ("d", 40, Some(9))] {
        let mut record = ended(name, 0);
        record.snapshot.completed = Some(instant(completed));
        record.expires = expires.map(instant);
        history.finish(&record).await.unwrap();
    }
    let mut unfinished = begun("unfinished", 0);
    unfinished.expires = Some(instant(0));
    history.begin(&unfinished).await.unwrap();

    assert_eq!(history.expired(instant(4), 9).await.unwrap(), []);
    assert_eq!(history.expired(instant(7), 9).await.unwrap(), [id("c"), id("a")]);
    assert_eq!(history.expired(instant(99), 2).await.unwrap(), [id("c"), id("a")]);
    assert_eq!(history.oldest(3).await.unwrap(), [id("a"), id("b"), id("c")]);
    assert_eq!(history.oldest(9).await.unwrap().len(), 4);
}

pub(in crate::store) async fn many_writers_lose_nothing(bench: &impl Bench) {
    const WRITERS: i64 = 20;
    const RUNS: i64 = 500;
    let handles = [bench.open(), bench.open()];
    let mut writers = JoinSet::new();
    for (writer, history) in (0..WRITERS).zip(handles.iter().cycle().cloned()) {
        writers.spawn(async move {
            for run in 0..RUNS {
                let name = format!("{writer}-{run}");
                assert_eq!(history.begin(&begun(&name, run)).await.unwrap(), Claim::New);
                history.finish(&ended(&name, run)).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    drop(handles);

    let found = list_all(&*bench.open(), Query { page_size: 1000, ..Query::default() }).await;
    let names: BTreeSet<String> = ids(&found).into_iter().collect();
    assert_eq!((found.len(), names.len()), (10_000, 10_000));
    assert!(found.is_sorted_by(|a, b| a.snapshot.created >= b.snapshot.created));
}
