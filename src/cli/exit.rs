//! What the process exits with when a run has ended: one pure function of the outcome.

use crate::proto::not_started::Step;
use crate::proto::outcome::Ending;
use crate::proto::{Cause, Outcome};

/// A timeout of the run, as timeout(1) says it.
pub(super) const TIMED_OUT: u8 = 124;
/// The service failed, or nobody knows.
pub(super) const FAILED: u8 = 125;
/// The program cannot be executed, as shells and env(1) say it.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such program.
const NOT_FOUND: u8 = 127;

/// How the user of this process interrupted the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// Ctrl-C.
    Int,
    /// SIGTERM.
    Term,
}

/// The exit code for an outcome; 0 only for success.
pub(super) fn code(outcome: &Outcome, interrupt: Option<Interrupt>) -> u8 {
    match (outcome.cause(), interrupt) {
        (
            Cause::RunTimeout
            | Cause::IdleTimeout
            | Cause::FirstOutputTimeout
            | Cause::WallTimeout
            | Cause::QueueTimeout
            | Cause::PauseLimit,
            _,
        ) => TIMED_OUT,
        (Cause::Cancelled, Some(Interrupt::Int)) => 130,
        (Cause::Cancelled, Some(Interrupt::Term)) => 143,
        (Cause::ServerShutdown | Cause::ServerLost | Cause::Unspecified, _) => FAILED,
        _ => of_ending(outcome),
    }
}

fn of_ending(outcome: &Outcome) -> u8 {
    match &outcome.ending {
        // Cancelled, or over a limit, and still polite enough to exit with 0: that is no success.
        Some(Ending::ExitCode(0)) if !outcome.success => FAILED,
        Some(Ending::ExitCode(code)) => u8::try_from(*code).unwrap_or(FAILED),
        Some(Ending::Signal(signal)) => u8::try_from(128 + signal.number).unwrap_or(FAILED),
        Some(Ending::NotStarted(failed)) if failed.step() == Step::Exec => {
            if failed.errno_name == "ENOENT" {
                NOT_FOUND
            } else {
                NOT_EXECUTABLE
            }
        }
        Some(Ending::NotStarted(_) | Ending::Unknown(_)) | None => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{NotStarted, SignalEnding, UnknownEnding};

    fn outcome(ending: Option<Ending>, cause: Cause) -> Outcome {
        let success = matches!(ending, Some(Ending::ExitCode(0))) && cause == Cause::Exited;
        Outcome { ending, cause: cause.into(), success, ..Outcome::default() }
    }

    fn signal(number: i32) -> Option<Ending> {
        Some(Ending::Signal(SignalEnding { number, ..SignalEnding::default() }))
    }

    fn not_started(step: Step, errno_name: &str) -> Option<Ending> {
        Some(Ending::NotStarted(NotStarted {
            step: step.into(),
            errno_name: errno_name.to_owned(),
            ..NotStarted::default()
        }))
    }

    #[test]
    fn outcomes_map_as_shells_do() {
        for (ending, cause, expected) in [
            (Some(Ending::ExitCode(0)), Cause::Exited, 0),
            (Some(Ending::ExitCode(7)), Cause::Exited, 7),
            (Some(Ending::ExitCode(255)), Cause::Exited, 255),
            (signal(15), Cause::Exited, 143),
            (signal(9), Cause::SignalledExternally, 137),
            (signal(9), Cause::OutOfMemory, 137),
            (signal(15), Cause::Cancelled, 143),
            (Some(Ending::ExitCode(3)), Cause::Cancelled, 3),
            (Some(Ending::ExitCode(0)), Cause::Cancelled, 125),
            (Some(Ending::ExitCode(0)), Cause::RunTimeout, 124),
            (signal(9), Cause::IdleTimeout, 124),
            (signal(9), Cause::FirstOutputTimeout, 124),
            (signal(9), Cause::WallTimeout, 124),
            (signal(9), Cause::PauseLimit, 124),
            (not_started(Step::Queue, ""), Cause::QueueTimeout, 124),
            (not_started(Step::Queue, ""), Cause::Cancelled, 125),
            (not_started(Step::Exec, "ENOENT"), Cause::SpawnFailed, 127),
            (not_started(Step::Exec, "EACCES"), Cause::SpawnFailed, 126),
            (not_started(Step::Exec, "ENOEXEC"), Cause::SpawnFailed, 126),
            (not_started(Step::WorkingDirectory, "ENOENT"), Cause::SpawnFailed, 125),
            (signal(15), Cause::ServerShutdown, 125),
            (Some(Ending::Unknown(UnknownEnding::default())), Cause::ServerLost, 125),
            (None, Cause::Exited, 125),
            (Some(Ending::ExitCode(0)), Cause::Unspecified, 125),
            (Some(Ending::ExitCode(-1)), Cause::Exited, 125),
        ] {
            assert_eq!(code(&outcome(ending.clone(), cause), None), expected, "{ending:?} {cause:?}");
        }
    }

    #[test]
    fn interrupts_count_only_when_they_ended_the_run() {
        let cancelled = outcome(signal(15), Cause::Cancelled);
        assert_eq!(code(&cancelled, Some(Interrupt::Int)), 130);
        assert_eq!(code(&cancelled, Some(Interrupt::Term)), 143);
        assert_eq!(code(&outcome(not_started(Step::Queue, ""), Cause::Cancelled), Some(Interrupt::Int)), 130);
        assert_eq!(code(&outcome(Some(Ending::ExitCode(0)), Cause::Exited), Some(Interrupt::Int)), 0);
    }

    #[test]
    fn nothing_but_success_is_zero() {
        for cause in (0..=15).filter_map(|number| Cause::try_from(number).ok()).filter(|cause| *cause != Cause::Exited)
        {
            for ending in [Some(Ending::ExitCode(0)), signal(0), None] {
                assert_ne!(code(&outcome(ending, cause), None), 0, "{cause:?}");
            }
        }
    }
}
