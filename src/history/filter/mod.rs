//! Filters: which runs are wanted, in the language of `ListRecordsRequest.filter`.
//!
//! The meaning is defined here, by [`Filter::matches_snapshot`]; stores translate [`Expression`]s and must agree with it.
//! What a run does not have (an exit code, a label) fits no test but `!=`, and logic has two values: `x != 1` is exactly
//! `NOT x = 1`.
//!
//! AND and OR cannot be mixed without parentheses: AIP-160 and SQL disagree about which of them binds tighter, and a
//! caller who guessed wrong would silently get other runs.

mod column;
mod parse;

use std::fmt;
use std::str::FromStr;

pub use column::{Column, Value};
pub use parse::{FilterError, MAX_BYTES, MAX_DEPTH};

use super::Record;
use crate::execution::Snapshot;

/// Which runs are wanted. Default: all.
///
/// `Display` writes the canonical form, which parses to an equal filter unless spelling it out made it too long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter(Option<Expression>);

/// What a filter asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Every one holds: two or more, none of them `All`.
    All(Vec<Expression>),
    /// At least one holds: two or more, none of them `Any`.
    Any(Vec<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
    /// One test.
    Term(Term),
}

/// A test of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What is tested.
    pub column: Column,
    /// How.
    pub test: Test,
}

/// How a column is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// Against a value of the column's kind; names and flags only for (in)equality.
    Compare(Operator, Value),
    /// Whether this is a part of the text.
    Contains(String),
    /// Whether there is a value.
    Present,
}

/// A comparison. Text compares by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Filter {
    /// Reads a filter; an empty one matches all.
    ///
    /// # Errors
    /// Says what is wrong, where, and what would fit. Any text is safe to pass.
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        parse::filter(text).map(Filter)
    }

    /// What it asks for; `None` when it matches all.
    #[must_use]
    pub fn expression(&self) -> Option<&Expression> {
        self.0.as_ref()
    }

    /// Whether the record is wanted.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        self.matches_snapshot(&record.snapshot)
    }

    /// Whether the run is wanted, live or not.
    #[must_use]
    pub fn matches_snapshot(&self, run: &Snapshot) -> bool {
        self.0.as_ref().is_none_or(|expression| expression.matches(run))
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Filter, FilterError> {
        Filter::parse(text)
    }
}

impl Expression {
    /// All of these (at least one), flattened.
    fn all(parts: Vec<Expression>) -> Expression {
        let flat = parts.into_iter().flat_map(|part| match part {
            Expression::All(inner) => inner,
            other => vec![other],
        });
        Expression::joined(flat.collect(), Expression::All)
    }

    /// Any of these (at least one), flattened.
    fn any(parts: Vec<Expression>) -> Expression {
        let flat = parts.into_iter().flat_map(|part| match part {
            Expression::Any(inner) => inner,
            other => vec![other],
        });
        Expression::joined(flat.collect(), Expression::Any)
    }

    fn joined(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                join(parts)
            }
        }
    }

    fn matches(&self, run: &Snapshot) -> bool {
        match self {
            Expression::All(parts) => parts.iter().all(|part| part.matches(run)),
            Expression::Any(parts) => parts.iter().any(|part| part.matches(run)),
            Expression::Not(inner) => !inner.matches(run),
            Expression::Term(term) => term.matches(run),
        }
    }
}

impl Term {
    fn matches(&self, run: &Snapshot) -> bool {
        let found = self.column.of(run);
        match &self.test {
            Test::Present => found.is_some(),
            Test::Contains(part) => matches!(found, Some(Value::Text(text)) if text.contains(part)),
            Test::Compare(Operator::NotEqual, value) => found.as_ref() != Some(value),
            Test::Compare(operator, value) => found.is_some_and(|found| operator.holds(&found, value)),
        }
    }
}

impl Operator {
    fn holds(self, left: &Value, right: &Value) -> bool {
        match self {
            Operator::Equal => left == right,
            Operator::NotEqual => left != right,
            Operator::Less => left < right,
            Operator::LessOrEqual => left <= right,
            Operator::Greater => left > right,
            Operator::GreaterOrEqual => left >= right,
        }
    }

    pub(crate) fn is_equality(self) -> bool {
        matches!(self, Operator::Equal | Operator::NotEqual)
    }

    /// How it is written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |expression| expression.fmt(f))
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, between) = match self {
            Expression::Term(term) => return term.fmt(f),
            Expression::Not(inner) => return write!(f, "NOT {}", Part(inner)),
            Expression::All(parts) => (parts, " AND "),
            Expression::Any(parts) => (parts, " OR "),
        };
        for (index, part) in parts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { between })?;
            Part(part).fmt(f)?;
        }
        Ok(())
    }
}

/// An expression inside another one.
struct Part<'a>(&'a Expression);

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expression::All(_) | Expression::Any(_) => write!(f, "({})", self.0),
            Expression::Not(_) | Expression::Term(_) => self.0.fmt(f),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.test {
            Test::Present => write!(f, "{}:*", self.column),
            Test::Contains(part) => write!(f, "{}:{}", self.column, column::Quoted(part)),
            Test::Compare(operator, value) => write!(f, "{} {} {value}", self.column, operator.symbol()),
        }
    }
}

#[cfg(test)]
mod tests;
