//! What a refused call says, and the rules every refusal keeps.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A refused call, read from its status and details.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) metadata: HashMap<String, String>,
    /// The fields that BadRequest names.
    pub(crate) fields: Vec<String>,
    pub(crate) retry: Option<Duration>,
}

/// The refusal of a call that must have been refused.
pub(crate) fn refusal<T>(answer: Result<T, Status>) -> Refusal {
    match answer {
        Ok(_) => panic!("the call was not refused"),
        Err(status) => Refusal::of(&status),
    }
}

impl Refusal {
    /// Reads it, and holds it to what is promised of all of them.
    pub(crate) fn of(status: &Status) -> Refusal {
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
        let refusal = Refusal {
            code: status.code(),
            reason: info.reason.clone(),
            metadata: info.metadata.clone(),
            fields: details
                .bad_request()
                .map(|bad| bad.field_violations.iter().map(|violation| violation.field.clone()).collect())
                .unwrap_or_default(),
            retry: details.retry_info().and_then(|retry| retry.retry_delay),
        };
        assert_ne!(refusal.code, Code::Unknown, "{status:?}");
        assert_eq!(info.domain, "ccexecutor.v1");
        assert!(status.message().len() < 1024, "a message of {} bytes", status.message().len());
        assert!(refusal.metadata.get("suggestion").is_some_and(|text| !text.is_empty()), "{refusal:?}");
        let comes_back = matches!(refusal.code, Code::Unavailable | Code::ResourceExhausted);
        assert_eq!(comes_back, refusal.retry.is_some(), "{refusal:?}");
        assert_eq!(refusal.code == Code::InvalidArgument, !refusal.fields.is_empty(), "{refusal:?}");
        refusal
    }

    /// Its code and reason, in one word to compare.
    pub(crate) fn kind(&self) -> (Code, &str) {
        (self.code, &self.reason)
    }
}
