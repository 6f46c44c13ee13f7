//! Cancelling takes the whole tree: the signal, CONT, time, then KILL; whatever it meets, it ends in one outcome.

use cc_executor::proto::control_response::Result as Became;
use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{Cancel, Cause, ExecutionOptions, ExecutionState, Timeouts, control_request::Action};
use futures_util::future::join_all;

use crate::support::life::{KILL, Life, cancel, clocks, ending, escalation, fate, millis};
use crate::support::run::With;
use crate::support::{Server, on_every_rung, shell};

/// Says that it is ready, and does not end on TERM.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.05; done";

#[tokio::test]
async fn a_child_that_ignores_term_is_killed_after_the_grace_of_its_dying_leader() {
    on_every_rung(async |server, _| {
        let life = Life::begin(server, shell(format!("({STUBBORN}) & wait"))).await;
        life.says("ready").await;
        let answer = life.bring(cancel(millis(400))).await;
        assert_eq!(answer.result(), Became::Applied);
        assert!(life.cookie.processes().is_empty(), "it took effect before all were gone");
        let outcome = life.outcome().await;
        assert_eq!(fate(&outcome), ("SIGTERM".to_owned(), Cause::Cancelled));
        assert_eq!(escalation(&outcome), ["SIGTERM", "SIGKILL"]);
        assert!(outcome.survivors.is_empty());
    })
    .await;
}

#[tokio::test]
async fn who_ends_slowly_but_in_time_keeps_its_exit_code() {
    on_every_rung(async |server, _| {
        let script = "trap 'sleep 0.3; echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done";
        let life = Life::begin(server, shell(script)).await;
        life.says("ready").await;
        let answer = life.ask_as(cancel(None), |request| request.reason = "enough".to_owned()).await.unwrap();
        assert_eq!(answer.result(), Became::Pending);
        let seen = life.seen().await;
        assert_eq!(fate(seen.outcome()), ("3".to_owned(), Cause::Cancelled));
        assert_eq!(escalation(seen.outcome()), ["SIGTERM"]);
        assert_eq!((seen.outcome().reason.as_str(), seen.outcome().success), ("enough", false));
        assert_eq!(seen.stdout(), "ready\nbye\n");
    })
    .await;
}

#[tokio::test]
async fn a_silent_child_that_cleans_up_has_time_although_its_leader_is_gone() {
    on_every_rung(async |server, _| {
        let cleaned = server.path("cleaned");
        let child = format!(
            "trap 'sleep 0.6; echo > {}; exit' TERM; echo ready; exec >/dev/null 2>&1; while :; do sleep 0.01; done",
            cleaned.display()
        );
        let life = Life::begin(server, shell(format!("({child}) & wait"))).await;
        life.says("ready").await;
        life.bring(cancel(None)).await;
        assert!(cleaned.exists(), "{:?}", life.outcome().await);
        assert_eq!(escalation(&life.outcome().await), ["SIGTERM"]);
    })
    .await;
}

#[tokio::test]
async fn kill_and_no_grace_leave_no_time() {
    on_every_rung(async |server, _| {
        for action in [KILL, cancel(millis(0))] {
            let life = Life::begin(server, shell(format!("setsid sh -c \"{STUBBORN}\" & wait"))).await;
            life.says("ready").await;
            life.bring(action).await;
            assert!(life.cookie.processes().is_empty());
            let outcome = life.outcome().await;
            assert_eq!(fate(&outcome), ("SIGKILL".to_owned(), Cause::Cancelled));
            assert_eq!(escalation(&outcome), ["SIGKILL"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_second_cancel_shortens_the_grace_and_never_lengthens_it() {
    let server = Server::start().await;
    let long = || clocks(Timeouts { grace: millis(600_000), ..Timeouts::default() });
    let life = Life::begin(&server, shell(STUBBORN).options(long())).await;
    life.says("ready").await;
    life.ask(cancel(None)).await;
    life.reaches(ExecutionState::Stopping).await;
    life.ask(cancel(millis(100))).await;
    life.ask(cancel(millis(600_000))).await;
    let outcome = life.outcome().await;
    assert_eq!(fate(&outcome), ("SIGKILL".to_owned(), Cause::Cancelled));
    assert_eq!(escalation(&outcome), ["SIGTERM", "SIGKILL"]);
    assert_eq!(life.ask(cancel(None)).await.result(), Became::AlreadyTerminal);
    assert_eq!(life.ask(KILL).await.result(), Became::AlreadyTerminal);
}

#[tokio::test]
async fn the_stop_signal_is_the_runs_own_or_the_callers() {
    let server = Server::start().await;
    let script = "trap 'exit 2' INT; trap 'exit 12' USR2; echo ready; while :; do sleep 0.01; done";
    let options = || ExecutionOptions { stop_signal: 2, ..ExecutionOptions::default() };
    for (signal, code, name) in [(0, "2", "SIGINT"), (12, "12", "SIGUSR2")] {
        let life = Life::begin(&server, shell(script).options(options())).await;
        life.says("ready").await;
        life.bring(Action::Cancel(Cancel { grace_period: None, signal })).await;
        let outcome = life.outcome().await;
        assert_eq!(fate(&outcome), (code.to_owned(), Cause::Cancelled));
        assert_eq!(escalation(&outcome), [name]);
    }
}

#[tokio::test]
async fn a_queued_run_is_cancelled_without_ever_starting() {
    let server = Server::setup().arg("--max-concurrent").arg("1").start().await;
    let first = Life::begin(&server, shell("sleep 100")).await;
    first.reaches(ExecutionState::Running).await;
    for action in [cancel(None), KILL] {
        let queued = Life::begin(&server, shell("sleep 100")).await;
        let answer = queued.bring(action).await;
        assert_eq!((answer.result(), answer.method.as_str(), answer.processes), (Became::Applied, "queue", 0));
        let outcome = queued.outcome().await;
        assert_eq!(fate(&outcome), ("not started: Queue".to_owned(), Cause::Cancelled));
    }
    assert_eq!(first.get().await.state(), ExecutionState::Running);
}

/// At whatever moment a cancel comes, twice, the run ends in exactly one outcome, and nothing of it is left.
#[tokio::test]
async fn cancels_may_meet_the_start_the_end_and_each_other() {
    let server = Server::start().await;
    let round = async |offset: u64| {
        let script =
            if offset.is_multiple_of(2) { "sleep 0.005; echo done" } else { "(trap '' TERM; sleep 0.01) & sleep 100" };
        let life = Life::begin(&server, shell(script)).await;
        let strike = async |offset: u64| {
            tokio::time::sleep(std::time::Duration::from_micros(offset)).await;
            life.bring(cancel(millis(50))).await.result()
        };
        let answers = join_all([strike(offset * 100), strike((offset * 7919) % 20_000)]).await;
        let seen = life.seen().await;
        let completed = seen.kinds().filter(|event| matches!(event, Event::Completed(_))).count();
        assert_eq!(completed, 1);
        let outcome = seen.outcome();
        let allowed: &[Became] = &[Became::Applied, Became::AlreadyTerminal];
        assert!(answers.iter().all(|answer| allowed.contains(answer)), "{answers:?}");
        let was_cancelled = answers.contains(&Became::Applied);
        match (outcome.cause(), ending(outcome).as_str()) {
            (Cause::Exited, "0") => assert!(outcome.success && offset.is_multiple_of(2)),
            (Cause::Cancelled, _) => assert!(was_cancelled && !outcome.success),
            other => panic!("{other:?} after {answers:?}"),
        }
        life.cookie
    };
    for batch in 0..10 {
        for cookie in join_all((0..20).map(|number| round(batch * 20 + number))).await {
            assert!(cookie.processes().is_empty());
        }
    }
}
