//! Lists and figures: complete, in order, and as filters mean them.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Bench, id, ids, known, list_all, naive};
use crate::execution::outcome::{Cause, Ending};
use crate::history::filter::{Filter, MAX_BYTES};
use crate::history::sample::{self, KEYS, begun, end, ended};
use crate::history::stats::{Group, MAX_GROUPS};
use crate::history::{History, Query, Record};

pub(in crate::store) async fn pages_are_complete_while_others_insert(bench: &impl Bench) {
    let history = bench.open();
    for run in 0..20 {
        history.finish(&ended(&format!("run-{run}"), run)).await.unwrap();
    }
    let mut query = Query { page_size: 3, ..Query::default() };
    let mut found = Vec::new();
    for round in 0.. {
        let page = history.list(&query).await.unwrap();
        found.extend(ids(&page.records.sound));
        let Some(next) = page.next else { break };
        query.after = Some(next);
        history.finish(&ended(&format!("new-{round}"), 100 + round)).await.unwrap();
    }
    let expected: Vec<String> = (0..20).rev().map(|run| format!("run-{run}")).collect();
    assert_eq!(found, expected);
}

pub(in crate::store) async fn runs_of_one_instant_are_paged_by_id(bench: &impl Bench) {
    let history = bench.open();
    for name in ["b", "a.", "c", "a", "B"] {
        history.finish(&ended(name, 0)).await.unwrap();
    }
    let query = Query { page_size: 2, ..Query::default() };
    assert_eq!(ids(&list_all(&*history, query).await), ["c", "b", "a.", "a", "B"]);
}

pub(in crate::store) async fn an_empty_page_leads_nowhere(bench: &impl Bench) {
    let history = bench.open();
    history.finish(&ended("a", 0)).await.unwrap();
    let nothing = history.list(&Query::default()).await.unwrap();
    assert_eq!((nothing.records.sound, nothing.next), (vec![], None));
    let exactly = history.list(&Query { page_size: 1, ..Query::default() }).await.unwrap();
    assert_eq!((ids(&exactly.records.sound), exactly.next), (vec!["a".to_owned()], None));
}

pub(in crate::store) async fn the_longest_filters_work(bench: &impl Bench) {
    let history = bench.open();
    history.finish(&ended("a", 0)).await.unwrap();
    for (term, between) in [("-user:a", " "), ("-labels.a:b", " "), ("user:a", " OR "), ("labels.a:b", " OR ")] {
        let count = MAX_BYTES / (term.len() + between.len());
        let filter: Filter = vec![term; count].join(between).parse().unwrap();
        let expected = naive::list(&[ended("a", 0)], &filter, false);
        assert_eq!(list_all(&*history, Query { filter, page_size: 9, ..Query::default() }).await, expected);
    }
}

pub(in crate::store) async fn large_sums_do_not_overflow(bench: &impl Bench) {
    let history = bench.open();
    let bytes = i64::MAX as u64;
    for name in ["a", "b"] {
        let mut record = end(begun(name, 0), Ending::Exited(0), Cause::Exited, Duration::ZERO, bytes);
        record.snapshot.outcome.as_mut().unwrap().durations.running = Duration::MAX;
        history.finish(&record).await.unwrap();
    }
    let total = history.stats(&Filter::default(), None).await.unwrap().total;
    assert_eq!(total.output_bytes, 2 * bytes);
    assert_eq!(total.running.unwrap().max, Duration::from_nanos(i64::MAX as u64));
}

pub(in crate::store) async fn only_the_largest_groups_are_reported(bench: &impl Bench) {
    let history = bench.open();
    for run in 0..=MAX_GROUPS {
        let mut record = ended(&format!("run-{run}"), 0);
        record.snapshot.command.options.labels = sample::labels("team", &format!("{run:03}"));
        history.finish(&record).await.unwrap();
    }
    let mut record = ended("one-more", 0);
    record.snapshot.command.options.labels = sample::labels("team", "100");
    history.finish(&record).await.unwrap();

    let stats = history.stats(&Filter::default(), Some(&Group::Label("team".to_owned()))).await.unwrap();
    let keys: Vec<&str> = stats.groups.iter().map(|group| group.key.as_str()).collect();
    assert_eq!((keys.len(), keys[0], keys[1], keys[99]), (MAX_GROUPS, "100", "000", "098"));
    assert_eq!((stats.groups[0].figures.count, stats.total.count), (2, 102));
}

pub(in crate::store) fn arbitrary_records_filters_and_figures_agree_with_their_meaning<B: Bench>() {
    const RECORDS: usize = 30;
    let records: Vec<_> = (0..RECORDS).map(|run| sample::record(format!("run-{run}"))).collect();
    let filters = proptest::collection::vec(sample::filter(), 20);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    TestRunner::new(Config { failure_persistence: None, cases: 16, ..Config::default() })
        .run(&(records, filters), |(records, filters)| {
            let records: BTreeMap<String, Record> =
                records.into_iter().map(|record| (record.snapshot.id.to_string(), record)).collect();
            runtime.block_on(agree(&B::new(), &records.into_values().collect::<Vec<_>>(), &filters))
        })
        .unwrap();
}

async fn agree(bench: &impl Bench, records: &[Record], filters: &[Filter]) -> Result<(), TestCaseError> {
    let history = bench.open();
    for record in records {
        match record.snapshot.outcome {
            Some(_) => history.finish(record).await.unwrap(),
            None => drop(history.begin(record).await.unwrap()),
        }
        prop_assert_eq!(history.get(&id(record.snapshot.id.as_str())).await.unwrap(), known(record));
    }
    for filter in filters {
        agree_on(&*history, records, filter).await?;
    }
    Ok(())
}

async fn agree_on(history: &dyn History, records: &[Record], filter: &Filter) -> Result<(), TestCaseError> {
    for include_unfinished in [false, true] {
        let query = Query { filter: filter.clone(), page_size: 7, after: None, include_unfinished };
        let expected = naive::list(records, filter, include_unfinished);
        prop_assert_eq!(ids(&list_all(history, query).await), ids(&expected), "{}", filter);
    }
    for group in [None, Some(Group::Command), Some(Group::Label(KEYS[0].to_owned()))] {
        let found = history.stats(filter, group.as_ref()).await.unwrap();
        prop_assert_eq!(found, naive::stats(records, filter, group.as_ref()), "{} by {:?}", filter, group);
    }
    Ok(())
}
