//! `pause`, `resume`, `cancel`, `kill`, `signal`: one control, given to one or several runs.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::connection::{Connection, Reach};
use super::failure::Failure;
use super::request::{signal_number, wire};
use super::{human, identify, print};
use crate::config::quantity::duration;
use crate::json;
use crate::proto::control_request::{Action, WaitFor};
use crate::proto::control_response::Result as Effect;
use crate::proto::{self, ControlRequest, ControlResponse, send_signal};

/// What all controls have in common.
#[derive(Args)]
pub(super) struct Target {
    /// The runs: their ids, or a beginning or end that no other has
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Wait until it has taken effect
    #[arg(long)]
    wait: bool,
    /// Recorded with the effect
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Print each answer as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Stops every process of a run, and its clocks.
#[derive(Args)]
pub(super) struct Pause {
    #[command(flatten)]
    target: Target,
}

/// Lets a paused run go on.
#[derive(Args)]
pub(super) struct Resume {
    #[command(flatten)]
    target: Target,
}

/// Ends a run: the stop signal, the grace period, then KILL for the whole tree.
#[derive(Args)]
pub(super) struct Cancel {
    /// Time between the stop signal and KILL; 0s means KILL at once [default: the run's own]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    grace: Option<Duration>,
    /// The signal to begin with, by name or number [default: the run's own]
    #[arg(long, value_parser = signal_number)]
    signal: Option<i32>,
    #[command(flatten)]
    target: Target,
}

/// Ends a run by KILL for the whole tree.
#[derive(Args)]
pub(super) struct Kill {
    #[command(flatten)]
    target: Target,
}

/// Sends a signal to a run.
#[derive(Args)]
pub(super) struct Signal {
    /// The signal, by name or number, e.g. HUP
    #[arg(long, short, value_parser = signal_number)]
    signal: i32,
    /// To whom
    #[arg(long, value_name = "WHOM", default_value = "leader")]
    scope: Scope,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scope {
    /// The command's own process
    Leader,
    /// Its process group
    Group,
    /// Every process of the run
    Tree,
}

impl Pause {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        self.target.give("paused", Action::Pause(proto::Pause {})).await
    }
}

impl Resume {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        self.target.give("resumed", Action::Resume(proto::Resume {})).await
    }
}

impl Cancel {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        let cancel = proto::Cancel { grace_period: self.grace.map(wire), signal: self.signal.unwrap_or_default() };
        self.target.give("cancelled", Action::Cancel(cancel)).await
    }
}

impl Kill {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        self.target.give("killed", Action::Kill(proto::Kill {})).await
    }
}

impl Signal {
    pub(super) async fn act(&self) -> Result<u8, Failure> {
        let scope = match self.scope {
            Scope::Leader => send_signal::Scope::Leader,
            Scope::Group => send_signal::Scope::Group,
            Scope::Tree => send_signal::Scope::Tree,
        };
        let signal = proto::SendSignal { number: self.signal, scope: scope.into() };
        self.target.give("signalled", Action::Signal(signal)).await
    }
}

impl Target {
    /// Gives every run the control; one that fails does not keep it from the others.
    async fn give(&self, done: &str, action: Action) -> Result<u8, Failure> {
        self.reach
            .with(async |connection| {
                let mut code = 0;
                for text in &self.ids {
                    if let Err(failure) = self.give_one(connection, text, done, action.clone()).await {
                        if matches!(failure, Failure::OutputClosed) {
                            return Err(failure);
                        }
                        print::complain(&format!("cc-executor: {text}: {failure}"));
                        code = failure.exit_code();
                    }
                }
                Ok(code)
            })
            .await
    }

    async fn give_one(&self, connection: &Connection, text: &str, done: &str, action: Action) -> Result<(), Failure> {
        let wait_for = if self.wait { WaitFor::Effect } else { WaitFor::Delivered };
        let request = ControlRequest {
            execution_id: identify::id(connection, text).await?,
            reason: self.reason.clone(),
            wait_for: wait_for.into(),
            action: Some(action),
            ..ControlRequest::default()
        };
        let id = request.execution_id.clone();
        let response = connection.executions().control(request).await?.into_inner();
        if self.json {
            print::line(&json::text("ControlResponse", &response))
        } else {
            print::line(&format!("{id} {}", effect(&response, done)))
        }
    }
}

/// What became of it, in a few words.
fn effect(response: &ControlResponse, done: &str) -> String {
    let state =
        response.execution.as_ref().map_or_else(String::new, |run| format!(" (it is {})", human::state(run.state())));
    match response.result() {
        Effect::AlreadyTerminal => "had ended already".to_owned(),
        Effect::AlreadyInState => format!("was {done} already"),
        Effect::Pending => format!("is being {done}{state}"),
        Effect::Applied | Effect::Unspecified => {
            let reached = match response.processes {
                0 => String::new(),
                1 => " (1 process)".to_owned(),
                processes => format!(" ({processes} processes)"),
            };
            format!("{done}{reached}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_are_told_apart() {
        let response = |result: Effect, processes| ControlResponse {
            result: result.into(),
            processes,
            ..ControlResponse::default()
        };
        assert_eq!(effect(&response(Effect::Applied, 3), "paused"), "paused (3 processes)");
        assert_eq!(effect(&response(Effect::AlreadyInState, 0), "paused"), "was paused already");
        assert_eq!(effect(&response(Effect::AlreadyTerminal, 0), "killed"), "had ended already");
        assert_eq!(effect(&response(Effect::Pending, 2), "cancelled"), "is being cancelled");
    }
}
