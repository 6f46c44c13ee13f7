//! What outlives a command, what escapes it, and how its end is told.

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{Capture, Cause, ExecutionOptions, ExecutionState, LeakPolicy, Timeouts, outcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::life::{Life, PAUSE, RESUME, cancel, clocks, fate, millis};
use crate::support::run::{With, argv};
use crate::support::ticks::{Ticks, Witness};
use crate::support::{Server, on_every_rung, shell};

fn waiting() -> ExecutionOptions {
    ExecutionOptions { on_leak: LeakPolicy::Wait.into(), ..ExecutionOptions::default() }
}

#[tokio::test]
async fn a_code_is_told_as_it_is_and_a_crash_is_a_signal() {
    let server = Server::start().await;
    for code in ["0", "1", "139", "255"] {
        let outcome = Life::begin(&server, shell(format!("exit {code}"))).await.outcome().await;
        assert_eq!(fate(&outcome), (code.to_owned(), Cause::Exited));
        assert_eq!(outcome.success, code == "0");
    }
    for (name, signal) in [("SIGSEGV", "SEGV"), ("SIGABRT", "ABRT")] {
        let outcome = Life::begin(&server, shell(format!("kill -{signal} $$"))).await.outcome().await;
        assert_eq!(fate(&outcome), (name.to_owned(), Cause::Exited));
        assert!(!outcome.success);
    }
}

#[tokio::test]
async fn who_is_killed_by_an_outsider_was_not_cancelled() {
    on_every_rung(async |server, _| {
        let life = Life::begin(server, shell("echo ready; exec sleep 100")).await;
        life.says("ready").await;
        let leader = life.get().await.pid.expect("it runs");
        kill(Pid::from_raw(leader.cast_signed()), Signal::SIGKILL).unwrap();
        let outcome = life.outcome().await;
        assert_eq!(fate(&outcome), ("SIGKILL".to_owned(), Cause::SignalledExternally));
        assert!(outcome.escalation.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_killed_init_makes_the_end_unknown_and_leaves_nothing() {
    on_every_rung(async |server, rung| {
        if !rung.holds_everything() {
            return; // there is no init to kill
        }
        let life = Life::begin(server, shell("setsid sleep 100 & sleep 100 & echo ready; wait")).await;
        life.says("ready").await;
        let leader = life.get().await.pid.expect("it runs");
        let stat = std::fs::read_to_string(format!("/proc/{leader}/stat")).unwrap();
        let init: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
        kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
        let outcome = life.outcome().await;
        assert_eq!(fate(&outcome), ("unknown".to_owned(), Cause::SignalledExternally));
        assert!(!outcome.success);
        life.cookie.wait_for_none().await;
        assert_eq!(
            Life::begin(server, shell("exit 5")).await.outcome().await.ending,
            Some(outcome::Ending::ExitCode(5))
        );
    })
    .await;
}

#[tokio::test]
async fn who_holds_the_output_is_listed_as_leaked_and_ended() {
    on_every_rung(async |server, _| {
        let life = Life::begin(server, shell("echo hi; sleep 100 & exit 3")).await;
        let seen = life.seen().await;
        assert_eq!(fate(seen.outcome()), ("3".to_owned(), Cause::Exited));
        assert_eq!(seen.stdout(), "hi\n");
        let exited = seen.kinds().find_map(|event| match event {
            Event::Exited(exited) => Some(exited.open_channels.len()),
            _ => None,
        });
        assert_eq!(exited, Some(2), "it exited while both channels were held");
        let leaked: Vec<&str> = seen.outcome().leaked.iter().map(|process| process.command.as_str()).collect();
        assert_eq!(leaked, ["sleep"]);
        assert!(!seen.outcome().output_incomplete, "{:?}", seen.outcome());
        assert!(life.cookie.processes().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_leaker_that_never_stops_talking_is_ended_all_the_same() {
    on_every_rung(async |server, _| {
        for drain in [0, 300] {
            let limit = clocks(Timeouts { drain: millis(drain), ..Timeouts::default() });
            let script = "(while :; do echo x; sleep 0.01; done) & echo hi; exit 0";
            let life = Life::begin(server, shell(script).options(limit)).await;
            let seen = life.seen().await;
            assert_eq!(fate(seen.outcome()), ("0".to_owned(), Cause::Exited));
            assert!(seen.outcome().success && !seen.outcome().leaked.is_empty(), "{:?}", seen.outcome());
            assert!(seen.stdout().contains("hi\n"));
            assert!(life.cookie.processes().is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn a_daemon_that_holds_nothing_is_found_and_ended() {
    on_every_rung(async |server, rung| {
        // Double fork, own session, no descriptors; where nothing escapes also no environment.
        let shed = if rung.holds_everything() { "env -i COOKIE=$COOKIE" } else { "" };
        let script = format!("(cd /; {shed} setsid sleep 100 </dev/null >/dev/null 2>&1 &) ; echo started");
        let life = Life::begin(server, shell(script)).await;
        let outcome = life.outcome().await;
        assert_eq!(fate(&outcome), ("0".to_owned(), Cause::Exited));
        life.cookie.wait_for_none().await;
    })
    .await;
}

#[tokio::test]
async fn a_run_that_waits_for_its_leftovers_ends_with_the_last_one() {
    on_every_rung(async |server, _| {
        let go_on = server.path("go-on");
        let child = format!("while ! [ -e {} ]; do sleep 0.01; done; echo last", go_on.display());
        let life = Life::begin(server, shell(format!("({child}) & echo first; exit 4")).options(waiting())).await;
        life.reaches(ExecutionState::Exited).await;
        std::fs::write(&go_on, "").unwrap();
        let seen = life.seen().await;
        assert_eq!(fate(seen.outcome()), ("4".to_owned(), Cause::Exited));
        assert_eq!(seen.stdout(), "first\nlast\n");
        assert!(!seen.outcome().leaked.is_empty(), "what was waited for is told: {:?}", seen.outcome());
        std::fs::remove_file(&go_on).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_run_that_waits_for_its_leftovers_can_be_cancelled_and_times_out() {
    on_every_rung(async |server, _| {
        let script = "sleep 100 & echo first; exit 4";
        let life = Life::begin(server, shell(script).options(waiting())).await;
        life.reaches(ExecutionState::Exited).await;
        life.bring(cancel(None)).await;
        assert_eq!(fate(&life.outcome().await), ("4".to_owned(), Cause::Cancelled));
        life.cookie.wait_for_none().await;
        let timeouts = Some(Timeouts { run: millis(300), ..Timeouts::default() });
        let life = Life::begin(server, shell(script).options(ExecutionOptions { timeouts, ..waiting() })).await;
        assert_eq!(fate(&life.outcome().await), ("4".to_owned(), Cause::RunTimeout));
        life.cookie.wait_for_none().await;
    })
    .await;
}

#[tokio::test]
async fn closing_the_output_is_not_the_end() {
    on_every_rung(async |server, _| {
        let go_on = server.path("go-on");
        let script = format!("echo hi; exec >&- 2>&-; while ! [ -e {} ]; do sleep 0.01; done; exit 5", go_on.display());
        let life = Life::begin(server, shell(script)).await;
        life.says("hi").await;
        let witness = Witness::of(server).await;
        assert!(witness.sees_still(&[]).await);
        assert_eq!(life.get().await.state(), ExecutionState::Running);
        std::fs::write(&go_on, "").unwrap();
        assert_eq!(fate(&life.outcome().await), ("5".to_owned(), Cause::Exited));
        witness.end().await;
    })
    .await;
}

/// Written to a file, the whole of a large answer is there although the program is gone the moment it has written it.
#[tokio::test]
async fn what_a_program_wrote_last_is_never_lost() {
    on_every_rung(async |server, _| {
        for capture in [Capture::Pipe, Capture::File] {
            let options = ExecutionOptions { capture: capture.into(), ..ExecutionOptions::default() };
            let script = "head -c 300000 /dev/zero | tr '\\0' a; head -c 70000 /dev/zero | tr '\\0' b >&2; printf end";
            let seen = Life::begin(server, shell(script).options(options)).await.seen().await;
            assert_eq!((seen.stdout().len(), seen.stderr().len()), (300_003, 70_000));
            assert!(seen.stdout().ends_with("aend"));
        }
    })
    .await;
}

/// A stand-in for an agent's command line: prints little, runs its tools in sessions of their own.
#[tokio::test]
async fn pause_and_cancel_reach_the_tools_of_an_agent() {
    on_every_rung(async |server, _| {
        let tool = Ticks::new(server, "tool");
        let orphan = Ticks::new(server, "orphan");
        let agent = format!(
            "echo '{{\"type\":\"init\"}}'; setsid sh -c '(sh -c \"{}\" >/dev/null 2>&1 &); {}' </dev/null >/dev/null 2>&1; echo never",
            orphan.forever(),
            tool.forever()
        );
        let options = ExecutionOptions { capture: Capture::File.into(), ..ExecutionOptions::default() };
        let request = argv("sh", &["-c", &agent]).options(options);
        let life = Life::begin(server, request).await;
        life.says("init").await;
        tool.grows_by(1).await;
        orphan.grows_by(1).await;
        let witness = Witness::of(server).await;
        life.bring(PAUSE).await;
        assert!(witness.sees_still(&[&tool, &orphan]).await);
        life.bring(RESUME).await;
        tool.grows_by(3).await;
        orphan.grows_by(3).await;
        life.bring(cancel(None)).await;
        assert!(life.cookie.processes().is_empty());
        assert!(witness.sees_still(&[&tool, &orphan]).await);
        let seen = life.seen().await;
        assert_eq!((seen.outcome().cause(), seen.outcome().success), (Cause::Cancelled, false));
        assert_eq!(seen.stdout(), "{\"type\":\"init\"}\n");
        witness.end().await;
    })
    .await;
}
