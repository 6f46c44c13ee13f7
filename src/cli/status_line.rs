//! One live line at the bottom of a terminal. It is drawn only where nothing else stands, and is gone before anything is written.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

/// How long nothing must have been written before the line shows.
const QUIET: Duration = Duration::from_secs(1);

/// The line. It never shows when stderr is not a terminal.
pub(super) struct StatusLine {
    bar: Option<ProgressBar>,
    place: Place,
}

/// What is known of the place where the line would stand.
struct Place {
    usable: bool,
    /// The last byte on the terminal ended a line.
    at_line_start: bool,
    written: Instant,
}

impl StatusLine {
    /// A line that shows when `wanted` and stderr is a terminal.
    pub(super) fn new(wanted: bool) -> StatusLine {
        let usable = wanted && std::io::stderr().is_terminal();
        StatusLine { bar: None, place: Place { usable, at_line_start: true, written: Instant::now() } }
    }

    /// Shows the text, if there is room for it now.
    pub(super) fn show(&mut self, text: impl FnOnce() -> String) {
        if !self.place.is_free(Instant::now()) {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is constant");
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
        });
        bar.set_message(text());
        bar.tick();
    }

    /// Takes the line away; must come before anything is written to the terminal.
    pub(super) fn hide(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Notes what was written to the terminal.
    pub(super) fn wrote(&mut self, data: &[u8]) {
        self.place.wrote(data, Instant::now());
    }

    /// Whether the cursor stands at the start of a line.
    pub(super) fn is_at_line_start(&self) -> bool {
        self.place.at_line_start
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.hide();
    }
}

impl Place {
    fn is_free(&self, now: Instant) -> bool {
        self.usable && self.at_line_start && now.duration_since(self.written) >= QUIET
    }

    fn wrote(&mut self, data: &[u8], now: Instant) {
        if let Some(last) = data.last() {
            self.at_line_start = *last == b'\n';
            self.written = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_never_stands_on_output() {
        let start = Instant::now();
        let later = start + QUIET;
        let mut place = Place { usable: true, at_line_start: true, written: start };
        assert!(!place.is_free(start), "output may still be flowing");
        assert!(place.is_free(later));
        place.wrote(b"Password: ", start);
        assert!(!place.is_free(later), "it would stand behind the prompt");
        place.wrote(b"", start);
        assert!(!place.is_free(later));
        place.wrote(b"secret\n", start);
        assert!(place.is_free(later));
        place.wrote(b"50%\r", start);
        assert!(!place.is_free(later), "clearing the line would take the progress away");
        assert!(!Place { usable: false, at_line_start: true, written: start }.is_free(later));
    }
}
