//! `completions`: prints completions for a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::failure::Failure;
use super::{CommandLine, print};

/// Prints completions for a shell, e.g.: cc-executor completions bash > /etc/bash_completion.d/cc-executor
#[derive(Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn act(&self) -> Result<u8, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut CommandLine::command(), "cc-executor", &mut script);
        print::line(String::from_utf8_lossy(&script).trim_end())?;
        Ok(0)
    }
}
