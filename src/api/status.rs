//! Every error of the domain as a gRPC status: one table. Messages stay below 1 KiB and never carry output.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use crate::execution::event::Cursor;
use crate::execution::handle::ControlError;
use crate::execution::input::InputError;
use crate::execution::log::LogError;
use crate::history::filter::FilterError;
use crate::history::page::PageTokenError;
use crate::history::{self};
use crate::proto::ErrorReason;
use crate::supervisor::{Fault, FindError, Rejection, StartError};

/// The domain of all our reasons.
const DOMAIN: &str = "ccexecutor.v1";

/// Some HTTP/2 clients fail on long trailers.
const LONGEST_MESSAGE: usize = 1000;

/// What BadRequest may hold for the same reason: each description, and all of them, bytes.
const LONGEST_DESCRIPTION: usize = 300;
const LONGEST_DESCRIPTIONS: usize = 3000;

/// When to try again what is away for now.
const RETRY: Duration = Duration::from_secs(1);

/// When to try again what waits for a reader.
const RETRY_STDIN: Duration = Duration::from_millis(100);

/// A refusal in the making.
struct Refusal {
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
}

fn refuse(code: Code, reason: ErrorReason, message: impl ToString) -> Refusal {
    let message = shortened(message.to_string(), LONGEST_MESSAGE);
    Refusal { code, reason, message, metadata: HashMap::new(), details: ErrorDetails::new() }
}

impl Refusal {
    fn suggest(self, what: &str) -> Refusal {
        self.with("suggestion", what)
    }

    fn with(mut self, key: &str, value: impl ToString) -> Refusal {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    fn retry_after(mut self, delay: Duration) -> Refusal {
        self.details.set_retry_info(Some(delay));
        self
    }

    fn violations(mut self, faults: Vec<Fault>) -> Refusal {
        let (mut room, mut left_out) = (LONGEST_DESCRIPTIONS, faults.len());
        for Fault { field, description } in faults {
            let (field, description) =
                (shortened(field, LONGEST_DESCRIPTION), shortened(description, LONGEST_DESCRIPTION));
            let Some(less) = room.checked_sub(field.len() + description.len()) else { break };
            room = less;
            left_out -= 1;
            self.details.add_bad_request_violation(field, description);
        }
        if left_out > 0 {
            self.details.add_bad_request_violation("request", format!("{left_out} more faults are not listed"));
        }
        self
    }

    fn precondition(mut self, kind: &str, subject: &str) -> Refusal {
        self.details.add_precondition_failure_violation(kind, subject, self.message.clone());
        self
    }

    fn quota(mut self, subject: &str) -> Refusal {
        self.details.add_quota_failure_violation(subject, self.message.clone());
        self
    }

    fn resource(mut self, id: impl ToString) -> Refusal {
        self.details.set_resource_info("ccexecutor.v1.Execution", id.to_string(), "", "");
        self
    }

    fn into_status(mut self) -> Status {
        let reason = self.reason.as_str_name().trim_start_matches("ERROR_REASON_");
        self.details.set_error_info(reason, DOMAIN, self.metadata);
        Status::with_error_details(self.code, self.message, self.details)
    }
}

fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}

/// Malformed or unacceptable fields.
pub(crate) fn invalid(faults: Vec<Fault>) -> Status {
    let message = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.description)).collect::<Vec<_>>();
    refuse(Code::InvalidArgument, ErrorReason::InvalidField, message.join("; "))
        .suggest("correct the fields named in BadRequest")
        .violations(faults)
        .into_status()
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        invalid(vec![fault])
    }
}

impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Status {
        let message = rejection.to_string();
        match rejection {
            Rejection::Invalid(faults) => invalid(faults),
            Rejection::NotEnforceable(limit) => {
                refuse(Code::Unimplemented, ErrorReason::LimitNotEnforceable, message)
                    .with("limit", limit)
                    .suggest("leave the limit out, or give the server a delegated cgroup v2 with this controller; GetServerInfo lists enforceable_limits")
                    .into_status()
            }
            Rejection::NeedsRoot(_) => refuse(Code::FailedPrecondition, ErrorReason::NeedsRoot, message)
                .precondition("NEEDS_ROOT", "options.user")
                .suggest("leave options.user out, or run the server as root")
                .into_status(),
        }
    }
}

impl From<StartError> for Status {
    fn from(error: StartError) -> Status {
        let message = error.to_string();
        match error {
            StartError::Rejected(rejection) => rejection.into(),
            StartError::Find(error) => error.into(),
            StartError::IdTaken(id) => refuse(Code::AlreadyExists, ErrorReason::ExecutionIdTaken, message)
                .resource(id)
                .suggest("choose another execution_id, or send exactly the same command and options to attach")
                .into_status(),
            StartError::QueueFull(_) => refuse(Code::ResourceExhausted, ErrorReason::QueueFull, message)
                .quota("queue")
                .retry_after(RETRY)
                .suggest("try again later, or raise max_queued")
                .into_status(),
            StartError::ShuttingDown => refuse(Code::Unavailable, ErrorReason::ShuttingDown, message)
                .retry_after(RETRY)
                .suggest("try again: another replica, or this one after its restart, takes it")
                .into_status(),
        }
    }
}

impl From<FindError> for Status {
    fn from(error: FindError) -> Status {
        let message = error.to_string();
        match error {
            FindError::NotFound(id) => refuse(Code::NotFound, ErrorReason::ExecutionNotFound, message)
                .resource(id)
                .suggest("check the id with ListExecutions or ListRecords; retention may have removed it")
                .into_status(),
            FindError::OwnedElsewhere(id) => refuse(Code::Unavailable, ErrorReason::OwnedElsewhere, message)
                .resource(id)
                .retry_after(RETRY)
                .suggest("ask the server that started it, or wait for its end")
                .into_status(),
            FindError::NotEnded(id) => refuse(Code::FailedPrecondition, ErrorReason::WrongState, message)
                .resource(id)
                .precondition("STATE", "execution_id")
                .suggest("wait for its end with WaitExecution, or cancel it first")
                .into_status(),
            FindError::History(error) => error.into(),
            FindError::Log(error) => error.into(),
        }
    }
}

impl From<history::Error> for Status {
    fn from(error: history::Error) -> Status {
        match error {
            history::Error::Unavailable(source) => {
                tracing::warn!(error = %source, "the history store is unavailable");
                refuse(Code::Unavailable, ErrorReason::StoreUnavailable, "the history store cannot be reached")
                    .retry_after(RETRY)
                    .suggest("try again; the server's log says what is wrong with the store")
                    .into_status()
            }
            history::Error::Corrupt { id, source } => {
                tracing::error!(%id, error = %source, "a record is damaged");
                refuse(Code::DataLoss, ErrorReason::Corrupt, format!("the record of {id} fails its checksum"))
                    .resource(id)
                    .suggest("restore the state directory from a backup, or delete the record")
                    .into_status()
            }
            history::Error::NotEnded { id } => FindError::NotEnded(id).into(),
            history::Error::Unstorable { id, source } => invalid(vec![Fault {
                field: "execution".to_owned(),
                description: format!("{id} cannot be stored: {source}"),
            }]),
        }
    }
}

impl From<LogError> for Status {
    fn from(error: LogError) -> Status {
        let message = error.to_string();
        match error {
            LogError::NotFound => {
                refuse(Code::DataLoss, ErrorReason::Corrupt, "the output of this execution is gone from the spool")
                    .suggest("its record is still in the history; its output is lost")
                    .into_status()
            }
            LogError::OutOfRange { valid } => refuse(Code::OutOfRange, ErrorReason::OutOfRange, message)
                .with("first_seq", valid.events.0)
                .with("last_seq", valid.events.1)
                .with("stdout", range(&valid.offsets[0]))
                .with("stderr", range(&valid.offsets[1]))
                .with("terminal", range(&valid.offsets[2]))
                .suggest("begin within the valid range")
                .into_status(),
            LogError::Corrupt => refuse(Code::DataLoss, ErrorReason::Corrupt, message)
                .suggest("restore the state directory from a backup")
                .into_status(),
            LogError::Io(_) | LogError::Sealed | LogError::Exists => {
                refuse(Code::Unavailable, ErrorReason::StoreUnavailable, message)
                    .retry_after(RETRY)
                    .suggest("the spool cannot be read; the server's log says why")
                    .into_status()
            }
        }
    }
}

impl From<ControlError> for Status {
    fn from(error: ControlError) -> Status {
        let message = error.to_string();
        match error {
            ControlError::Denied { state, .. } => refuse(Code::FailedPrecondition, ErrorReason::WrongState, message)
                .precondition("STATE", state.name())
                .with("state", state.name())
                .suggest("wait for another state, then try again")
                .into_status(),
            ControlError::StateMismatch { state } => refuse(Code::Aborted, ErrorReason::StateMismatch, message)
                .with("state", state.name())
                .suggest("look at the state, then decide again")
                .into_status(),
            ControlError::NotATerminal => refuse(Code::FailedPrecondition, ErrorReason::NotATerminal, message)
                .precondition("TERMINAL", "execution_id")
                .suggest("start the run with options.terminal")
                .into_status(),
            ControlError::NoSuchClock => refuse(Code::FailedPrecondition, ErrorReason::WrongState, message)
                .precondition("TIMEOUT", "extend")
                .suggest("only a timeout that the run has can be extended")
                .into_status(),
            ControlError::RequestIdReused => invalid(vec![Fault {
                field: "request_id".to_owned(),
                description: "was used for another request to this run; choose a new one".to_owned(),
            }]),
            ControlError::Input(error) => error.into(),
            ControlError::Failed(_) => internal(&message),
        }
    }
}

impl From<InputError> for Status {
    fn from(error: InputError) -> Status {
        let message = error.to_string();
        match error {
            InputError::Hole { next_offset, .. } => refuse(Code::OutOfRange, ErrorReason::StdinHole, message)
                .with("next_offset", next_offset)
                .suggest("send the bytes from next_offset on")
                .into_status(),
            InputError::Mismatch { offset } => refuse(Code::Aborted, ErrorReason::StdinMismatch, message)
                .with("offset", offset)
                .suggest("two writers feed this run, or a retry changed its bytes")
                .into_status(),
            InputError::WindowFull { next_offset, .. } => {
                refuse(Code::ResourceExhausted, ErrorReason::StdinWindowFull, message)
                    .quota("stdin")
                    .with("next_offset", next_offset)
                    .retry_after(RETRY_STDIN)
                    .suggest("try again from next_offset, or use StreamStdin, which waits")
                    .into_status()
            }
            InputError::NotOpen => refuse(Code::FailedPrecondition, ErrorReason::StdinNotOpen, message)
                .precondition("STDIN", "execution_id")
                .suggest("start the run with stdin mode PIPE, and write before end of file")
                .into_status(),
        }
    }
}

/// A range as metadata: the first byte, and the one behind the last.
fn range(range: &std::ops::Range<u64>) -> String {
    format!("{}-{}", range.start, range.end)
}

/// A filter that does not parse.
pub(crate) fn invalid_filter(error: &FilterError) -> Status {
    refuse(Code::InvalidArgument, ErrorReason::InvalidFilter, format!("filter: {error}"))
        .suggest("see ListRecordsRequest.filter for columns and operators")
        .violations(vec![Fault { field: "filter".to_owned(), description: error.to_string() }])
        .into_status()
}

/// A page or resume token that is not ours.
pub(crate) fn invalid_token(field: &str, error: &PageTokenError) -> Status {
    refuse(Code::InvalidArgument, ErrorReason::InvalidPageToken, format!("{field}: {error}"))
        .suggest("send the token of the former answer together with the same filter, or none")
        .violations(vec![Fault { field: field.to_owned(), description: error.to_string() }])
        .into_status()
}

/// An export that had to leave something out.
pub(crate) fn partly_corrupt(ids: &[String]) -> Status {
    let shown = ids.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    refuse(Code::DataLoss, ErrorReason::Corrupt, format!("{} runs could not be read whole: {shown}", ids.len()))
        .suggest("everything else has been exported; restore the state directory, or delete these records")
        .into_status()
}

/// A watcher that took nothing for too long.
pub(crate) fn too_slow(cursor: Option<Cursor>) -> Status {
    let refusal =
        refuse(Code::Aborted, ErrorReason::WatcherTooSlow, "the watcher took nothing for too long and was cut");
    let refusal = match cursor {
        Some(cursor) => refusal.with("cursor_epoch", cursor.epoch).with("cursor_seq", cursor.seq),
        None => refusal,
    };
    refusal.suggest("attach again from the cursor").into_status()
}

/// A request that is larger than allowed.
pub(crate) fn too_large(limit: usize) -> Status {
    refuse(Code::ResourceExhausted, ErrorReason::RequestTooLarge, format!("the request is larger than {limit} bytes"))
        .quota("request")
        .retry_after(RETRY)
        .suggest("send input in pieces with StreamStdin")
        .into_status()
}

/// A request whose bytes are not a message.
pub(crate) fn malformed() -> Status {
    invalid(vec![Fault {
        field: "request".to_owned(),
        description: "is not a valid protobuf message of this method".to_owned(),
    }])
}

/// A call whose own deadline has passed.
pub(crate) fn too_late() -> Status {
    Status::deadline_exceeded("the deadline of this call has passed; what it asked for goes on")
}

/// A bug. The incident id is in the log too.
pub(crate) fn internal(what: &str) -> Status {
    let incident = Uuid::new_v4();
    tracing::error!(%incident, what, "internal error");
    refuse(Code::Internal, ErrorReason::Internal, format!("internal error, incident {incident}"))
        .with("incident_id", incident)
        .suggest("report it with the server's log around the incident id")
        .into_status()
}
