//! Why a command could not do its work, as one sentence that says what to do. Every verb returns it, `cli::run` prints it.

use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::address::Address;
use super::human::printable;
use crate::{config, server, telemetry};

/// Why a command failed. Displays as a sentence for people.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server refused a call, or it could not be made.
    #[error("{}", sentence(.0))]
    Call(Box<Status>),
    /// Nobody answers there, and no server of our own may stand in.
    #[error("no server answers at {address} ({reason}); {}", advice(.address))]
    Unreachable { address: Address, reason: String },
    /// The server in this process.
    #[error("{}", chain(.0))]
    Server(#[from] server::Error),
    /// The configuration.
    #[error("{0}")]
    Configuration(#[from] config::Faults),
    /// Logs.
    #[error("cannot {}", chain(.0))]
    Telemetry(#[from] telemetry::Error),
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// A file, or standard input or output.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// Standard output was closed by its reader.
    #[error("standard output was closed")]
    OutputClosed,
    /// The stream broke and could not be taken up again.
    #[error("{cause}; the outcome is not known, look with: cc-executor attach {id}")]
    Lost { id: String, cause: String },
    /// The user did not want to wait for the end.
    #[error("left without waiting for the end of the run; look with: cc-executor attach {id}")]
    Abandoned { id: String },
}

impl Failure {
    /// What the process exits with: 125, as env(1) and its like do when they themselves fail; 141 and 130 are what a shell
    /// says of SIGPIPE and SIGINT.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Failure::OutputClosed => 141,
            Failure::Abandoned { .. } => 130,
            _ => 125,
        }
    }

    /// Of writing to standard output.
    pub(super) fn output(source: io::Error) -> Failure {
        if source.kind() == io::ErrorKind::BrokenPipe {
            Failure::OutputClosed
        } else {
            Failure::Io { what: "cannot write the output".to_owned(), source }
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::Call(Box::new(status))
    }
}

/// The reason a server of ours gave, for instance `STDIN_NOT_OPEN`.
pub(super) fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().filter(|info| info.domain == "ccexecutor.v1").map(|info| info.reason)
}

/// A status as one sentence: the message, the fields, what to do.
pub(super) fn sentence(status: &Status) -> String {
    let details = status.get_error_details();
    let mut text = match (details.error_info(), status.code()) {
        (None, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled) => {
            format!("the connection to the server broke: {}", status.message())
        }
        (None, Code::Unimplemented) => {
            format!("what answers there is no cc-executor server, or an older one: {}", status.message())
        }
        (None, code) if status.message().is_empty() => code.description().to_lowercase(),
        _ => status.message().to_owned(),
    };
    for violation in details.bad_request().map_or(&[][..], |request| &request.field_violations) {
        if !text.contains(&violation.field) || !text.contains(&violation.description) {
            text.push_str(&format!("; {}: {}", violation.field, violation.description));
        }
    }
    let suggestion = details.error_info().and_then(|info| info.metadata.get("suggestion"));
    if let Some(suggestion) = suggestion.filter(|suggestion| !suggestion.is_empty() && !text.contains(*suggestion)) {
        text.push_str(&format!("; {suggestion}"));
    }
    printable(&text)
}

/// An error with those of its causes that it does not tell by itself.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match text.is_empty() {
            true => cause,
            false if text.contains(&cause) => text,
            false => format!("{text}: {cause}"),
        }
    })
}

fn advice(address: &Address) -> String {
    if address.is_local() {
        "start one with: cc-executor serve".to_owned()
    } else {
        format!("check that `cc-executor serve` runs there, or name another place with --address (it is {address} now)")
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn sentence_holds_message_field_and_suggestion() {
        let mut details = ErrorDetails::with_bad_request_violation("options.timeouts.run", "must be longer than zero");
        let metadata = [("suggestion".to_owned(), "leave it out for no limit".to_owned())];
        details.set_error_info("INVALID_FIELD", "ccexecutor.v1", metadata);
        let status = Status::with_error_details(Code::InvalidArgument, "the request is not valid", details);
        assert_eq!(
            sentence(&status),
            "the request is not valid; options.timeouts.run: must be longer than zero; leave it out for no limit"
        );
        assert_eq!(reason(&status).as_deref(), Some("INVALID_FIELD"));
    }

    #[test]
    fn broken_transport_is_said_to_be_one() {
        assert_eq!(sentence(&Status::unavailable("tcp reset")), "the connection to the server broke: tcp reset");
        assert_eq!(sentence(&Status::new(Code::NotFound, "")), "some requested entity was not found");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(sentence(&Status::not_found("no \u{1b}[2Jrun\n")), "no \\u{1b}[2Jrun\\n");
    }

    #[test]
    fn closed_output_is_no_failure_of_the_service() {
        let broken = Failure::output(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((broken.exit_code(), Failure::Usage(String::new()).exit_code()), (141, 125));
    }
}
