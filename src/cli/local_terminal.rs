//! The terminal of the person at this process: its size, and raw mode while a run has a terminal of its own.

use std::io::{self, IsTerminal};

/// Whether a person can type here.
pub(super) fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

/// Rows and columns, where there is a terminal.
pub(super) fn size() -> Option<(u16, u16)> {
    crossterm::terminal::size()
        .ok()
        .map(|(columns, rows)| (rows, columns))
        .filter(|(rows, columns)| *rows > 0 && *columns > 0)
}

/// Raw mode: every key goes to the run, Ctrl-C included. Ends when this is dropped.
pub(super) struct Raw(());

impl Raw {
    /// Begins it.
    pub(super) fn begin() -> io::Result<Raw> {
        crossterm::terminal::enable_raw_mode().map(|()| Raw(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done about it here, and the shell behind us sets its own mode anyway.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}
