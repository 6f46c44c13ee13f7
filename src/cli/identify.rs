//! Ids as people type them: whole, or any beginning or end that only one run has.

use tonic::Code;

use super::connection::Connection;
use super::failure::Failure;
use crate::proto::{Execution, GetExecutionRequest, ListExecutionsRequest};

/// A filter that every run matches, those that ended too.
pub(super) const EVERY: &str = "state = COMPLETED OR state != COMPLETED";

/// The run, as it is now. Looks through the newest 1,000 runs when there is none of exactly this id.
pub(super) async fn find(connection: &Connection, text: &str) -> Result<Execution, Failure> {
    let mut client = connection.executions();
    let request = GetExecutionRequest { execution_id: text.to_owned() };
    let missing = match client.get_execution(request).await {
        Ok(response) => return Ok(response.into_inner().execution.unwrap_or_default()),
        Err(status) if status.code() == Code::NotFound => status,
        Err(status) => return Err(status.into()),
    };
    let request =
        ListExecutionsRequest { filter: EVERY.to_owned(), page_size: 1_000, ..ListExecutionsRequest::default() };
    let all = client.list_executions(request).await?.into_inner().executions;
    match only(text, all) {
        Ok(found) => Ok(found),
        Err(ids) if ids.is_empty() => Err(missing.into()),
        Err(ids) => Err(Failure::Usage(format!("several runs have ids like {text}: {}", ids.join(", ")))),
    }
}

/// The id of the run.
pub(super) async fn id(connection: &Connection, text: &str) -> Result<String, Failure> {
    find(connection, text).await.map(|execution| execution.execution_id)
}

/// The only run whose id begins or ends so, else the ids of all of them.
fn only(text: &str, all: Vec<Execution>) -> Result<Execution, Vec<String>> {
    let like = |id: &str| !text.is_empty() && (id.starts_with(text) || id.ends_with(text));
    let mut found: Vec<Execution> = all.into_iter().filter(|execution| like(&execution.execution_id)).collect();
    match found.pop() {
        Some(execution) if found.is_empty() => Ok(execution),
        last => Err(found.into_iter().chain(last).map(|execution| execution.execution_id).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_or_end_is_enough_when_it_is_the_only_one() {
        let all = || {
            ["build-1", "build-2", "test-2"].map(|id| Execution { execution_id: id.to_owned(), ..Execution::default() })
        };
        let only = |text| only(text, all().into()).map(|execution| execution.execution_id);
        assert_eq!(only("te"), Ok("test-2".to_owned()));
        assert_eq!(only("d-2"), Ok("build-2".to_owned()));
        assert_eq!(only("build"), Err(vec!["build-1".to_owned(), "build-2".to_owned()]));
        assert_eq!(only("-2"), Err(vec!["build-2".to_owned(), "test-2".to_owned()]));
        assert_eq!(only("uild"), Err(vec![]));
        assert_eq!(only(""), Err(vec![]));
    }
}
