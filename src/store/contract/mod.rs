//! The suite every history must pass: what the port promises, told as tests over any store that offers a [`Bench`].

mod lists;
mod lives;
mod naive;

use std::sync::Arc;

use crate::execution::ExecutionId;
use crate::history::{Entry, History, Query, Record};

pub(super) use lists::*;
pub(super) use lives::*;

/// A place with one history, empty at first, removed when dropped.
pub(super) trait Bench {
    /// Makes one.
    fn new() -> Self;
    /// Another handle, as another process or a restarted one would get it.
    fn open(&self) -> Arc<dyn History>;
    /// Changes a byte of what is stored for this run.
    fn damage(&self, id: &ExecutionId);
}

/// Runs the suite in the module where it stands.
macro_rules! contract {
    ($bench:ty) => {
        contract! { $bench:
            one_of_many_claims_wins
            a_claim_tells_who_was_first
            an_end_replaces_the_beginning
            a_run_ends_once
            an_end_needs_an_outcome
            everything_survives_a_restart
            a_deletion_by_a_caller_keeps_the_id_taken
            a_deletion_by_retention_leaves_nothing
            a_run_that_has_not_ended_is_not_deleted
            a_damaged_record_is_reported_and_can_be_deleted
            a_damaged_beginning_can_end_or_be_deleted
            expired_and_oldest_runs_are_found_in_order
            many_writers_lose_nothing
            pages_are_complete_while_others_insert
            runs_of_one_instant_are_paged_by_id
            an_empty_page_leads_nowhere
            the_longest_filters_work
            large_sums_do_not_overflow
            only_the_largest_groups_are_reported
        }

        #[test]
        fn arbitrary_records_filters_and_figures_agree_with_their_meaning() {
            $crate::store::contract::arbitrary_records_filters_and_figures_agree_with_their_meaning::<$bench>();
        }
    };
    ($bench:ty: $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let bench = <$bench as $crate::store::contract::Bench>::new();
                $crate::store::contract::$name(&bench).await;
            }
        )*
    };
}
pub(super) use contract;

fn id(text: &str) -> ExecutionId {
    text.parse().expect("a valid id")
}

fn ids(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.snapshot.id.to_string()).collect()
}

fn known(record: &Record) -> Option<Entry> {
    Some(Entry::Record(Box::new(record.clone())))
}

/// Every record that matches, page by page.
async fn list_all(history: &dyn History, mut query: Query) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let page = history.list(&query).await.unwrap();
        assert!(page.records.sound.len() <= query.page_size);
        records.extend(page.records.sound);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return records,
        }
    }
}
