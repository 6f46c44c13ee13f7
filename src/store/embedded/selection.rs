//! A filter as SQL: where matching runs come from. Values are always bound, never pasted.
//!
//! SQL knows a third truth value for what is absent. It counts as false at the top, and AND and OR keep it so; only a
//! negation would turn it around, and is therefore written `IS NOT TRUE`.

use rusqlite::types::Value as SqlValue;

use super::row::sql_value;
use crate::execution::outcome::Cause;
use crate::history::filter::{Column, Expression, Filter, Operator, Term, Test, Value};

/// `FROM … WHERE …` for some runs, to put between other parts of a statement.
#[derive(Debug)]
pub(super) struct Selection {
    /// Ends inside the condition: ` AND …` may follow.
    pub(super) text: String,
    /// For the placeholders in `text`, in order.
    pub(super) parameters: Vec<SqlValue>,
    /// The table whose `create_time` and `execution_id` give pages in order without sorting.
    pub(super) sorted_by: &'static str,
}

impl Selection {
    /// The runs that match, those that have not ended only if `include_unfinished`.
    pub(super) fn of(filter: &Filter, include_unfinished: bool) -> Selection {
        let mut selection = Selection { text: String::new(), parameters: Vec::new(), sorted_by: "run" };
        if let Some((key, value)) = filter.expression().and_then(leading_label) {
            selection.sorted_by = "lead";
            // CROSS JOIN keeps the order in which the tables are named.
            selection.push(" FROM label AS lead CROSS JOIN run ON run.number = lead.number");
            selection.push(" WHERE lead.key = ").bind(key.to_owned());
            selection.push(" AND lead.value = ").bind(value.to_owned());
        } else {
            selection.push(" FROM run WHERE TRUE");
        }
        if !include_unfinished {
            // The plus keeps the planner from walking the index of causes for this.
            selection.push(" AND +run.cause IS NOT NULL");
        }
        if let Some(expression) = filter.expression() {
            selection.push(" AND ").expression(expression);
        }
        selection
    }

    pub(super) fn push(&mut self, text: &str) -> &mut Selection {
        self.text.push_str(text);
        self
    }

    pub(super) fn bind(&mut self, value: impl Into<SqlValue>) -> &mut Selection {
        self.parameters.push(value.into());
        self.push("?")
    }

    fn expression(&mut self, expression: &Expression) {
        match expression {
            Expression::All(parts) => self.joined(parts, " AND "),
            Expression::Any(parts) => self.joined(parts, " OR "),
            Expression::Not(inner) => {
                self.push("((").expression(inner);
                self.push(") IS NOT TRUE)");
            }
            Expression::Term(term) => self.term(term),
        }
    }

    fn joined(&mut self, parts: &[Expression], between: &str) {
        for (index, part) in parts.iter().enumerate() {
            self.push(if index == 0 { "(" } else { between }).expression(part);
        }
        self.push(")");
    }

    fn term(&mut self, term: &Term) {
        let Column::Label(key) = &term.column else {
            return self.named(term);
        };
        let (has, test) = match &term.test {
            Test::Compare(Operator::NotEqual, value) => ("NOT EXISTS", Test::Compare(Operator::Equal, value.clone())),
            other => ("EXISTS", other.clone()),
        };
        self.push(has).push(" (SELECT 1 FROM label WHERE label.number = run.number AND label.key = ").bind(key.clone());
        self.push(" AND ").test("label.value", &test);
        self.push(")");
    }

    fn named(&mut self, term: &Term) {
        self.push("(");
        if let (Column::Command, Test::Compare(Operator::Equal, value)) = (&term.column, &term.test) {
            // Commands can be very long: the index holds only their beginnings.
            self.push("substr(run.command, 1, 64) = substr(").bind(sql_value(value.clone())).push(", 1, 64) AND ");
        }
        self.test(&format!("run.{}", term.column), &term.test);
        self.push(")");
    }

    fn test(&mut self, column: &str, test: &Test) {
        match test {
            Test::Present => self.push(column).push(" IS NOT NULL"),
            Test::Contains(part) => self.push("instr(").push(column).push(", ").bind(part.clone()).push(") > 0"),
            Test::Compare(operator, value) => {
                let symbol = if *operator == Operator::NotEqual { " IS NOT " } else { operator.symbol() };
                self.push(column).push(symbol).bind(sql_value(value.clone()))
            }
        };
    }
}

/// The label to look up first, if every match must have it and nothing narrows the search better.
fn leading_label(expression: &Expression) -> Option<(&str, &str)> {
    let conjuncts = match expression {
        Expression::All(parts) => parts.as_slice(),
        Expression::Any(_) | Expression::Not(_) | Expression::Term(_) => std::slice::from_ref(expression),
    };
    let equalities = || {
        conjuncts.iter().filter_map(|part| match part {
            Expression::Term(Term { column, test: Test::Compare(Operator::Equal, value) }) => Some((column, value)),
            _ => None,
        })
    };
    let is_narrow = |(column, value): (&Column, &Value)| match column {
        Column::ExecutionId | Column::Command => true,
        Column::Cause => *value != Value::Name(Cause::Exited.name()), // most runs just exit
        _ => false,
    };
    if equalities().any(is_narrow) {
        return None;
    }
    equalities().find_map(|equality| match equality {
        (Column::Label(key), Value::Text(value)) => Some((key.as_str(), value.as_str())),
        _ => None,
    })
}
