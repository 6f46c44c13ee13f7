//! Why a run ended, from what is known of it. Pure.

use nix::sys::signal::Signal;

use super::outcome::{Cause, Ending};

/// What is known when a process has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What the server began to do to it, if anything.
    pub ordered: Option<Cause>,
    /// The signals callers sent it by hand.
    pub sent_by_callers: Vec<i32>,
    /// Whether the kernel killed something of it for memory.
    pub out_of_memory: bool,
}

/// The cause of `ending`.
#[must_use]
pub fn cause(ending: &Ending, evidence: &Evidence) -> Cause {
    match (ending, evidence.ordered) {
        (Ending::NotStarted(_), Some(ordered)) => ordered,
        (Ending::NotStarted(_), None) => Cause::SpawnFailed,
        (Ending::Signaled { number: libc::SIGKILL, .. }, None) if evidence.out_of_memory => Cause::OutOfMemory,
        (_, Some(ordered)) => ordered,
        (Ending::Exited(_), None) => Cause::Exited,
        (Ending::Signaled { number, .. }, None) if evidence.sent_by_callers.contains(number) => Cause::Cancelled,
        (Ending::Signaled { number, .. }, None) if is_own_fault(*number) => Cause::Exited,
        (Ending::Signaled { .. } | Ending::Unknown { .. }, None) => Cause::SignalledExternally,
    }
}

/// Signals a process gets for what it did itself.
fn is_own_fault(number: i32) -> bool {
    use Signal::{SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGILL, SIGPIPE, SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU, SIGXFSZ};
    let own = [SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGILL, SIGPIPE, SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU, SIGXFSZ];
    own.into_iter().any(|signal| signal as i32 == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed() -> Ending {
        Ending::Signaled { number: libc::SIGKILL, core_dumped: false }
    }

    fn evidence(ordered: Option<Cause>, sent: &[i32], out_of_memory: bool) -> Evidence {
        Evidence { ordered, sent_by_callers: sent.to_vec(), out_of_memory }
    }

    #[test]
    fn out_of_memory_needs_evidence() {
        assert_eq!(cause(&killed(), &evidence(None, &[], true)), Cause::OutOfMemory);
        assert_eq!(cause(&killed(), &evidence(None, &[], false)), Cause::SignalledExternally);
        assert_eq!(cause(&killed(), &evidence(Some(Cause::Cancelled), &[], true)), Cause::Cancelled);
    }

    #[test]
    fn what_was_ordered_is_the_cause_even_when_the_process_exits_zero() {
        assert_eq!(cause(&Ending::Exited(0), &evidence(Some(Cause::RunTimeout), &[], false)), Cause::RunTimeout);
    }

    #[test]
    fn a_crash_is_the_process_own_doing() {
        let crash = Ending::Signaled { number: libc::SIGSEGV, core_dumped: true };
        assert_eq!(cause(&crash, &evidence(None, &[], false)), Cause::Exited);
        assert_eq!(cause(&crash, &evidence(None, &[libc::SIGSEGV], false)), Cause::Cancelled);
    }
}
