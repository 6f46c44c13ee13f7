//! Figures over ended runs, counted by the engine. The total is the one group of a constant key.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::types::{Type, Value as SqlValue};
use rusqlite::{Connection, params_from_iter};

use super::selection::Selection;
use crate::execution::outcome::Cause;
use crate::history::Error;
use crate::history::filter::Filter;
use crate::history::stats::{Figures, Group, GroupFigures, MAX_GROUPS, Quantiles, Stats};

/// An SQL expression with its parameter, if it has one.
type Key = (&'static str, Option<SqlValue>);

pub(super) fn stats(connection: &Connection, filter: &Filter, group: Option<&Group>) -> Result<Stats, Error> {
    let total = groups(connection, filter, ("''", None))?.pop().map_or_else(Figures::default, |group| group.figures);
    let groups = match group {
        None => Vec::new(),
        Some(Group::Command) => groups(connection, filter, ("run.command_name", None))?,
        Some(Group::Label(key)) => {
            let value = "(SELECT label.value FROM label WHERE label.number = run.number AND label.key = ?)";
            groups(connection, filter, (value, Some(key.clone().into())))?
        }
    };
    Ok(Stats { total, groups })
}

/// Figures of the largest groups, largest first. Runs without a key are in none.
fn groups(connection: &Connection, filter: &Filter, (key, parameter): Key) -> Result<Vec<GroupFigures>, Error> {
    let selection = Selection::of(filter, false);
    let parameters: Vec<SqlValue> = parameter.into_iter().chain(selection.parameters).collect();
    let chosen = format!(
        "WITH chosen AS NOT MATERIALIZED (
            SELECT {key} AS key, run.cause, run.success, run.duration, run.output_bytes{}
        ), largest AS MATERIALIZED (
            SELECT key, count(*) AS size FROM chosen WHERE key IS NOT NULL
            GROUP BY key ORDER BY size DESC, key LIMIT {MAX_GROUPS}
        )",
        selection.text
    );
    let mut quantiles = quantiles(connection, &chosen, &parameters)?;
    let mut groups = counts(connection, &chosen, &parameters)?;
    for group in &mut groups {
        group.figures.running = quantiles.remove(&group.key);
    }
    Ok(groups)
}

/// Everything but quantiles. Bytes are summed in halves, since SQLite refuses sums beyond 63 bits.
fn counts(connection: &Connection, chosen: &str, parameters: &[SqlValue]) -> Result<Vec<GroupFigures>, Error> {
    let mut statement = connection.prepare(&format!(
        "{chosen} SELECT key, cause, count(*), sum(success), sum(output_bytes >> 32), sum(output_bytes & 0xffffffff)
         FROM largest JOIN chosen USING (key) GROUP BY size, key, cause ORDER BY size DESC, key"
    ))?;
    let mut rows = statement.query(params_from_iter(parameters))?;
    let mut groups: Vec<GroupFigures> = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if groups.last().is_none_or(|last| last.key != key) {
            groups.push(GroupFigures { key, figures: Figures::default() });
        }
        let figures = &mut groups.last_mut().expect("pushed when there was none").figures;
        let (count, high, low): (u64, u64, u64) = (row.get(2)?, row.get(4)?, row.get(5)?);
        figures.count += count;
        figures.succeeded += row.get::<_, u64>(3)?;
        figures.causes.insert(cause(row)?, count);
        let bytes = high.saturating_mul(1 << 32).saturating_add(low);
        figures.output_bytes = figures.output_bytes.saturating_add(bytes);
    }
    Ok(groups)
}

/// Quantiles of every group in which a run started.
fn quantiles(
    connection: &Connection,
    chosen: &str,
    parameters: &[SqlValue],
) -> Result<HashMap<String, Quantiles>, Error> {
    let mut statement = connection.prepare(&format!(
        "{chosen} SELECT key, max(duration) FILTER (WHERE rank = (started * 50 + 99) / 100),
                  max(duration) FILTER (WHERE rank = (started * 90 + 99) / 100),
                  max(duration) FILTER (WHERE rank = (started * 99 + 99) / 100), max(duration)
         FROM (SELECT key, duration, row_number() OVER (PARTITION BY key ORDER BY duration) AS rank,
                      count(*) OVER (PARTITION BY key) AS started
               FROM largest JOIN chosen USING (key) WHERE duration IS NOT NULL)
         GROUP BY key"
    ))?;
    let quantiles = statement.query_map(params_from_iter(parameters), |row| {
        let duration = |index| row.get(index).map(Duration::from_nanos);
        Ok((row.get(0)?, Quantiles { p50: duration(1)?, p90: duration(2)?, p99: duration(3)?, max: duration(4)? }))
    })?;
    Ok(quantiles.collect::<rusqlite::Result<_>>()?)
}

fn cause(row: &rusqlite::Row<'_>) -> rusqlite::Result<Cause> {
    let name: String = row.get(1)?;
    let unknown = || rusqlite::Error::FromSqlConversionFailure(1, Type::Text, format!("no cause is {name}").into());
    Cause::ALL.into_iter().find(|cause| cause.name() == name).ok_or_else(unknown)
}
