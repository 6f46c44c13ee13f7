//! How often, and after which wait, a call that failed is made again. Knows statuses, not what the calls do.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::failure::reason;

/// The tries that are left. Progress renews them.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    tries: u32,
    first: Duration,
    failed: u32,
}

/// The longest wait we choose ourselves.
const LONGEST: Duration = Duration::from_secs(5);
/// The longest wait a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(30);

impl Default for Patience {
    /// Eight tries within about twenty seconds: a server that restarts is back by then.
    fn default() -> Patience {
        Patience::new(8, Duration::from_millis(200))
    }
}

impl Patience {
    /// So many tries, the first after about so long.
    pub(super) fn new(tries: u32, first: Duration) -> Patience {
        Patience { tries, first, failed: 0 }
    }

    /// Something went well: all tries are there again.
    pub(super) fn renew(&mut self) {
        self.failed = 0;
    }

    /// How long to wait before the next try; `None` when there is no use in one.
    pub(super) fn after(&mut self, status: &Status) -> Option<Duration> {
        if is_final(status) || self.failed == self.tries {
            return None;
        }
        let wait = self.first.saturating_mul(1 << self.failed.min(10)).min(LONGEST).mul_f64(0.5 + fastrand::f64());
        self.failed += 1;
        let asked = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
        Some(asked.map_or(wait, |asked| asked.min(LONGEST_ASKED)))
    }

    /// Waits before the next try, or gives the status back when there is no use in one.
    pub(super) async fn wait(&mut self, status: Status) -> Result<(), Status> {
        let wait = self.after(&status).ok_or(status)?;
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Whether the same call would be answered the same again.
pub(super) fn is_final(status: &Status) -> bool {
    match status.code() {
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss => true,
        Code::ResourceExhausted => reason(status).is_none_or(|reason| reason == "REQUEST_TOO_LARGE"),
        Code::Internal => reason(status).is_some(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Aborted | Code::DeadlineExceeded => false,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let mut patience = Patience::new(3, Duration::from_millis(100));
        let gone = Status::unavailable("gone");
        let waits: Vec<_> = std::iter::from_fn(|| patience.after(&gone)).collect();
        assert_eq!(waits.len(), 3);
        for (wait, middle) in waits.iter().zip([100, 200, 400]) {
            assert!((middle / 2..=middle * 3 / 2).contains(&wait.as_millis()), "{wait:?}");
        }
        patience.renew();
        assert!(patience.after(&gone).is_some());
    }

    #[test]
    fn server_may_ask_for_another_wait_within_reason() {
        let asked = |seconds| {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds)));
            Patience::default().after(&Status::with_error_details(Code::Unavailable, "later", details))
        };
        assert_eq!(asked(3), Some(Duration::from_secs(3)));
        assert_eq!(asked(3_600), Some(LONGEST_ASKED));
    }

    #[test]
    fn refusals_are_not_asked_again() {
        for status in
            [Status::invalid_argument(""), Status::not_found(""), Status::already_exists(""), Status::data_loss("")]
        {
            assert_eq!(Patience::default().after(&status), None, "{status:?}");
        }
        let refused = |code, reason: &str| {
            is_final(&Status::with_error_details(code, "", ErrorDetails::with_error_info(reason, "ccexecutor.v1", [])))
        };
        assert!(refused(Code::ResourceExhausted, "REQUEST_TOO_LARGE"));
        assert!(!refused(Code::ResourceExhausted, "QUEUE_FULL"));
        assert!(!refused(Code::Aborted, "WATCHER_TOO_SLOW"));
        assert!(refused(Code::Internal, "INTERNAL"));
        assert!(!is_final(&Status::internal("h2 protocol error")));
    }
}
