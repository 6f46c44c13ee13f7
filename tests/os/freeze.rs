//! A frozen tree does nothing, all of it, and goes on where it was.

use std::time::Duration;

use super::support::{alive, on_every_rung, on_strong_rungs, script, ticks, until};

/// Long enough for a busy process to use a clock tick many times over.
const MOMENT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_busy_tree_uses_no_processor_while_frozen() {
    on_every_rung(async |host| {
        let text = "for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; \
                    setsid sh -c 'while :; do :; done' & echo ready; while :; do :; done";
        let mut run = script(text).start(host).await;
        run.says("ready").await;
        until(|| alive(&run.cookie).len() == 10, || format!("{:?}", alive(&run.cookie))).await;
        let frozen = run.child.tree.freeze().await.expect("it is frozen");
        assert!(frozen.complete && frozen.processes == 10, "{frozen:?}");
        let before = ticks(&run.cookie);
        tokio::time::sleep(MOMENT).await;
        assert_eq!(ticks(&run.cookie), before);
        assert_eq!(run.child.tree.thaw().await, Ok(10));
        until(|| ticks(&run.cookie) > before, || "it goes on".into()).await;
        run.child.tree.kill().await.expect("it is killed");
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_tree_that_forks_all_the_time_is_frozen() {
    on_strong_rungs(async |host| {
        let mut run = script("echo ready; while :; do /bin/true; (exit 0); done").start(host).await;
        run.says("ready").await;
        for _ in 0..10 {
            let frozen = run.child.tree.freeze().await.expect("it is frozen");
            assert!(frozen.complete, "{frozen:?}");
            // A frozen process's state may read as running for a moment; its number and its time tell.
            let now = || alive(&run.cookie).into_iter().map(|found| (found.pid, found.ticks)).collect::<Vec<_>>();
            let before = now();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(now(), before);
            run.child.tree.thaw().await.expect("it is thawed");
        }
        run.child.tree.kill().await.expect("it is killed");
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn freezing_twice_is_freezing_once() {
    on_every_rung(async |host| {
        let mut run = script("sleep 60 & echo ready; wait").start(host).await;
        run.says("ready").await;
        assert!(run.child.tree.freeze().await.expect("it is frozen").complete);
        assert!(run.child.tree.freeze().await.expect("it is frozen").complete);
        assert_eq!(run.child.tree.thaw().await, Ok(2));
        assert_eq!(run.child.tree.thaw().await, Ok(0));
        run.child.tree.freeze().await.expect("it is frozen");
        let killed = run.child.tree.kill().await.expect("a frozen tree is killed");
        assert!(killed.survivors.is_empty() && killed.processes == 2, "{killed:?}");
        run.child.emptied().await;
        run.release().await;
    })
    .await;
}
