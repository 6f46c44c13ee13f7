//! What lists and figures mean, computed from the records themselves in the plainest way.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::Record;
use crate::history::filter::Filter;
use crate::history::page::PageKey;
use crate::history::stats::{Figures, Group, GroupFigures, MAX_GROUPS, Quantiles, Stats};

pub(super) fn list(records: &[Record], filter: &Filter, include_unfinished: bool) -> Vec<Record> {
    let is_wanted =
        |record: &&Record| (include_unfinished || record.snapshot.outcome.is_some()) && filter.matches(record);
    let mut wanted: Vec<Record> = records.iter().filter(is_wanted).cloned().collect();
    wanted.sort_by_key(|record| Reverse(PageKey::of(&record.snapshot)));
    wanted
}

pub(super) fn stats(records: &[Record], filter: &Filter, group: Option<&Group>) -> Stats {
    let wanted = list(records, filter, false);
    let mut members: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for record in &wanted {
        let command = &record.snapshot.command;
        let key = match group {
            None => None,
            Some(Group::Command) => Some(command.line.name().to_owned()),
            Some(Group::Label(key)) => command.options.labels.get(key).cloned(),
        };
        if let Some(key) = key {
            members.entry(key).or_default().push(record.clone());
        }
    }
    let mut groups: Vec<GroupFigures> =
        members.into_iter().map(|(key, members)| GroupFigures { key, figures: figures(&members) }).collect();
    groups.sort_by_key(|group| Reverse(group.figures.count)); // stable: equal ones stay ordered by key
    groups.truncate(MAX_GROUPS);
    Stats { total: figures(&wanted), groups }
}

fn figures(records: &[Record]) -> Figures {
    let mut figures = Figures { count: records.len() as u64, ..Figures::default() };
    let mut running = Vec::new();
    for record in records {
        let outcome = record.snapshot.outcome.as_ref().expect("only ended runs count");
        figures.succeeded += u64::from(outcome.is_success());
        *figures.causes.entry(outcome.cause).or_default() += 1;
        figures.output_bytes += outcome.channels.iter().map(|channel| channel.bytes_total).sum::<u64>();
        if record.snapshot.started.is_some() {
            running.push(outcome.durations.running);
        }
    }
    running.sort();
    figures.running = running.last().map(|&max| Quantiles {
        p50: nearest_rank(&running, 0.50),
        p90: nearest_rank(&running, 0.90),
        p99: nearest_rank(&running, 0.99),
        max,
    });
    figures
}

fn nearest_rank(sorted: &[Duration], part: f64) -> Duration {
    let within = |duration: &Duration| sorted.iter().filter(|other| *other <= duration).count() as f64;
    *sorted.iter().find(|duration| within(duration) >= part * sorted.len() as f64).expect("all are within the longest")
}
