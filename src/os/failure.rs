//! Why a command could not be started, by the step that failed.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The first step that failed on the way to the command's first instruction. Nothing of the command is left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnError {
    /// What was being done.
    pub step: SpawnStep,
    /// The kernel's error number.
    pub errno: i32,
    /// The file or directory it was about.
    pub path: Option<PathBuf>,
}

/// The steps of a start, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SpawnStep {
    /// Getting descriptors, memory and a process of our own.
    Resources,
    /// Making a cgroup and joining it, opening a session.
    Containment,
    /// Making the terminal the controlling one.
    Terminal,
    /// Setting resource limits.
    Limits,
    /// Becoming another user.
    User,
    /// Going to the working directory.
    WorkingDirectory,
    /// Finding and executing the program.
    Exec,
}

impl SpawnError {
    pub(super) fn new(step: SpawnStep, errno: i32) -> SpawnError {
        SpawnError { step, errno, path: None }
    }

    pub(super) fn at(step: SpawnStep, errno: i32, path: impl Into<PathBuf>) -> SpawnError {
        SpawnError { step, errno, path: Some(path.into()) }
    }

    pub(super) fn io(step: SpawnStep, error: &std::io::Error) -> SpawnError {
        SpawnError::new(step, error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for SpawnStep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            SpawnStep::Resources => "get what a new process needs",
            SpawnStep::Containment => "contain the new process",
            SpawnStep::Terminal => "attach the terminal",
            SpawnStep::Limits => "set the resource limits",
            SpawnStep::User => "become the user",
            SpawnStep::WorkingDirectory => "enter the working directory",
            SpawnStep::Exec => "execute the program",
        })
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.step)?;
        if let Some(path) = &self.path {
            write!(formatter, " {}", path.display())?;
        }
        let reason = nix::errno::Errno::from_raw(self.errno);
        write!(formatter, ": {}", reason.desc().to_lowercase())
    }
}

impl std::error::Error for SpawnError {}
