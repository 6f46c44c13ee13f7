//! Each clock ends a run with its own cause, warns before, and leaves what was printed readable.

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{Cause, ExecuteRequest, Outcome, Timeouts, warning};
use futures_util::future::join_all;

use crate::support::life::{Life, clocks, duration, escalation, fate, millis};
use crate::support::run::{Seen, With};
use crate::support::{Server, on_every_rung, shell};

/// Prints something, then nothing.
fn silent(timeouts: Timeouts) -> ExecuteRequest {
    shell("echo before; echo err >&2; sleep 100").options(clocks(timeouts))
}

fn warnings(seen: &Seen) -> Vec<warning::Kind> {
    seen.kinds()
        .filter_map(|event| if let Event::Warning(warning) = event { Some(warning.kind()) } else { None })
        .collect()
}

fn running_millis(outcome: &Outcome) -> u128 {
    duration(outcome.durations.as_ref().expect("they are told").running).as_millis()
}

#[tokio::test]
async fn each_clock_has_its_cause_and_spares_the_output() {
    on_every_rung(async |server, _| {
        let limit = millis(400);
        let cases = [
            (Cause::IdleTimeout, Timeouts { idle: limit, ..Timeouts::default() }),
            (Cause::RunTimeout, Timeouts { run: limit, ..Timeouts::default() }),
            (Cause::WallTimeout, Timeouts { wall: millis(1500), ..Timeouts::default() }),
        ];
        let lives = join_all(cases.map(async |(cause, timeouts)| {
            let life = Life::begin(server, silent(timeouts)).await;
            (cause, life.seen().await, life.cookie)
        }));
        for (cause, seen, cookie) in lives.await {
            let outcome = seen.outcome();
            assert_eq!(fate(outcome), ("SIGTERM".to_owned(), cause));
            assert!(!outcome.success && !outcome.reason.is_empty());
            assert_eq!(escalation(outcome), ["SIGTERM"]);
            assert_eq!((seen.stdout().as_str(), seen.stderr().as_str()), ("before\n", "err\n"));
            let near = if cause == Cause::IdleTimeout { warning::Kind::Idle } else { warning::Kind::TimeoutNear };
            assert_eq!(warnings(&seen), [near], "{cause:?}");
            cookie.wait_for_none().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_run_without_any_output_has_a_clock_of_its_own() {
    let server = Server::start().await;
    let limit = || clocks(Timeouts { first_output: millis(400), ..Timeouts::default() });
    let mute = Life::begin(&server, shell("sleep 100").options(limit())).await;
    assert_eq!(fate(&mute.outcome().await), ("SIGTERM".to_owned(), Cause::FirstOutputTimeout));
    let spoke = Life::begin(&server, shell("printf .; sleep 0.8; exit 3").options(limit())).await;
    assert_eq!(fate(&spoke.outcome().await), ("3".to_owned(), Cause::Exited));
}

#[tokio::test]
async fn output_on_either_channel_restarts_the_idle_clock() {
    let server = Server::start().await;
    let script = "for _ in 1 2 3 4 5 6; do sleep 0.3; printf .; sleep 0.3; printf . >&2; done; sleep 100";
    let limit = clocks(Timeouts { idle: millis(2000), ..Timeouts::default() });
    let life = Life::begin(&server, shell(script).options(limit)).await;
    let seen = life.seen().await;
    assert_eq!(seen.outcome().cause(), Cause::IdleTimeout);
    assert_eq!((seen.stdout().len(), seen.stderr().len()), (6, 6));
    assert!(running_millis(seen.outcome()) >= 5_600, "{:?}", seen.outcome().durations);
}

#[tokio::test]
async fn the_queue_clock_ends_what_never_started() {
    let server = Server::setup().arg("--max-concurrent").arg("1").start().await;
    let first = Life::begin(&server, shell("sleep 100")).await;
    first.reaches(cc_executor::proto::ExecutionState::Running).await;
    let queue = Life::begin(&server, silent(Timeouts { queue: millis(300), ..Timeouts::default() })).await;
    let wall = Life::begin(&server, silent(Timeouts { wall: millis(300), ..Timeouts::default() })).await;
    for (life, cause) in [(queue, Cause::QueueTimeout), (wall, Cause::WallTimeout)] {
        assert_eq!(fate(&life.outcome().await), ("not started: Queue".to_owned(), cause));
    }
}

#[tokio::test]
async fn a_timeout_takes_also_who_ignores_the_signal() {
    on_every_rung(async |server, _| {
        let limit = clocks(Timeouts { run: millis(300), grace: millis(200), ..Timeouts::default() });
        let script =
            "trap '' TERM; setsid sh -c 'while :; do sleep 0.05; done' & echo before; while :; do sleep 0.05; done";
        let life = Life::begin(server, shell(script).options(limit)).await;
        let seen = life.seen().await;
        assert_eq!(fate(seen.outcome()), ("SIGKILL".to_owned(), Cause::RunTimeout));
        assert_eq!(escalation(seen.outcome()), ["SIGTERM", "SIGKILL"]);
        assert_eq!(seen.stdout(), "before\n");
        assert!(life.cookie.processes().is_empty());
    })
    .await;
}
