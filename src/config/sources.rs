//! Where settings are given: the file, `.env`, the environment, flags. Each yields the same thing: a key, a value, a source.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::Value;

use super::settings::{SETTINGS, Setting};
use super::{FILE, Faults};

/// One setting as somebody gave it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) source: Source,
}

/// Who gave a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    File { path: String, key: String },
    DotEnv(&'static str),
    Environment(&'static str),
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File { path, key } => write!(f, "{path}: {key}"),
            Source::DotEnv(name) => write!(f, ".env {name}"),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    file: Option<PathBuf>,
    settings: Vec<(&'static str, Value)>,
}

impl Flags {
    /// Names the configuration file. Default: `CC_EXECUTOR_CONFIG`, else [`FILE`] in the current directory if it exists.
    #[must_use]
    pub fn file(self, file: Option<PathBuf>) -> Flags {
        Flags { file, ..self }
    }

    /// Adds what a flag says about the setting `key`; nothing when the flag is absent.
    ///
    /// # Panics
    /// When no setting of that key has a flag: a mistake in the command line's definition.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: Option<impl Into<Value>>) -> Flags {
        assert!(SETTINGS.iter().any(|setting| setting.key == key && setting.flag.is_some()), "{key} has no flag");
        self.settings.extend(value.map(|value| (key, value.into())));
        self
    }
}

/// The environment of the process, with what a `.env` file adds to it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    process: BTreeMap<String, String>,
    dotenv: BTreeMap<String, String>,
    faults: Vec<(String, String)>,
}

impl Environment {
    /// The environment of this process and the `.env` file of the current directory. Names and values that are not
    /// UTF-8 are left out.
    #[must_use]
    pub fn read() -> Environment {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let process = std::env::vars_os().filter_map(text).collect();
        let mut environment = Environment { process, ..Environment::default() };
        match dotenvy::from_path_iter(".env") {
            Ok(entries) => {
                for entry in entries {
                    match entry {
                        Ok((name, value)) => drop(environment.dotenv.insert(name, value)),
                        Err(error) => environment.faults.push((".env".to_owned(), error.to_string())),
                    }
                }
            }
            Err(error) if error.not_found() => {}
            Err(error) => environment.faults.push((".env".to_owned(), error.to_string())),
        }
        environment
    }

    /// A value that is not empty: of the process, else of the `.env` file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let set = |map: &BTreeMap<String, String>| map.contains_key(name);
        let map = if set(&self.process) { &self.process } else { &self.dotenv };
        map.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// An environment made by hand.
    #[cfg(test)]
    pub(crate) fn of<const P: usize, const D: usize>(
        process: [(&str, &str); P],
        dotenv: [(&str, &str); D],
    ) -> Environment {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Environment {
            process: process.into_iter().map(own).collect(),
            dotenv: dotenv.into_iter().map(own).collect(),
            faults: Vec::new(),
        }
    }
}

/// What the configuration file gives. A file that was named must exist.
pub(super) fn file(flags: &Flags, environment: &Environment, faults: &mut Faults) -> Vec<Given> {
    let named = flags.file.clone().or_else(|| environment.get("CC_EXECUTOR_CONFIG").map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| PathBuf::from(FILE));
    match std::fs::read_to_string(&path) {
        Ok(text) => entries(&path, &text, faults),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Vec::new(),
        Err(error) => {
            faults.add(&path.display(), format_args!("cannot be read: {error}"));
            Vec::new()
        }
    }
}

/// The leaves of a TOML text, with their dotted keys.
pub(super) fn entries(path: &Path, text: &str, faults: &mut Faults) -> Vec<Given> {
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let place = line.map_or_else(String::new, |line| format!(":{line}"));
            faults.add(&format_args!("{}{place}", path.display()), error.message());
            return Vec::new();
        }
    };
    let mut given = Vec::new();
    let mut rest: Vec<(String, Value)> = table.into_iter().collect();
    while let Some((key, value)) = rest.pop() {
        match value {
            Value::Table(table) => rest.extend(table.into_iter().map(|(name, value)| (format!("{key}.{name}"), value))),
            value => {
                let source = Source::File { path: path.display().to_string(), key: key.clone() };
                given.push(Given { key, value, source });
            }
        }
    }
    given.sort_by(|one, other| one.key.cmp(&other.key));
    given
}

/// What the environment gives, the weaker `.env` first.
pub(super) fn environment(environment: &Environment, faults: &mut Faults) -> Vec<Given> {
    for (source, message) in &environment.faults {
        faults.add(source, message);
    }
    let mut given = variables(&environment.dotenv, Source::DotEnv);
    given.extend(variables(&environment.process, Source::Environment));
    given
}

/// The settings among some variables.
fn variables(variables: &BTreeMap<String, String>, source: fn(&'static str) -> Source) -> Vec<Given> {
    let given = |setting: &Setting| {
        let name = setting.variable?;
        let value = variables.get(name).filter(|value| !value.is_empty())?;
        Some(Given { key: setting.key.to_owned(), value: Value::from(value.as_str()), source: source(name) })
    };
    SETTINGS.iter().filter_map(given).collect()
}

/// What flags give.
pub(super) fn flags(flags: &Flags) -> Vec<Given> {
    let flag = |key: &str| SETTINGS.iter().find(|setting| setting.key == key).and_then(|setting| setting.flag);
    flags
        .settings
        .iter()
        .map(|(key, value)| Given {
            key: (*key).to_owned(),
            value: value.clone(),
            source: Source::Flag(flag(key).expect("checked by Flags::with")),
        })
        .collect()
}
