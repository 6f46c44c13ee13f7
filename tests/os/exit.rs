//! How a command ends is reported as it was, at once, whatever else still runs.

use std::time::{Duration, Instant};

use cc_executor::os::Exit;

use super::support::{members_are, on_every_rung, script};

#[tokio::test]
async fn exit_codes_are_exact() {
    on_every_rung(async |host| {
        for code in [0, 1, 255] {
            let mut run = script(&format!("exit {code}")).start(host).await;
            assert_eq!(run.child.exited().await, Exit::Code(code));
            assert_eq!(run.child.exited().await, Exit::Code(code), "the answer can be had again");
            run.child.emptied().await;
            run.release().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_death_by_signal_is_no_exit_code() {
    on_every_rung(async |host| {
        // 40 is a real-time signal, which many wrappers cannot name.
        for number in [11, 9, 40] {
            let mut run = script(&format!("kill -{number} $$")).start(host).await;
            let exit = run.child.exited().await;
            assert!(matches!(exit, Exit::Signal { number: found, .. } if found == number), "{exit}");
            run.release().await;
        }
    })
    .await;
}

#[tokio::test]
async fn exit_is_told_while_a_grandchild_holds_the_pipe() {
    on_every_rung(async |host| {
        let mut run = script("echo hi; sleep 60 & exit 7").start(host).await;
        let started = Instant::now();
        assert_eq!(run.child.exited().await, Exit::Code(7));
        assert!(started.elapsed() < Duration::from_secs(10), "it did not wait for the sleeper");
        run.says("hi").await;
        members_are(&run.child.tree, &["sleep"]).await;
        let killed = run.child.tree.kill().await.expect("it is killed");
        assert_eq!((killed.processes, killed.survivors.len()), (1, 0));
        run.child.emptied().await;
        assert_eq!(run.all_output().await, "hi\n");
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn the_end_of_output_is_not_the_end() {
    on_every_rung(async |host| {
        let mut run = script("exec >&- 2>&-; sleep 0.3; exit 5").start(host).await;
        assert_eq!(run.all_output().await, "");
        assert_eq!(run.child.exited().await, Exit::Code(5));
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn zombies_do_not_keep_a_tree_from_being_empty() {
    on_every_rung(async |host| {
        // The children are left unwaited by a parent that became something else.
        let mut run = script("for i in 1 2 3 4 5 6 7 8; do true & done; echo ready; exec sleep 60").start(host).await;
        run.says("ready").await;
        let killed = run.child.tree.kill().await.expect("it is killed");
        assert!(killed.survivors.is_empty(), "{killed:?}");
        assert_eq!(run.child.exited().await, Exit::Signal { number: 9, core_dumped: false });
        run.child.emptied().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn usage_counts_the_work_of_grandchildren() {
    on_every_rung(async |host| {
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let mut run = script(&format!("sh -c '{busy}'; sh -c '{busy}' & wait")).start(host).await;
        assert_eq!(run.child.exited().await, Exit::Code(0));
        let usage = run.child.emptied().await;
        assert!(usage.user + usage.system > Duration::from_millis(20), "{usage:?}");
        assert!(usage.peak_memory_bytes > 100_000, "{usage:?}");
        assert_eq!(run.child.tree.usage().await, usage);
        run.release().await;
    })
    .await;
}
