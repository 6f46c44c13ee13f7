//! The command line: what people and scripts type. It is a client like any other, plus `serve`; it knows the wire and the
//! configuration, and nothing of how runs are held.
//!
//! One verb, one file; the files beside them are what verbs share. Only this module's folder prints.

mod address;
mod attach;
mod completions;
mod connection;
mod control;
mod doctor;
mod exit;
mod failure;
mod feed;
mod follow;
mod history;
mod human;
mod identify;
mod info;
mod init;
mod interrupts;
mod local_terminal;
mod logs;
#[cfg(test)]
mod mock;
mod page;
mod patience;
mod print;
mod ps;
mod request;
mod run;
mod serve;
mod status_line;
mod stdin;
mod view;
mod wait;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// Runs commands for other programs, and never loses a byte, a process or a result.
///
/// A run outlives the call that started it: watch it from anywhere, pause it, feed it, walk away and come back to the exact
/// byte. It ends in exactly one honest outcome, and its record and output stay readable.
#[derive(Parser)]
#[command(name = "cc-executor", version, propagate_version = true, max_term_width = 110, arg_required_else_help = true)]
#[command(subcommand_required = true, after_help = AFTER)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER: &str = "\
Examples:
  cc-executor run 'for i in 1 2 3; do echo line $i; sleep 0.3; done'
  cc-executor run --timeout 10m --label team=web -- cargo test
  cc-executor run --detach --id nightly ./backup.sh
  cc-executor attach nightly
  cc-executor history list --filter 'cause = RUN_TIMEOUT AND duration > 10s'
  cc-executor serve --listen unix:/run/cc-executor.sock

Commands find a server at --address. With none on this machine, they serve themselves in process, on the same records and output.

Exit codes of run, attach and wait: the command's own; 128 + N when signal N ended it; 124 after a timeout; 125 when the service, \
or this command line, failed; 126 and 127 when the program cannot be executed or found; 130 after Ctrl-C. All other commands exit \
with 0 or 125, doctor with 1 when a check fails.";

#[derive(Subcommand)]
enum Verb {
    /// Serve: listen for calls and run commands
    Serve(serve::Serve),
    /// Run a command and follow it to its end
    Run(Box<run::Run>),
    /// Replay a run from any point and follow it to its end
    Attach(attach::Attach),
    /// Print the output of a run
    Logs(logs::Logs),
    /// List runs
    Ps(ps::Ps),
    /// Stop every process of a run, and its clocks
    Pause(control::Pause),
    /// Let a paused run go on
    Resume(control::Resume),
    /// End a run: politely first, then by force
    Cancel(control::Cancel),
    /// End a run by force
    Kill(control::Kill),
    /// Send a signal to a run
    Signal(control::Signal),
    /// Wait for the end of runs
    Wait(wait::Wait),
    /// Feed standard input of a run
    #[command(visible_alias = "write")]
    Stdin(stdin::Stdin),
    /// What is remembered of runs that ended
    #[command(subcommand)]
    History(history::History),
    /// Show the server: versions, limits, load
    Info(info::Info),
    /// Check what could keep runs from working well, and say what to do
    Doctor(doctor::Doctor),
    /// Write a configuration file with every setting and its default
    Init(init::Init),
    /// Print completions for a shell
    Completions(completions::Completions),
}

impl Verb {
    /// Does it, and says what to exit with.
    async fn act(self) -> Result<u8, Failure> {
        match self {
            Verb::Serve(verb) => verb.act().await,
            Verb::Run(verb) => Box::pin(verb.act()).await,
            Verb::Attach(verb) => Box::pin(verb.act()).await,
            Verb::Logs(verb) => Box::pin(verb.act()).await,
            Verb::Ps(verb) => verb.act().await,
            Verb::Pause(verb) => verb.act().await,
            Verb::Resume(verb) => verb.act().await,
            Verb::Cancel(verb) => verb.act().await,
            Verb::Kill(verb) => verb.act().await,
            Verb::Signal(verb) => verb.act().await,
            Verb::Wait(verb) => verb.act().await,
            Verb::Stdin(verb) => Box::pin(verb.act()).await,
            Verb::History(verb) => Box::pin(verb.act()).await,
            Verb::Info(verb) => verb.act().await,
            Verb::Doctor(verb) => Box::pin(verb.act()).await,
            Verb::Init(verb) => verb.act(),
            Verb::Completions(verb) => verb.act(),
        }
    }
}

/// Does what the command line of this process says, and says what to exit with.
#[must_use]
pub fn run() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            // Nobody can be told when even this cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(exit::FAILED) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::complain(&format!("cc-executor: cannot start threads: {error}"));
            return ExitCode::from(exit::FAILED);
        }
    };
    let code = runtime.block_on(line.verb.act()).unwrap_or_else(|failure| {
        if !matches!(failure, Failure::OutputClosed) {
            failure.to_string().lines().for_each(|line| print::complain(&format!("cc-executor: {line}")));
        }
        failure.exit_code()
    });
    // A read of standard input may wait for ever on its thread.
    runtime.shutdown_background();
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_well_defined() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_verb_of_the_documentation_is_there() {
        let command = CommandLine::command();
        let verbs: Vec<&str> = command
            .get_subcommands()
            .flat_map(|verb| [verb.get_name()].into_iter().chain(verb.get_visible_aliases()))
            .collect();
        for verb in "serve run attach logs ps pause resume cancel kill signal wait stdin write history info doctor init completions".split(' ') {
            assert!(verbs.contains(&verb), "{verb}");
        }
    }
}
