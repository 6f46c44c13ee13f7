//! Figures over ended runs, in one walk over those that match.
//!
//! The engine finds the runs and the largest groups. The ranks are taken here: sorting a million rows in the engine
//! takes many times as long as picking four out of eight megabytes of durations.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::types::{Type, Value as SqlValue};
use rusqlite::{Connection, Row, params_from_iter};

use super::selection::Selection;
use crate::execution::outcome::Cause;
use crate::history::Error;
use crate::history::filter::Filter;
use crate::history::stats::{Figures, Group, GroupFigures, MAX_GROUPS, Quantiles, Stats};

/// What is counted so far.
#[derive(Default)]
struct Tally {
    figures: Figures,
    /// Nanoseconds, in any order.
    durations: Vec<u64>,
}

/// What one run adds.
struct Addition {
    cause: Cause,
    is_success: bool,
    output_bytes: u64,
    duration: Option<u64>,
}

pub(super) fn stats(connection: &Connection, filter: &Filter, group: Option<&Group>) -> Result<Stats, Error> {
    let (key, parameter) = match group {
        None => ("NULL", None),
        Some(Group::Command) => ("run.command_name", None),
        Some(Group::Label(key)) => {
            let value = "(SELECT label.value FROM label WHERE label.number = run.number AND label.key = ?)";
            (value, Some(SqlValue::from(key.clone())))
        }
    };
    let Selection { text, parameters, .. } = Selection::of(filter, false);
    let parameters: Vec<SqlValue> = parameter.into_iter().chain(parameters).collect();

    let largest = match group {
        None => Vec::new(),
        Some(_) => largest(connection, &format!("SELECT {key} AS key{text}"), &parameters)?,
    };
    let places: HashMap<&str, usize> = largest.iter().enumerate().map(|(place, key)| (key.as_str(), place)).collect();
    let mut total = Tally::default();
    let mut tallies: Vec<Tally> = largest.iter().map(|_| Tally::default()).collect();

    let mut statement =
        connection.prepare(&format!("SELECT {key}, run.cause, run.success, run.output_bytes, run.duration{text}"))?;
    let mut rows = statement.query(params_from_iter(&parameters))?;
    while let Some(row) = rows.next()? {
        let addition = Addition::of(row)?;
        let key = row.get_ref(0)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        if let Some(&place) = key.and_then(|key| places.get(key)) {
            tallies[place].add(&addition);
        }
        total.add(&addition);
    }

    let figures = tallies.into_iter().map(Tally::figures);
    let groups = largest.iter().cloned().zip(figures).map(|(key, figures)| GroupFigures { key, figures }).collect();
    Ok(Stats { total: total.figures(), groups })
}

/// The keys of the largest groups, largest first. Runs without a key are in none.
fn largest(connection: &Connection, keys: &str, parameters: &[SqlValue]) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!(
        "SELECT key FROM ({keys}) WHERE key IS NOT NULL GROUP BY key ORDER BY count(*) DESC, key LIMIT {MAX_GROUPS}"
    ))?;
    statement.query_map(params_from_iter(parameters), |row| row.get(0))?.collect()
}

impl Addition {
    fn of(row: &Row<'_>) -> rusqlite::Result<Addition> {
        let name = row.get_ref(1)?.as_str()?;
        let unknown = || rusqlite::Error::FromSqlConversionFailure(1, Type::Text, format!("no cause is {name}").into());
        let cause = Cause::ALL.into_iter().find(|cause| cause.name() == name).ok_or_else(unknown)?;
        Ok(Addition { cause, is_success: row.get(2)?, output_bytes: row.get(3)?, duration: row.get(4)? })
    }
}

impl Tally {
    fn add(&mut self, run: &Addition) {
        self.figures.count += 1;
        self.figures.succeeded += u64::from(run.is_success);
        *self.figures.causes.entry(run.cause).or_default() += 1;
        self.figures.output_bytes = self.figures.output_bytes.saturating_add(run.output_bytes);
        self.durations.extend(run.duration);
    }

    fn figures(mut self) -> Figures {
        let max = self.durations.iter().max().copied();
        let mut within = |percent| Duration::from_nanos(nearest_rank(&mut self.durations, percent));
        self.figures.running = max.map(|max| Quantiles {
            p50: within(50),
            p90: within(90),
            p99: within(99),
            max: Duration::from_nanos(max),
        });
        self.figures
    }
}

/// The smallest of the values, of which there is at least one, that so many percent do not exceed.
fn nearest_rank(values: &mut [u64], percent: usize) -> u64 {
    let rank = (values.len() * percent).div_ceil(100);
    *values.select_nth_unstable(rank - 1).1
}
