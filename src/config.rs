//! The sum of the components' configurations: where each setting comes from, and what is wrong with it.
//!
//! Settings come from a file, a `.env` file, the environment and flags; the later of these wins. Whatever is wrong is
//! reported at once, each fault with its source. Only the commands call this; components get their own `Config`.

mod field;
pub mod quantity;
mod settings;
mod sources;

use std::fmt;
use std::path::PathBuf;

use crate::{server, telemetry};

pub use sources::{Environment, Flags};

use settings::{SETTINGS, Setting};
use sources::{Given, Source};

/// The file that is read when none is named and it exists in the current directory.
pub const FILE: &str = "cc-executor.toml";

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The server, whether it listens or lives inside a command.
    pub server: server::Config,
    /// The logs.
    pub log: telemetry::Config,
}

/// All that is wrong with the configuration. Displays one fault a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl Faults {
    /// One fault: where, and what.
    fn add(&mut self, source: &impl fmt::Display, message: impl fmt::Display) {
        self.0.push(format!("{source}: {message}"));
    }

    /// The faults, each one sentence with its source.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

/// Reads every source and sums them up. Blocks for the time of reading two small files.
///
/// # Errors
/// All faults at once.
pub fn load(flags: &Flags, environment: &Environment) -> Result<Config, Faults> {
    let mut faults = Faults(Vec::new());
    let mut given = sources::file(flags, environment, &mut faults);
    given.extend(sources::environment(environment, &mut faults));
    given.extend(sources::flags(flags));
    sum(given, environment, faults)
}

/// Applies what was given, in its order, to the defaults.
fn sum(given: Vec<Given>, environment: &Environment, mut faults: Faults) -> Result<Config, Faults> {
    let mut config = defaults(environment);
    let mut origins: Vec<(&'static Setting, Source)> = Vec::new();
    for Given { key, value, source } in given {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            faults.add(&source, unknown(&key));
            continue;
        };
        match setting.set(&mut config, &value) {
            Ok(()) => origins.push((setting, source)),
            Err(message) => faults.add(&source, message),
        }
    }
    let origin = |key: &str| match origins.iter().rev().find(|(setting, _)| setting.key == key) {
        Some((_, source)) => source.to_string(),
        None => format!("default of {key}"),
    };
    for (key, message) in settings::contradictions(&config) {
        faults.add(&origin(key), message);
    }
    if faults.0.is_empty() { Ok(config) } else { Err(faults) }
}

/// What holds when nothing is given.
fn defaults(environment: &Environment) -> Config {
    let node = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    let stall = std::time::Duration::from_secs(60);
    Config {
        server: server::Config {
            listen: vec![server::Listen::Tcp(([127, 0, 0, 1], 50051).into())],
            allow_remote: false,
            state_dir: state_dir(environment),
            node: node.unwrap_or_else(|_| "unknown".to_owned()),
            containment: None,
            drain: std::time::Duration::from_secs(10),
            watcher_stall: stall,
            supervisor: crate::supervisor::Config::default(),
        },
        log: telemetry::Config::default(),
    }
}

/// Where records and output live when nothing says so.
fn state_dir(environment: &Environment) -> PathBuf {
    let home = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match (home("XDG_STATE_HOME"), home("HOME")) {
        (Some(state), _) => state.join("cc-executor"),
        (None, Some(home)) => home.join(".local/state/cc-executor"),
        (None, None) => PathBuf::from("/var/lib/cc-executor"),
    }
}

/// Says that a key does not exist, and which one might have been meant.
fn unknown(key: &str) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |setting: &&Setting| {
        let close = strsim::damerau_levenshtein(setting.key, key);
        if last(setting.key) == last(key) { 0 } else { close }
    };
    match SETTINGS.iter().min_by_key(distance).filter(|setting| distance(setting) <= 3) {
        Some(setting) => format!("there is no such setting; did you mean {}?", setting.key),
        None => "there is no such setting; `cc-executor init` writes a file with all of them".to_owned(),
    }
}

/// A configuration file with every setting, its meaning and its default, all of them commented out.
#[must_use]
pub fn template(environment: &Environment) -> String {
    settings::template(&defaults(environment))
}

#[cfg(test)]
mod tests;
