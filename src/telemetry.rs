//! The logs of the process: what is written, in which form, always to stderr.
//!
//! `main` and the commands install it once. It knows nothing of the domain; events carry their own fields.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How logs are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What is written, for instance `info` or `warn,cc_executor=debug`. Default: `info` for a server, `warn` for all else.
    pub level: Option<String>,
    /// In which form. Default: text.
    pub format: Format,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is no filter.
    #[error("understand the log level")]
    Level(#[from] ParseError),
    /// A subscriber is installed already.
    #[error("install the log subscriber")]
    Installed(#[from] TryInitError),
}

/// Installs the subscriber for the whole process; `usual` is the level when the configuration names none.
///
/// # Errors
/// When the level does not parse, or a subscriber is installed already.
pub fn install(config: &Config, usual: &str) -> Result<(), Error> {
    let filter = EnvFilter::try_new(config.level.as_deref().unwrap_or(usual))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match config.format {
        Format::Text => lines
            .with_ansi(anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never)
            .finish()
            .try_init()?,
        Format::Json => lines.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// Checks a level without installing anything.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_level(level: &str) -> Result<(), ParseError> {
    EnvFilter::try_new(level).map(drop)
}
