//! Asking a tree to end, and making it.

use std::time::{Duration, Instant};

use cc_executor::os::{Containment, Exit, Scope};

use super::support::{alive, members_are, on_every_rung, on_strong_rungs, script, until};

const TERM: i32 = libc::SIGTERM;

#[tokio::test]
async fn what_ignores_term_is_killed() {
    on_every_rung(async |host| {
        let mut run = script("trap '' TERM; echo ready; while :; do sleep 0.05; done").start(host).await;
        run.says("ready").await;
        assert!(run.child.tree.signal(TERM, Scope::Leader).await.expect("it is sent") == 1);
        let waited = tokio::time::timeout(Duration::from_millis(200), run.child.exited()).await;
        assert!(waited.is_err(), "it ignores the signal");
        let started = Instant::now();
        let killed = run.child.tree.kill().await.expect("it is killed");
        assert!(killed.survivors.is_empty() && killed.processes >= 1, "{killed:?}");
        assert!(started.elapsed() < Duration::from_secs(2));
        assert_eq!(run.child.exited().await, Exit::Signal { number: 9, core_dumped: false });
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_handler_may_take_its_time() {
    on_every_rung(async |host| {
        let mut run =
            script("trap 'sleep 0.3; exit 3' TERM; echo ready; while :; do sleep 0.05; done").start(host).await;
        run.says("ready").await;
        run.child.tree.terminate(TERM, Scope::Leader).await.expect("it is sent");
        assert_eq!(run.child.exited().await, Exit::Code(3));
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_process_that_stopped_itself_handles_term() {
    on_every_rung(async |host| {
        let mut run =
            script("trap 'exit 4' TERM; echo ready; kill -STOP $$; while :; do sleep 0.05; done").start(host).await;
        run.says("ready").await;
        let pid = run.child.pid;
        until(|| super::support::found(pid).is_some_and(|found| found.state == 'T'), || "it stops".into()).await;
        assert!(run.child.tree.members().await.expect("they are listed").iter().any(|member| member.state == 'T'));
        // A freeze and a thaw of ours must not wake it.
        run.child.tree.freeze().await.expect("it is frozen");
        run.child.tree.thaw().await.expect("it is thawed");
        assert_eq!(super::support::found(pid).map(|found| found.state), Some('T'));
        run.child.tree.terminate(TERM, Scope::Tree).await.expect("it is sent");
        assert_eq!(run.child.exited().await, Exit::Code(4));
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_frozen_tree_handles_term() {
    on_every_rung(async |host| {
        let text = "trap 'echo handled; exit 6' TERM; setsid sleep 60 & echo ready; wait";
        let mut run = script(text).start(host).await;
        run.says("ready").await;
        // A shell that has forked but not executed yet would lose the signal.
        members_are(&run.child.tree, &["sh", "sleep"]).await;
        assert!(run.child.tree.freeze().await.expect("it is frozen").complete);
        run.child.tree.terminate(TERM, Scope::Tree).await.expect("it is sent");
        assert_eq!(run.child.exited().await, Exit::Code(6));
        run.says("handled").await;
        run.child.emptied().await;
        run.is_gone().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_tree_is_not_empty_because_its_leader_is_gone() {
    on_every_rung(async |host| {
        let mut run = script("(trap '' TERM; echo ready; while :; do sleep 0.05; done) & wait").start(host).await;
        run.says("ready").await;
        run.child.tree.terminate(TERM, Scope::Group).await.expect("it is sent");
        assert_eq!(run.child.exited().await, Exit::Signal { number: TERM, core_dumped: false });
        let waited = tokio::time::timeout(Duration::from_millis(300), run.child.emptied()).await;
        assert!(waited.is_err(), "the subshell lives on");
        assert!(!alive(&run.cookie).is_empty());
        run.child.tree.kill().await.expect("it is killed");
        run.child.emptied().await;
        run.is_gone().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_signal_goes_as_far_as_asked() {
    on_every_rung(async |host| {
        let text = "setsid sleep 61 & sleep 62 & trap 'echo got' USR1; echo ready; while :; do wait; done";
        let mut run = script(text).start(host).await;
        run.says("ready").await;
        members_are(&run.child.tree, &["sh", "sleep", "sleep"]).await;
        let tree = run.child.tree.clone();
        // The sleepers in group and session die of USR1, one after the other.
        assert_eq!(tree.signal(libc::SIGUSR1, Scope::Leader).await, Ok(1));
        run.says("got").await;
        // Right after an exec an environment reads as empty.
        until(|| alive(&run.cookie).len() == 3, || format!("{:?}", alive(&run.cookie))).await;
        assert_eq!(tree.signal(libc::SIGTERM, Scope::Tree).await, Ok(3));
        run.child.emptied().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn one_group_kill_beats_a_fork_storm() {
    on_every_rung(async |host| {
        let mut run = script("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do (while :; do true & wait; /bin/true; done) & done; echo ready; wait").start(host).await;
        run.says("ready").await;
        run.child.tree.signal(libc::SIGKILL, Scope::Group).await.expect("it is sent");
        run.child.exited().await;
        run.child.emptied().await;
        run.is_gone().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn two_hundred_children_are_killed_at_once() {
    on_every_rung(async |host| {
        let mut run =
            script("i=0; while [ $i -lt 200 ]; do sleep 60 & i=$((i+1)); done; echo ready; wait").start(host).await;
        run.says("ready").await;
        let killed = run.child.tree.kill().await.expect("it is killed");
        assert!(killed.survivors.is_empty() && killed.processes >= 201, "{killed:?}");
        run.is_gone().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_process_that_runs_away_at_every_step_is_killed() {
    // Every hop is a new process in a new session whose parent is gone. It ends by itself after many.
    let hopper = "[ $1 -lt 100000 ] && setsid sh -c \"$0\" \"$0\" $(($1+1)) &";
    on_strong_rungs(async |host| {
        let mut run = super::support::program("/bin/sh", &["-c", hopper, hopper, "0"]).start(host).await;
        assert_eq!(run.child.exited().await, Exit::Code(0));
        let killed = run.child.tree.kill().await.expect("it is killed");
        assert!(killed.survivors.is_empty(), "{killed:?}");
        run.child.emptied().await;
        run.is_gone().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn operations_on_an_empty_tree_reach_nobody() {
    on_every_rung(async |host| {
        let mut run = script("exit 0").start(host).await;
        run.child.exited().await;
        run.child.emptied().await;
        let tree = run.child.tree.clone();
        run.release().await;
        assert_eq!(tree.signal(TERM, Scope::Tree).await, Ok(0));
        assert_eq!(tree.signal(TERM, Scope::Leader).await, Ok(0));
        assert_eq!(tree.thaw().await, Ok(0));
        assert_eq!(tree.members().await, Ok(Vec::new()));
        assert_eq!(tree.kill().await.expect("nothing fails").processes, 0);
        assert!(tree.freeze().await.expect("nothing fails").complete);
    })
    .await;
}

#[tokio::test]
async fn cancels_race_each_other_and_the_exit() {
    on_every_rung(async |host| {
        for round in 0..20 {
            let run = script("sleep 0.01; exit 0").start(host).await;
            let (first, second) = (run.child.tree.clone(), run.child.tree.clone());
            let delay = Duration::from_millis(round % 15);
            let (one, other, ()) = tokio::join!(
                async {
                    tokio::time::sleep(delay).await;
                    first.kill().await
                },
                second.terminate(TERM, Scope::Tree),
                async {
                    let _ = run.child.tree.freeze().await;
                },
            );
            assert!(one.expect("nothing fails").survivors.is_empty());
            other.expect("nothing fails");
            run.release().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_handler_starts_is_spared() {
    on_every_rung(async |host| {
        if host.containment() != Containment::Cgroup {
            return;
        }
        for _ in 0..20 {
            let text = "trap '/bin/sleep 0.02 && exit 8; exit 1' TERM; sleep 60 & echo ready; wait";
            let mut run = script(text).start(host).await;
            run.says("ready").await;
            members_are(&run.child.tree, &["sh", "sleep"]).await;
            assert_eq!(run.child.tree.terminate(TERM, Scope::Tree).await, Ok(2));
            assert_eq!(run.child.exited().await, Exit::Code(8));
            run.release().await;
        }
    })
    .await;
}
