//! Pausing holds the whole tree and the run clocks; resuming undoes just that.

use cc_executor::proto::control_response::Result as Became;
use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{Cause, ExecutionOptions, ExecutionState, LeakPolicy, Timeouts};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::Code;

use crate::support::life::{Life, PAUSE, RESUME, cancel, clocks, duration, escalation, fate, millis};
use crate::support::run::With;
use crate::support::ticks::{Ticks, Witness};
use crate::support::{Server, eventually, on_every_rung, oracle, shell};

#[tokio::test]
async fn a_pause_holds_every_process_and_a_resume_lets_all_go_on() {
    on_every_rung(async |server, rung| {
        let [leader, child, session] = ["leader", "child", "session"].map(|name| Ticks::new(server, name));
        let busy = "while :; do :; done";
        let others = format!("setsid sh -c '{}' & sh -c '{}'", session.forever(), child.forever());
        let script = format!("{busy} & {others} & {}", leader.forever());
        let life = Life::begin(server, shell(script)).await;
        let all = [&leader, &child, &session];
        for ticks in all {
            ticks.grows_by(1).await;
        }
        let witness = Witness::of(server).await;
        let paused = life.bring(PAUSE).await;
        let cpu_times = || -> Vec<_> { life.cookie.processes().into_iter().map(oracle::cpu_ticks).collect() };
        let used = cpu_times();
        assert_eq!(paused.result(), Became::Applied);
        assert!(paused.processes >= 4, "{paused:?}");
        let execution = paused.execution.expect("it is told");
        assert_eq!((execution.state(), execution.containment()), (ExecutionState::Paused, rung.containment));
        assert!(witness.sees_still(&all).await);
        assert_eq!(life.ask(PAUSE).await.result(), Became::AlreadyInState);
        assert!(witness.sees_still(&all).await);
        assert_eq!(cpu_times(), used);
        assert_eq!(life.bring(RESUME).await.result(), Became::Applied);
        for ticks in all {
            ticks.grows_by(5).await;
        }
        assert_eq!(life.ask(RESUME).await.result(), Became::AlreadyInState);
        life.bring(cancel(None)).await;
        witness.end().await;
        life.cookie.wait_for_none().await;
    })
    .await;
}

#[tokio::test]
async fn cancelling_a_paused_run_lets_it_handle_the_signal() {
    on_every_rung(async |server, _| {
        let script = "trap 'echo handled; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
        let life = Life::begin(server, shell(script)).await;
        life.says("ready").await;
        life.bring(PAUSE).await;
        life.bring(cancel(None)).await;
        let seen = life.seen().await;
        assert_eq!(fate(seen.outcome()), ("7".to_owned(), Cause::Cancelled));
        assert_eq!(escalation(seen.outcome()), ["SIGTERM"]);
        assert_eq!(seen.stdout(), "ready\nhandled\n");
        life.cookie.wait_for_none().await;
    })
    .await;
}

#[tokio::test]
async fn a_process_that_stopped_itself_stays_stopped_through_pause_and_resume() {
    on_every_rung(async |server, _| {
        let ticks = Ticks::new(server, "beside");
        let script = format!("sh -c 'echo $$; kill -STOP $$; echo woken' & {}", ticks.forever());
        let life = Life::begin(server, shell(script)).await;
        life.says("\n").await;
        let stopped = eventually("it has stopped itself", async || {
            life.cookie.processes().into_iter().find(|pid| oracle::state(*pid) == Some('T'))
        })
        .await;
        life.bring(PAUSE).await;
        life.bring(RESUME).await;
        ticks.grows_by(20).await;
        assert_eq!(oracle::state(stopped), Some('T'));
        life.bring(cancel(None)).await;
        life.cookie.wait_for_none().await;
    })
    .await;
}

#[tokio::test]
async fn what_a_paused_command_leaves_behind_goes_on_when_it_is_waited_for() {
    on_every_rung(async |server, _| {
        let ticks = Ticks::new(server, "left");
        let options = ExecutionOptions { on_leak: LeakPolicy::Wait.into(), ..ExecutionOptions::default() };
        let script = format!("({}) & exec sleep 1000", ticks.forever());
        let life = Life::begin(server, shell(script).options(options)).await;
        ticks.grows_by(1).await;
        let paused = life.bring(PAUSE).await.execution.expect("it is told");
        kill(Pid::from_raw(paused.pid.expect("it runs").cast_signed()), Signal::SIGKILL).unwrap();
        life.reaches(ExecutionState::Exited).await;
        ticks.grows_by(3).await;
        life.bring(cancel(None)).await;
        assert_eq!(fate(&life.outcome().await), ("SIGKILL".to_owned(), Cause::Cancelled));
    })
    .await;
}

#[tokio::test]
async fn a_pause_stops_the_run_and_idle_clocks_but_not_the_wall() {
    let server = Server::start().await;
    let held = clocks(Timeouts { run: millis(1500), idle: millis(1500), ..Timeouts::default() });
    let held = Life::begin(&server, shell("echo ready; sleep 100").options(held)).await;
    let walled = clocks(Timeouts { wall: millis(1500), ..Timeouts::default() });
    let walled = Life::begin(&server, shell("echo ready; sleep 100").options(walled)).await;
    for life in [&held, &walled] {
        life.says("ready").await;
        life.bring(PAUSE).await;
    }
    // Another clock of the same length, started later, is the proof that the first ones would have rung.
    let other = clocks(Timeouts { run: millis(1500), ..Timeouts::default() });
    let other = Life::begin(&server, shell("sleep 100").options(other)).await;
    assert_eq!(other.outcome().await.cause(), Cause::RunTimeout);
    assert_eq!(held.get().await.state(), ExecutionState::Paused);
    assert_eq!(walled.outcome().await.cause(), Cause::WallTimeout);
    held.bring(RESUME).await;
    let outcome = held.outcome().await;
    assert!([Cause::RunTimeout, Cause::IdleTimeout].contains(&outcome.cause()), "{outcome:?}");
    let durations = outcome.durations.expect("they are told");
    assert!(duration(durations.paused).as_millis() >= 1500, "{durations:?}");
    assert!(duration(durations.running).as_millis() >= 1400, "{durations:?}");
    assert!(duration(durations.total) >= duration(durations.running) + duration(durations.paused));
}

#[tokio::test]
async fn a_pause_that_is_too_long_ends_the_run() {
    let server = Server::start().await;
    let limit = clocks(Timeouts { max_pause: millis(300), grace: millis(5000), ..Timeouts::default() });
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    let life = Life::begin(&server, shell(script).options(limit)).await;
    life.says("ready").await;
    life.bring(PAUSE).await;
    assert_eq!(fate(&life.outcome().await), ("3".to_owned(), Cause::PauseLimit));
}

#[tokio::test]
async fn a_run_that_is_not_running_cannot_be_paused() {
    let server = Server::setup().arg("--max-concurrent").arg("1").start().await;
    let first = Life::begin(&server, shell("sleep 100")).await;
    first.reaches(ExecutionState::Running).await;
    let queued = Life::begin(&server, shell("true")).await;
    assert_eq!(queued.ask_as(PAUSE, |_| ()).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(queued.ask(RESUME).await.result(), Became::AlreadyInState);
    first.bring(cancel(None)).await;
    queued.reaches(ExecutionState::Completed).await;
    assert_eq!(queued.ask(PAUSE).await.result(), Became::AlreadyTerminal);
    assert_eq!(queued.ask(RESUME).await.result(), Became::AlreadyTerminal);
}

#[tokio::test]
async fn every_step_of_a_pause_is_told_with_who_and_why() {
    let server = Server::start().await;
    let life = Life::begin(&server, shell("sleep 100")).await;
    life.reaches(ExecutionState::Running).await;
    life.ask_as(PAUSE, |request| request.reason = "lunch".to_owned()).await.unwrap();
    life.bring(RESUME).await;
    life.bring(cancel(None)).await;
    let seen = life.seen().await;
    let steps: Vec<(ExecutionState, &str, &str)> = seen
        .kinds()
        .filter_map(|event| match event {
            Event::StateChanged(change) => Some((change.to(), change.reason.as_str(), change.actor.as_str())),
            _ => None,
        })
        .collect();
    use ExecutionState::{Paused, Pausing, Running, Stopping};
    let expected =
        [(Pausing, "lunch", "client"), (Paused, "lunch", "client"), (Running, "", "client"), (Stopping, "", "client")];
    assert_eq!(steps, expected);
}
