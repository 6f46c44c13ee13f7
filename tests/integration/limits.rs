//! Limits are enforced or refused; a full store is dealt with as the policy says, with exact totals.

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{
    Cause, Channel, ExecutionOptions, ExecutionState, GetServerInfoRequest, Limits, OutputPolicy, Timeouts, gap,
    warning,
};
use sha2::{Digest, Sha256};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::life::{Life, cancel, fate, millis};
use crate::support::run::{Seen, With, argv};
use crate::support::{Server, on_every_rung, shell};

/// Output kept, bytes.
const ROOM: u64 = 64 << 10;

fn limited(limits: Limits) -> ExecutionOptions {
    ExecutionOptions { limits: Some(limits), ..ExecutionOptions::default() }
}

fn room(policy: OutputPolicy) -> ExecutionOptions {
    let limits = Limits { output_bytes: Some(ROOM), ..Limits::default() };
    ExecutionOptions { on_output_limit: policy.into(), ..limited(limits) }
}

/// What `seq 1 LAST` prints.
fn numbers(last: u32) -> Vec<u8> {
    (1..=last).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

fn was_warned(seen: &Seen) -> bool {
    seen.kinds().any(|event| matches!(event, Event::Warning(warning) if warning.kind() == warning::Kind::OutputLimit))
}

/// Every byte that came is where it belongs, and what is missing has been announced.
fn assert_exact_or_announced(seen: &Seen, expected: &[u8], reason: gap::Reason) {
    let mut position = 0;
    for event in seen.kinds() {
        match event {
            Event::Output(output) => {
                let start = usize::try_from(output.offset).expect("it fits");
                assert_eq!(output.offset, position);
                assert_eq!(output.data, expected[start..start + output.data.len()]);
                position += output.data.len() as u64;
            }
            Event::Gap(gap) => {
                assert_eq!(gap.reason(), reason);
                for range in gap.ranges.iter().filter(|range| range.channel() == Channel::Stdout) {
                    assert_eq!(range.start, position);
                    position = range.end;
                }
            }
            _ => {}
        }
    }
    assert_eq!(position, expected.len() as u64);
    let stdout = &seen.outcome().channels[0];
    assert_eq!(stdout.bytes_total, expected.len() as u64);
    assert_eq!(stdout.sha256, Sha256::digest(expected).as_slice());
}

#[tokio::test]
async fn every_process_has_its_limits() {
    on_every_rung(async |server, _| {
        let limits = Limits { open_files: Some(77), cpu_time: millis(1000), ..Limits::default() };
        let script = "ulimit -n; sh -c 'ulimit -n'; while :; do :; done";
        let seen = Life::begin(server, shell(script).options(limited(limits))).await.seen().await;
        assert_eq!(seen.stdout(), "77\n77\n");
        assert_eq!(fate(seen.outcome()), ("SIGXCPU".to_owned(), Cause::Exited));
    })
    .await;
}

#[tokio::test]
async fn limits_of_the_whole_tree_are_enforced_or_refused() {
    on_every_rung(async |server, _| {
        let info = server.server().await.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
        let cases = [
            ("memory_bytes", Limits { memory_bytes: Some(32 << 20), ..Limits::default() }),
            ("processes", Limits { processes: Some(8), ..Limits::default() }),
            ("cpus", Limits { cpus: Some(0.5), ..Limits::default() }),
        ];
        for (name, limits) in cases {
            let request = shell("head -c 200000000 /dev/zero | tail | wc -c").options(limited(limits));
            let begun = Life::try_begin(server.executions().await, request).await;
            if info.enforceable_limits.iter().any(|limit| limit == name) {
                let outcome = begun.map_err(|status| status.to_string()).unwrap().outcome().await;
                assert_eq!(outcome.cause() == Cause::OutOfMemory, name == "memory_bytes", "{name}: {outcome:?}");
            } else {
                let status = begun.map(|life| life.id).unwrap_err();
                assert_eq!(status.code(), Code::Unimplemented);
                assert_eq!(status.get_error_details().error_info().unwrap().reason, "LIMIT_NOT_ENFORCEABLE");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_oldest_output_is_dropped_and_the_newest_kept() {
    let server = Server::start().await;
    let life = Life::begin(&server, argv("seq", &["1", "100000"]).options(room(OutputPolicy::DropOldest))).await;
    life.reaches(ExecutionState::Completed).await;
    let (seen, expected) = (life.seen().await, numbers(100_000));
    assert_exact_or_announced(&seen, &expected, gap::Reason::OutputLimit);
    assert!(was_warned(&seen) && seen.outcome().success);
    let stdout = &seen.outcome().channels[0];
    assert!(stdout.bytes_kept <= ROOM && stdout.bytes_kept > ROOM / 2, "{stdout:?}");
    assert_eq!(stdout.first_kept_offset + stdout.bytes_kept, stdout.bytes_total);
    assert!(seen.stdout().ends_with("99999\n100000\n"));
}

#[tokio::test]
async fn the_newest_output_is_dropped_and_the_oldest_kept() {
    let server = Server::start().await;
    let life = Life::begin(&server, argv("seq", &["1", "100000"]).options(room(OutputPolicy::DropNewest))).await;
    let (seen, expected) = (life.seen().await, numbers(100_000));
    assert_exact_or_announced(&seen, &expected, gap::Reason::OutputLimit);
    assert!(was_warned(&seen) && seen.outcome().success);
    assert_eq!(seen.outcome().channels[0].bytes_kept, ROOM);
    assert_eq!(seen.stdout().as_bytes(), &expected[..usize::try_from(ROOM).unwrap()]);
}

#[tokio::test]
async fn too_much_output_ends_the_run_when_it_says_so() {
    on_every_rung(async |server, _| {
        let request = shell("seq 1 100000; echo more; sleep 100").options(room(OutputPolicy::Cancel));
        let life = Life::begin(server, request).await;
        let seen = life.seen().await;
        let outcome = seen.outcome();
        assert_eq!((outcome.cause(), outcome.success), (Cause::OutputLimit, false));
        assert_eq!(seen.stdout().as_bytes(), &numbers(100_000)[..usize::try_from(ROOM).unwrap()]);
        life.cookie.wait_for_none().await;
    })
    .await;
}

#[tokio::test]
async fn a_child_that_is_held_back_says_so_and_can_still_be_ended() {
    on_every_rung(async |server, _| {
        let request = || shell("echo first; seq 1 2000000; echo never").options(room(OutputPolicy::Block));
        let life = Life::begin(server, request()).await;
        let mut events = life.events().await;
        let is_warning = |event: &Event| {
            matches!(event, Event::Warning(warning) if warning.kind() == warning::Kind::OutputLimit).then_some(())
        };
        events.until(is_warning).await;
        assert_eq!(life.get().await.state(), ExecutionState::Running);
        life.bring(cancel(None)).await;
        let seen = life.seen().await;
        assert_eq!(fate(seen.outcome()), ("SIGTERM".to_owned(), Cause::Cancelled));
        let kept = seen.outcome().channels[0].bytes_kept;
        // What was on its way, in the pipe and in one read, is not thrown away.
        assert!((ROOM..ROOM + (256 << 10)).contains(&kept), "{kept}");
        assert!(seen.stdout().starts_with("first\n1\n2\n") && !seen.stdout().contains("never"));
        let timeouts = Some(Timeouts { run: millis(400), ..Timeouts::default() });
        let options = ExecutionOptions { timeouts, ..room(OutputPolicy::Block) };
        assert_eq!(Life::begin(server, request().options(options)).await.outcome().await.cause(), Cause::RunTimeout);
    })
    .await;
}
