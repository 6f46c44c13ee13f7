//! Figures over many runs: the nouns. Stores compute them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::execution::outcome::Cause;

/// What figures are grouped by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// The name of the command, see [`CommandLine::name`](crate::execution::command::CommandLine::name).
    Command,
    /// The value of this label; runs without it are in no group.
    Label(String),
}

/// Figures over all runs that match, and over their groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Over all of them.
    pub total: Figures,
    /// The [`MAX_GROUPS`] largest groups, largest first, then by key; empty when no grouping was asked for.
    pub groups: Vec<GroupFigures>,
}

/// How many groups are reported at most.
pub const MAX_GROUPS: usize = 100;

/// Figures over one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFigures {
    /// The command name or label value.
    pub key: String,
    /// Its figures.
    pub figures: Figures,
}

/// Figures over some runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Runs.
    pub count: u64,
    /// Of them, successful.
    pub succeeded: u64,
    /// Runs by cause; causes that did not occur are absent.
    pub causes: BTreeMap<Cause, u64>,
    /// How long those ran that started; `None` when none did.
    pub running: Option<Quantiles>,
    /// Bytes written to all channels, kept or not.
    pub output_bytes: u64,
}

/// Durations by nearest rank: `p90` is the shortest duration within which at least 90 of 100 runs were done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// Half.
    pub p50: Duration,
    /// Nine tenths.
    pub p90: Duration,
    /// 99 of 100.
    pub p99: Duration,
    /// All.
    pub max: Duration,
}
