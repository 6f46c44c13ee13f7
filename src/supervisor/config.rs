//! Bounds and defaults of all runs.

use std::path::PathBuf;
use std::time::Duration;

use crate::execution::command::Timeouts;

/// Bounds and defaults of all runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Runs at once. Default 100.
    pub max_concurrent: usize,
    /// Runs waiting for a slot. Default 10,000.
    pub max_queued: usize,
    /// The shell used when none is named; `None` is the first of zsh, bash, sh that exists.
    pub shell: Option<String>,
    /// Where runs start that name no directory. Default: where the server was started.
    pub working_directory: PathBuf,
    /// Names (a trailing `*` matches any rest) that runs inherit besides the built-in allow-list.
    pub allowed_environment: Vec<String>,
    /// Output kept of one run, bytes; also the most a request may ask for. Default 4 GiB.
    pub max_output_bytes: u64,
    /// Recent output of one run held in memory for its watchers, bytes. Default 256 KiB.
    pub memory_bytes: usize,
    /// Input that may wait for one run, bytes. Default 1 MiB.
    pub stdin_window_bytes: usize,
    /// The clocks of runs that do not set them. Default: max_pause 24 h, grace 10 s, drain 2 s, none else.
    pub timeouts: Timeouts,
    /// The longest timeout a request may ask for. Default 30 days.
    pub max_timeout: Duration,
    /// Age at which records and output are removed. Default 30 days.
    pub retention_age: Duration,
    /// Size of all output at which the oldest is removed, bytes. Default 20 GiB.
    pub retention_bytes: u64,
}

impl Default for Config {
    fn default() -> Config {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Config {
            max_concurrent: 100,
            max_queued: 10_000,
            shell: None,
            working_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            allowed_environment: Vec::new(),
            max_output_bytes: 4 << 30,
            memory_bytes: 256 << 10,
            stdin_window_bytes: 1 << 20,
            timeouts: Timeouts {
                max_pause: Some(DAY),
                grace: Some(Duration::from_secs(10)),
                drain: Some(Duration::from_secs(2)),
                ..Timeouts::default()
            },
            max_timeout: 30 * DAY,
            retention_age: 30 * DAY,
            retention_bytes: 20 << 30,
        }
    }
}
