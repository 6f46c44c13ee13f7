//! How a value given as TOML, or as text from the environment or a flag, fills one field of the configuration, and back.

use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::Config;
use super::quantity::{duration, size, written_duration, written_size};
use crate::execution::Containment;
use crate::server::Listen;
use crate::telemetry::{self, Format};

/// Finds a field.
type In<T> = fn(&mut Config) -> &mut T;

/// The field of a setting, by what it may hold.
pub(super) enum Field {
    Switch(In<bool>),
    /// At least 1.
    Count(In<usize>),
    /// Bytes, at least 4 KiB.
    Size(In<u64>),
    /// Bytes in memory, at least 4 KiB.
    Memory(In<usize>),
    /// Longer than zero.
    Time(In<Duration>),
    /// Longer than zero, or none.
    Clock(In<Option<Duration>>),
    /// Zero or longer.
    Period(In<Option<Duration>>),
    /// Not empty.
    Text(In<String>),
    OptionalText(In<Option<String>>),
    Path(In<PathBuf>),
    List(In<Vec<String>>),
    Listen(In<Vec<Listen>>),
    Containment(In<Option<Containment>>),
    Level(In<Option<String>>),
    Format(In<Format>),
}

const SMALLEST: u64 = 4 << 10;

impl Field {
    /// Fills it, or says in one sentence what would fit.
    pub(super) fn set(&self, config: &mut Config, value: &Value) -> Result<(), String> {
        match self {
            Field::Switch(field) => *field(config) = switch(value)?,
            Field::Count(field) => *field(config) = count(value)?,
            Field::Size(field) => *field(config) = bytes(value)?,
            Field::Memory(field) => {
                *field(config) =
                    usize::try_from(bytes(value)?).map_err(|_| "is more than fits in memory".to_owned())?;
            }
            Field::Time(field) => *field(config) = positive(time(value)?)?,
            Field::Clock(field) => *field(config) = clock(value)?,
            Field::Period(field) => *field(config) = Some(time(value)?),
            Field::Text(field) => *field(config) = text(value)?.to_owned(),
            Field::OptionalText(field) => *field(config) = Some(text(value)?.to_owned()),
            Field::Path(field) => *field(config) = path(text(value)?)?,
            Field::List(field) => *field(config) = list(value)?.into_iter().map(str::to_owned).collect(),
            Field::Listen(field) => {
                let addresses = list(value)?.into_iter().map(listen).collect::<Result<Vec<_>, _>>()?;
                *field(config) = if addresses.is_empty() { Err("names no address")? } else { addresses };
            }
            Field::Containment(field) => *field(config) = containment(text(value)?)?,
            Field::Level(field) => *field(config) = Some(level(text(value)?)?),
            Field::Format(field) => *field(config) = format(text(value)?)?,
        }
        Ok(())
    }

    /// What it holds, as it would be written in the file; `None` when nothing.
    pub(super) fn show(&self, config: &Config) -> Option<Value> {
        let config = &mut config.clone();
        Some(match self {
            Field::Switch(field) => Value::from(*field(config)),
            Field::Count(field) => Value::from(i64::try_from(*field(config)).unwrap_or(i64::MAX)),
            Field::Size(field) => Value::from(written_size(*field(config))),
            Field::Memory(field) => Value::from(written_size(*field(config) as u64)),
            Field::Time(field) => Value::from(written_duration(*field(config))),
            Field::Clock(field) | Field::Period(field) => Value::from(written_duration((*field(config))?)),
            Field::Text(field) => Value::from(field(config).as_str()),
            Field::OptionalText(field) | Field::Level(field) => Value::from(field(config).as_deref()?),
            Field::Path(field) => Value::from(field(config).display().to_string()),
            Field::List(field) => Value::from(field(config).clone()),
            Field::Listen(field) => Value::from(field(config).iter().map(written_listen).collect::<Vec<_>>()),
            Field::Containment(field) => Value::from(match field(config) {
                None => "auto",
                Some(Containment::Cgroup) => "cgroup",
                Some(Containment::Shim) => "shim",
                Some(Containment::Group) => "group",
            }),
            Field::Format(field) => Value::from(match field(config) {
                Format::Text => "text",
                Format::Json => "json",
            }),
        })
    }
}

fn text(value: &Value) -> Result<&str, String> {
    match value.as_str() {
        Some("") => Err("must not be empty".to_owned()),
        Some(text) if text.contains('\0') => Err("must not contain NUL".to_owned()),
        Some(text) => Ok(text),
        None => Err(format!("must be a text, not {}", kind(value))),
    }
}

fn switch(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("must be true or false, not {}", kind(value)))
}

fn count(value: &Value) -> Result<usize, String> {
    let number = match value {
        Value::Integer(number) => usize::try_from(*number).ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number
        .filter(|number| (1..=1_000_000).contains(number))
        .ok_or_else(|| "must be a whole number from 1 to 1000000".to_owned())
}

fn bytes(value: &Value) -> Result<u64, String> {
    let size = match value {
        Value::Integer(number) => u64::try_from(*number).map_err(|_| "must not be negative".to_owned())?,
        value => size(value.as_str().ok_or_else(|| format!("must be a size like \"64MiB\", not {}", kind(value)))?)?,
    };
    if size < SMALLEST { Err(format!("must be at least {}", written_size(SMALLEST))) } else { Ok(size) }
}

fn time(value: &Value) -> Result<Duration, String> {
    duration(value.as_str().ok_or_else(|| format!("must be a duration like \"10s\", not {}", kind(value)))?)
}

fn positive(duration: Duration) -> Result<Duration, String> {
    if duration.is_zero() { Err("must be longer than zero".to_owned()) } else { Ok(duration) }
}

fn clock(value: &Value) -> Result<Option<Duration>, String> {
    if value.as_str() == Some("none") { Ok(None) } else { positive(time(value)?).map(Some) }
}

fn path(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| format!("\"{text}\" is not a path: {error}"))
}

/// The items of an array of texts, or of one text with commas.
fn list(value: &Value) -> Result<Vec<&str>, String> {
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        Value::String(items) => Ok(items.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()),
        value => Err(format!("must be a list of texts, not {}", kind(value))),
    }
}

fn listen(text: &str) -> Result<Listen, String> {
    if let Some(path_text) = text.strip_prefix("unix:") {
        let path = path(path_text)?;
        // The kernel keeps the path in 108 bytes, the last one zero.
        return if path.as_os_str().len() > 107 {
            Err(format!("\"{text}\" is too long for a Unix socket: at most 107 bytes"))
        } else {
            Ok(Listen::Unix(path))
        };
    }
    let address = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    address.parse().map(Listen::Tcp).map_err(|_| {
        format!(
            "\"{text}\" is not an address; write it like 127.0.0.1:50051, [::1]:50051 or unix:/run/cc-executor.sock"
        )
    })
}

fn written_listen(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn containment(text: &str) -> Result<Option<Containment>, String> {
    match text {
        "auto" => Ok(None),
        "cgroup" => Ok(Some(Containment::Cgroup)),
        "shim" => Ok(Some(Containment::Shim)),
        "group" => Ok(Some(Containment::Group)),
        _ => Err(format!("\"{text}\" must be auto, cgroup, shim or group")),
    }
}

fn level(text: &str) -> Result<String, String> {
    telemetry::check_level(text)
        .map(|()| text.to_owned())
        .map_err(|error| format!("\"{text}\" is not a log filter like \"info\" or \"warn,cc_executor=debug\": {error}"))
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err(format!("\"{text}\" must be text or json")),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}
