//! Lines on stdout and complaints on stderr. A reader of stdout that went away is a failure of its own, not a panic.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};

use super::failure::Failure;

/// Prints a line to stdout.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Failure::output)
}

/// Prints a line to stderr. Nobody can be told when that fails.
pub(super) fn complain(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// A table without lines, cut to the terminal where there is one.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// Prints a table to stdout.
pub(super) fn show(table: &Table) -> Result<(), Failure> {
    line(&table.trim_fmt())
}

/// Prints names and values, the values in one column; those without a value are left out.
pub(super) fn facts(facts: &[(&str, String)]) -> Result<(), Failure> {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let mut lines = value.lines();
        line(&format!("{name:width$}  {}", lines.next().unwrap_or_default()))?;
        for more in lines {
            line(&format!("{:width$}  {more}", ""))?;
        }
    }
    Ok(())
}
