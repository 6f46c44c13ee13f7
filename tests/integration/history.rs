//! What is remembered: records, pages, raw output, exports, statistics, deletion.

use std::collections::BTreeSet;

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::export_records_request::Format;
use cc_executor::proto::get_stats_request::Group;
use cc_executor::proto::{
    self, Cause, Channel, ExecutionEvent, ExecutionOptions, ExecutionState, ExportRecordsRequest, GetStatsRequest,
    ListRecordsRequest, OutputPolicy, ReadOutputRequest, Record, outcome,
};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::Code;

use crate::support::calls::{Client, attach};
use crate::support::run::{With, argv};
use crate::support::{Server, eventually, refusal, shell};

fn labelled(key: &str, value: &str) -> ExecutionOptions {
    ExecutionOptions { labels: [(key.to_owned(), value.to_owned())].into(), ..ExecutionOptions::default() }
}

async fn list(client: &Client, filter: &str, page_size: i32) -> Vec<Record> {
    let mut records = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRecordsRequest { filter: filter.to_owned(), page_size, page_token };
        let page = client.history.clone().list_records(request).await.expect("it is listed").into_inner();
        assert!(page.records.len() <= usize::try_from(page_size).expect("a size"));
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return records;
        }
    }
}

fn ids(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.execution.as_ref().expect("a run").execution_id.as_str()).collect()
}

#[tokio::test]
async fn every_run_that_was_accepted_leaves_a_record_however_it_ended() {
    let server = Server::setup().arg("--max-concurrent").arg("1").start().await;
    let client = server.client().await;
    client.run(shell("exit 0").id("fine")).await;
    client.run(shell("exit 7").id("failed")).await;
    client.run(shell("kill -9 $$").id("killed-itself")).await;
    client.run(argv("no-such-program", &[]).id("not-started")).await;
    client.create(argv("sleep", &["1000"]).id("cancelled")).await;
    client.create(argv("sleep", &["1000"]).id("cancelled-queued")).await;
    client.kill("cancelled-queued").await;
    client.ended("cancelled-queued").await;
    client.until("cancelled", |run| run.state() == ExecutionState::Running).await;
    client.kill("cancelled").await;
    client.ended("cancelled").await;
    let refused = argv("", &[]).id("refused").create();
    refusal(client.executions.clone().create_execution(refused).await);

    let record = async |id: &str| client.record(id).await.unwrap();
    let ending = |record: &Record| {
        let outcome = record.execution.as_ref().unwrap().outcome.clone().unwrap();
        (outcome.cause(), outcome.success, outcome.ending.unwrap())
    };
    assert_eq!(ending(&record("fine").await), (Cause::Exited, true, outcome::Ending::ExitCode(0)));
    assert_eq!(ending(&record("failed").await), (Cause::Exited, false, outcome::Ending::ExitCode(7)));
    let (cause, success, how) = ending(&record("cancelled").await);
    assert_eq!((cause, success), (Cause::Cancelled, false));
    assert!(matches!(how, outcome::Ending::Signal(signal) if signal.number == 9));
    let (cause, _, how) = ending(&record("cancelled-queued").await);
    assert_eq!(cause, Cause::Cancelled);
    assert!(matches!(how, outcome::Ending::NotStarted(it) if it.step() == proto::not_started::Step::Queue));
    let (cause, _, how) = ending(&record("not-started").await);
    assert_eq!(cause, Cause::SpawnFailed);
    assert!(matches!(how, outcome::Ending::NotStarted(it) if it.step() == proto::not_started::Step::Exec));
    assert!(matches!(ending(&record("killed-itself").await).2, outcome::Ending::Signal(signal) if signal.number == 9));
    assert_eq!(refusal(client.record("refused").await).code, Code::NotFound, "what was refused never existed");

    let record = record("failed").await;
    let execution = record.execution.unwrap();
    assert_eq!(execution, client.get("failed").await);
    assert_eq!(execution.state(), ExecutionState::Completed);
    assert_eq!(record.spec_sha256.len(), 32);
    assert!(record.timeouts.iter().any(|clock| clock.name == "grace"));
    let info = client.server.clone().get_server_info(proto::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((record.node, record.build), (info.node, info.build));
    assert!(record.expire_time.unwrap().seconds > execution.complete_time.unwrap().seconds);
}

#[tokio::test]
async fn filters_find_what_they_say() {
    let server = Server::start().await;
    let client = server.client().await;
    client.run(shell("exit 3").id("three").options(labelled("team", "web"))).await;
    client.run(argv("true", &[]).id("fine").options(labelled("team", "data"))).await;
    client.run(argv("no-such-program", &[]).id("missing").options(labelled("other", ""))).await;
    client.run(shell("kill -TERM $$").id("term")).await;
    for (filter, wanted) in [
        ("", vec!["term", "missing", "fine", "three"]),
        ("success = true", vec!["fine"]),
        ("exit_code = 3", vec!["three"]),
        ("exit_code >= 0 AND NOT success = true", vec!["three"]),
        ("cause = SPAWN_FAILED", vec!["missing"]),
        ("cause != EXITED AND cause != SPAWN_FAILED", vec!["term"]),
        ("labels.team = \"web\"", vec!["three"]),
        ("labels.team:*", vec!["fine", "three"]),
        ("labels.team = web OR labels.other:*", vec!["missing", "three"]),
        ("command : \"such-prog\"", vec!["missing"]),
        ("signal = 15", vec!["term"]),
        ("duration > 1h", vec![]),
        ("duration < 1h", vec!["term", "fine", "three"]),
        ("execution_id = fine", vec!["fine"]),
        ("state = COMPLETED AND create_time > 2020-01-01T00:00:00Z", vec!["term", "missing", "fine", "three"]),
        ("create_time < 2020-01-01T00:00:00Z", vec![]),
    ] {
        assert_eq!(ids(&list(&client, filter, 50).await), wanted, "{filter}");
    }
}

#[tokio::test]
async fn pages_hold_every_record_once_while_more_come() {
    let server = Server::start().await;
    let client = server.client().await;
    for number in 0..120 {
        client.create(argv("true", &[]).id(&format!("old-{number:03}"))).await;
    }
    eventually("all have ended", async || {
        let stats = client.history.clone().get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
        (stats.total.unwrap().count == 120).then_some(())
    })
    .await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let more = tokio::spawn({
        let client = client.clone();
        async move {
            while stopped.try_recv().is_err() {
                client.run(argv("true", &[])).await;
            }
        }
    });
    for page_size in [1, 7, 50, 1000] {
        let records = list(&client, "", page_size).await;
        let all: Vec<&str> = ids(&records);
        let old: Vec<&str> = all.iter().copied().filter(|id| id.starts_with("old-")).collect();
        let wanted: Vec<String> = (0..120).rev().map(|number| format!("old-{number:03}")).collect();
        assert_eq!(old, wanted, "newest first, none twice, none left out");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
    let clamped = ListRecordsRequest { page_size: 5000, ..ListRecordsRequest::default() };
    assert!(client.history.clone().list_records(clamped).await.unwrap().into_inner().records.len() >= 120);
    let usual = client.history.clone().list_records(ListRecordsRequest::default()).await.unwrap().into_inner();
    assert_eq!(usual.records.len(), 50);
    stop.send(()).unwrap();
    more.await.unwrap();
}

#[tokio::test]
async fn raw_output_is_read_from_any_offset_up_to_any_limit() {
    let server = Server::start().await;
    let client = server.client().await;
    client.run(shell("seq 1 50000; echo oops >&2").id("numbers")).await;
    let wanted: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
    let wanted = wanted.as_bytes();
    let total = wanted.len() as u64;
    let read = |channel: Channel, offset, limit| ReadOutputRequest {
        execution_id: "numbers".to_owned(),
        channel: channel.into(),
        offset,
        limit,
    };
    assert!(client.output(read(Channel::Unspecified, 0, None)).await.unwrap() == wanted);
    assert_eq!(client.output(read(Channel::Stderr, 0, None)).await.unwrap(), b"oops\n");
    for (offset, limit) in [(0, 1), (1, 65_537), (100_000, 100_000), (total - 1, 10), (total, 5), (77, 0)] {
        let start = usize::try_from(offset).unwrap();
        let end = wanted.len().min(start + usize::try_from(limit).unwrap());
        let bytes = client.output(read(Channel::Stdout, offset, Some(limit))).await.unwrap();
        assert!(bytes == wanted[start..end], "{limit} bytes from {offset}");
    }
    let beyond = refusal(client.output(read(Channel::Stdout, total + 1, None)).await);
    assert_eq!(beyond.kind(), (Code::OutOfRange, "OUT_OF_RANGE"));
    assert_eq!(beyond.metadata["stdout"], format!("0-{total}"));
}

#[tokio::test]
async fn output_that_is_not_kept_is_out_of_range() {
    let server = Server::start().await;
    let client = server.client().await;
    let options = |policy: OutputPolicy| ExecutionOptions {
        limits: Some(proto::Limits { output_bytes: Some(8192), ..Default::default() }),
        on_output_limit: policy.into(),
        ..ExecutionOptions::default()
    };
    let read = |id: &str, offset| ReadOutputRequest { execution_id: id.to_owned(), offset, ..Default::default() };
    for (id, policy) in [("oldest", OutputPolicy::DropOldest), ("newest", OutputPolicy::DropNewest)] {
        let seen = client.run(shell("seq 1 20000").id(id).options(options(policy))).await;
        let summary = seen.summary(Channel::Stdout);
        let (first, kept, total) = (summary.first_kept_offset, summary.bytes_kept, summary.bytes_total);
        let bytes = client.output(read(id, first)).await.unwrap();
        assert_eq!(bytes.len() as u64, kept, "{id}");
        let gone = if id == "oldest" { first - 1 } else { kept };
        for offset in [gone, total + 1] {
            let refused = refusal(client.output(read(id, offset)).await);
            assert_eq!(refused.kind(), (Code::OutOfRange, "OUT_OF_RANGE"), "{id} from {offset}");
            assert_eq!(refused.metadata["stdout"], format!("{first}-{}", first + kept), "{id}");
        }
    }
}

#[tokio::test]
async fn output_of_a_run_that_goes_on_is_read_as_far_as_it_has_come() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut events = client.execute(shell("echo so far; exec sleep 1000").id("on")).await;
    events.until(|event| matches!(event, Event::Output(_)).then_some(())).await;
    let request = ReadOutputRequest { execution_id: "on".to_owned(), offset: 3, ..Default::default() };
    assert_eq!(client.output(request).await.unwrap(), b"far\n");
    client.kill("on").await;
}

/// The bytes of an export, and with each chunk's token what comes behind it.
async fn export(client: &Client, request: ExportRecordsRequest) -> (Vec<u8>, Vec<(String, usize)>) {
    let mut chunks = client.history.clone().export_records(request).await.expect("it is accepted").into_inner();
    let (mut bytes, mut tokens) = (Vec::new(), Vec::new());
    while let Some(chunk) = chunks.message().await.expect("the stream works") {
        assert!(chunk.data.ends_with(b"\n"), "whole lines");
        bytes.extend_from_slice(&chunk.data);
        tokens.push((chunk.resume_token, bytes.len()));
    }
    (bytes, tokens)
}

/// A line of canonical JSON as the message it is.
fn parsed<M: Message + Default>(name: &str, line: &str) -> M {
    let pool = DescriptorPool::decode(cc_executor::proto::DESCRIPTORS).expect("our descriptors");
    let kind = pool.get_message_by_name(&format!("ccexecutor.v1.{name}")).expect("a message of ours");
    let mut json = serde_json::Deserializer::from_str(line);
    DynamicMessage::deserialize(kind, &mut json).expect("canonical JSON").transcode_to().expect("the same schema")
}

#[tokio::test]
async fn exports_hold_everything_and_go_on_behind_every_chunk() {
    let server = Server::start().await;
    let client = server.client().await;
    let line = "x".repeat(2000);
    for number in 0..70 {
        client.create(argv("echo", &["a \"quoted\", text\n", &line]).id(&format!("run-{number}"))).await;
    }
    client.run(shell("seq 1 200000; seq 1 100 >&2").id("large").options(labelled("kind", "large"))).await;
    let mut records = Vec::new();
    eventually("all have ended", async || {
        records = list(&client, "", 1000).await;
        (records.len() == 71).then_some(())
    })
    .await;

    let request = |format: Format| ExportRecordsRequest { format: format.into(), ..Default::default() };
    let (json, _) = export(&client, ExportRecordsRequest::default()).await;
    let exported: Vec<Record> = std::str::from_utf8(&json).unwrap().lines().map(|it| parsed("Record", it)).collect();
    assert!(exported == records, "one record a line, newest first");

    let (table, _) = export(&client, request(Format::Csv)).await;
    let mut reader = csv::Reader::from_reader(table.as_slice());
    let id = reader.headers().unwrap().iter().position(|name| name == "execution_id").unwrap();
    let rows: Vec<String> = reader.records().map(|row| row.unwrap()[id].to_owned()).collect();
    assert_eq!(rows, ids(&records));
    assert!(table.windows(2).any(|pair| pair == b"\r\n"), "as RFC 4180 wants it");

    let (text, _) = export(&client, request(Format::Events)).await;
    let mut events: Vec<ExecutionEvent> =
        std::str::from_utf8(&text).unwrap().lines().map(|it| parsed("ExecutionEvent", it)).collect();
    events.retain(|event| event.execution_id == "large");
    let seen = client.attach(attach("large")).await.whole();
    let logged: Vec<_> = seen.0.iter().filter(|event| event.cursor.is_some()).cloned().collect();
    let bytes = |events: Vec<ExecutionEvent>| crate::support::run::Seen(events).bytes(Channel::Stdout);
    assert_eq!(events.last(), logged.last());
    assert!(bytes(events) == bytes(logged), "output is in it");

    for format in [Format::JsonLines, Format::Csv, Format::Events] {
        let (whole, tokens) = export(&client, request(format)).await;
        assert!(tokens.len() > 2, "{format:?} takes {} chunks", tokens.len());
        for (resume_token, end) in tokens {
            let (rest, _) = export(&client, ExportRecordsRequest { resume_token, ..request(format) }).await;
            assert!(rest == whole[end..], "{format:?} behind byte {end}");
        }
    }
    let filter = "labels.kind:*".to_owned();
    let (one, _) = export(&client, ExportRecordsRequest { filter, ..ExportRecordsRequest::default() }).await;
    assert_eq!(one.iter().filter(|byte| **byte == b'\n').count(), 1);
}

#[tokio::test]
async fn statistics_count_and_group() {
    let server = Server::start().await;
    let client = server.client().await;
    for (script, team) in [("echo 12345", "web"), ("exit 1", "web"), ("true", "data")] {
        client.run(shell(script).options(labelled("team", team))).await;
    }
    client.run(argv("no-such-program", &[])).await;
    let stats = async |filter: &str, group: Option<Group>| {
        let request = GetStatsRequest { filter: filter.to_owned(), group };
        client.history.clone().get_stats(request).await.unwrap().into_inner()
    };
    let all = stats("", None).await;
    let total = all.total.unwrap();
    assert_eq!((total.count, total.succeeded, total.output_bytes), (4, 2, 6));
    let causes: BTreeSet<(Cause, u64)> = total.causes.iter().map(|count| (count.cause(), count.count)).collect();
    assert_eq!(causes, [(Cause::Exited, 3), (Cause::SpawnFailed, 1)].into());
    let quantiles = [total.p50, total.p90, total.p99, total.max].map(|it| it.map(|it| (it.seconds, it.nanos)).unwrap());
    assert!(quantiles.is_sorted() && quantiles[0] > (0, 0), "{quantiles:?}");
    assert!(all.groups.is_empty());
    let by_team = stats("", Some(Group::ByLabel("team".to_owned()))).await;
    let groups: Vec<(&str, u64)> =
        by_team.groups.iter().map(|group| (group.key.as_str(), group.stats.as_ref().unwrap().count)).collect();
    assert_eq!(groups[0], ("web", 2), "largest first: {groups:?}");
    assert!(groups.contains(&("data", 1)), "{groups:?}");
    let by_command = stats("cause = SPAWN_FAILED", Some(Group::ByCommand(true))).await;
    assert_eq!(by_command.groups[0].key, "no-such-program");
    let none = stats("exit_code = 99", None).await.total.unwrap();
    assert_eq!((none.count, none.p50), (0, None));
}

#[tokio::test]
async fn a_deleted_record_is_gone_with_its_output_and_its_id_stays_taken() {
    let server = Server::start().await;
    let client = server.client().await;
    let request = || shell("seq 1 100000").id("gone");
    client.run(request()).await;
    client.run(shell("true").id("stays")).await;
    let delete = || proto::DeleteRecordRequest { execution_id: "gone".to_owned() };
    let before = server.disk_usage("spool");
    let freed = client.history.clone().delete_record(delete()).await.unwrap().into_inner().freed_bytes;
    assert!(freed >= 588_895, "{freed}");
    assert!(server.disk_usage("spool") + 500_000 < before);
    let read = ReadOutputRequest { execution_id: "gone".to_owned(), ..Default::default() };
    let get = proto::GetExecutionRequest { execution_id: "gone".to_owned() };
    for refused in [
        refusal(client.record("gone").await),
        refusal(client.executions.clone().get_execution(get).await),
        refusal(client.executions.clone().attach(attach("gone")).await),
        refusal(client.output(read).await),
        refusal(client.history.clone().delete_record(delete()).await),
    ] {
        assert_eq!(refused.kind(), (Code::NotFound, "EXECUTION_NOT_FOUND"));
    }
    assert_eq!(ids(&list(&client, "", 50).await), ["stays"]);
    for request in [request(), shell("true").id("gone")] {
        let refused = refusal(client.executions.clone().execute(request).await);
        assert_eq!(refused.kind(), (Code::AlreadyExists, "EXECUTION_ID_TAKEN"));
    }
}

#[tokio::test]
async fn a_record_can_be_read_and_deleted_as_soon_as_the_end_is_told() {
    let server = Server::start().await;
    let client = server.client().await;
    for number in 0..20 {
        let id = format!("quick-{number}");
        let seen = client.run(shell("echo x").id(&id)).await;
        let record = client.record(&id).await.unwrap();
        assert_eq!(record.execution.unwrap().outcome.as_ref(), Some(seen.outcome()));
        let delete = proto::DeleteRecordRequest { execution_id: id.clone() };
        client.history.clone().delete_record(delete).await.unwrap();
        assert_eq!(refusal(client.executions.clone().attach(attach(&id)).await).code, Code::NotFound);
    }
    assert!(list(&client, "", 50).await.is_empty());
}
