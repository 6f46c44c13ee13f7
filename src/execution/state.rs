//! The states of a run, and which control is possible in which state. Pure.
//!
//! ```text
//! Queued ─▶ Starting ─▶ Running ◀─▶ Pausing ─▶ Paused
//!    │          │          │            │         │
//!    │          │          ├────────────┴─────────┤
//!    │          │          ▼                      ▼
//!    │          │       Exited ◀────────────── Stopping
//!    ▼          ▼          │
//!    └──────────┴──────────┴──▶ Completed
//! ```

use serde::{Deserialize, Serialize};

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Waits for a slot.
    Queued,
    /// Is being spawned.
    Starting,
    /// Runs.
    Running,
    /// A pause takes effect.
    Pausing,
    /// Stands still.
    Paused,
    /// A cancel or timeout takes effect.
    Stopping,
    /// Reaped; output is drained.
    Exited,
    /// Over.
    Completed,
}

impl State {
    /// All of them, in the order of the protocol.
    pub const ALL: [State; 8] = [
        State::Queued,
        State::Starting,
        State::Running,
        State::Pausing,
        State::Paused,
        State::Stopping,
        State::Exited,
        State::Completed,
    ];

    /// The name used in filters and tables, for instance `RUNNING`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Queued => "QUEUED",
            State::Starting => "STARTING",
            State::Running => "RUNNING",
            State::Pausing => "PAUSING",
            State::Paused => "PAUSED",
            State::Stopping => "STOPPING",
            State::Exited => "EXITED",
            State::Completed => "COMPLETED",
        }
    }
}

/// What a caller may ask of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Stop every process and the run clocks.
    Pause,
    /// Go on.
    Resume,
    /// End politely, then by force.
    Cancel,
    /// End by force.
    Kill,
    /// Send a signal.
    Signal,
    /// Feed standard input.
    WriteStdin,
    /// Change the terminal's size.
    Resize,
    /// Give more time.
    Extend,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 8] = [
        Verb::Pause,
        Verb::Resume,
        Verb::Cancel,
        Verb::Kill,
        Verb::Signal,
        Verb::WriteStdin,
        Verb::Resize,
        Verb::Extend,
    ];
}

/// What follows from asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Do it.
    Act,
    /// Nothing to do, it is so already.
    AlreadyInState,
    /// It is on its way already.
    Pending,
    /// The run has ended.
    AlreadyTerminal,
    /// It is not possible now.
    Denied(&'static str),
}

/// Decides what asking `verb` of a run in `state` means. Total and pure.
#[deny(clippy::wildcard_enum_match_arm)]
#[must_use]
pub fn decide(state: State, verb: Verb) -> Decision {
    use Decision::{Act, AlreadyInState, AlreadyTerminal, Denied, Pending};
    match (state, verb) {
        (State::Completed, Verb::WriteStdin) => Denied("the run has ended"),
        (State::Completed, _) => AlreadyTerminal,

        (_, Verb::Cancel | Verb::Kill) => Act,

        (State::Queued, Verb::WriteStdin | Verb::Extend) => Act,
        (State::Queued, Verb::Resume) => AlreadyInState,
        (State::Queued, Verb::Pause | Verb::Signal | Verb::Resize) => Denied("the run has not started"),

        (State::Starting | State::Running, Verb::Resume) => AlreadyInState,
        (
            State::Starting | State::Running,
            Verb::Pause | Verb::Signal | Verb::WriteStdin | Verb::Resize | Verb::Extend,
        ) => Act,

        (State::Pausing, Verb::Pause) => Pending,
        (State::Paused, Verb::Pause) => AlreadyInState,
        (
            State::Pausing | State::Paused,
            Verb::Resume | Verb::Signal | Verb::WriteStdin | Verb::Resize | Verb::Extend,
        ) => Act,

        (State::Stopping, Verb::Pause | Verb::Resume) => Denied("the run is being ended"),
        (State::Stopping, Verb::Signal | Verb::WriteStdin | Verb::Resize) => Act,
        (State::Stopping, Verb::Extend) => Denied("the run is being ended"),

        (State::Exited, Verb::Pause | Verb::Resume | Verb::Signal | Verb::WriteStdin | Verb::Resize) => {
            Denied("the command has exited, its output is being drained")
        }
        (State::Exited, Verb::Extend) => Act,
    }
}

/// Whether a run may go from `from` to `to` directly.
#[must_use]
pub fn may_follow(from: State, to: State) -> bool {
    use State::{Completed, Exited, Paused, Pausing, Queued, Running, Starting, Stopping};
    matches!(
        (from, to),
        (Queued, Starting | Completed)
            | (Starting, Running | Completed)
            | (Running, Pausing | Stopping | Exited | Completed)
            | (Pausing, Paused | Running | Stopping | Exited)
            | (Paused, Running | Stopping | Exited)
            | (Stopping, Exited | Completed)
            | (Exited, Stopping | Completed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancel_and_kill_are_possible_until_the_end() {
        for state in State::ALL.into_iter().filter(|state| *state != State::Completed) {
            assert_eq!(decide(state, Verb::Cancel), Decision::Act, "{state:?}");
            assert_eq!(decide(state, Verb::Kill), Decision::Act, "{state:?}");
        }
    }

    #[test]
    fn nothing_acts_on_a_run_that_has_ended() {
        for verb in Verb::ALL {
            assert_ne!(decide(State::Completed, verb), Decision::Act, "{verb:?}");
        }
    }

    #[test]
    fn the_end_is_final_and_reachable_from_everywhere() {
        for state in State::ALL {
            assert!(!may_follow(State::Completed, state));
            let mut reached = vec![state];
            while let Some(next) = State::ALL
                .into_iter()
                .find(|to| !reached.contains(to) && reached.iter().any(|from| may_follow(*from, *to)))
            {
                reached.push(next);
            }
            assert!(reached.contains(&State::Completed), "{state:?}");
        }
    }
}
