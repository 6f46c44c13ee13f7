//! Nothing of a tree gets away.

use std::time::Duration;

use cc_executor::os::{Containment, Exit, Host, HostConfig, UsageSource};

use super::support::{alive, gone, members_are, on_every_rung, on_strong_rungs, script, until};

#[tokio::test]
async fn a_daemon_is_found_and_killed() {
    on_every_rung(async |host| {
        let text = "setsid sh -c 'cd /; exec <&- >&- 2>&-; sleep 60 & sleep 60' & sleep 0.1; exit 0";
        let mut run = script(text).start(host).await;
        assert_eq!(run.child.exited().await, Exit::Code(0));
        until(|| alive(&run.cookie).len() == 3, || format!("{:?}", alive(&run.cookie))).await;
        let killed = run.child.tree.kill().await.expect("it is killed");
        assert!(killed.survivors.is_empty() && killed.processes == 3, "{killed:?}");
        run.child.emptied().await;
        run.is_gone().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_daemon_without_environment_is_found_where_nothing_escapes() {
    on_strong_rungs(async |host| {
        // Double fork, new session, empty environment, no name to go by.
        let mut run = script("env -i setsid sh -c 'sleep 61.25 & exit 0' & wait; exit 0").start(host).await;
        assert_eq!(run.child.exited().await, Exit::Code(0));
        members_are(&run.child.tree, &["sleep"]).await;
        let killed = run.child.tree.kill().await.expect("it is killed");
        assert_eq!((killed.processes, killed.survivors.len()), (1, 0));
        run.child.emptied().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn job_control_hides_nothing_from_a_freeze() {
    on_every_rung(async |host| {
        let mut run = script("set -m; sleep 60 & setsid sleep 60 & echo ready; wait").start(host).await;
        run.says("ready").await;
        until(|| alive(&run.cookie).len() == 3, || format!("{:?}", alive(&run.cookie))).await;
        let frozen = run.child.tree.freeze().await.expect("it is frozen");
        assert!(frozen.complete && frozen.processes == 3, "{frozen:?}");
        if host.containment() != Containment::Cgroup {
            assert!(alive(&run.cookie).iter().all(|found| found.state == 'T'));
        }
        run.child.tree.kill().await.expect("it is killed");
        run.is_gone().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn dropping_the_child_kills_its_tree() {
    on_every_rung(async |host| {
        let mut run = script("setsid sleep 60 & sleep 60 & echo ready; wait").start(host).await;
        run.says("ready").await;
        let (cookie, tree) = (run.cookie.clone(), run.child.tree.clone());
        drop(run);
        gone(&cookie).await;
        tree.release().await;
        assert_eq!(tree.members().await, Ok(Vec::new()));
    })
    .await;
}

#[tokio::test]
async fn a_start_nobody_waits_for_is_undone() {
    on_every_rung(async |host| {
        for round in 0..10 {
            let program = script("setsid sleep 60 & wait");
            let cookie = program.cookie.clone();
            let start = host.spawn(program.plan);
            let _ = tokio::time::timeout(Duration::from_micros(300 * round), start).await;
            // It may be starting still, so look for as long as a start takes.
            tokio::time::sleep(Duration::from_millis(30)).await;
            gone(&cookie).await;
        }
    })
    .await;
}

#[tokio::test]
async fn many_at_once_all_end() {
    on_every_rung(async |host| {
        let mut runs = Vec::new();
        for code in 0..50 {
            runs.push(script(&format!("sleep 0.2 & exit {code}")).start(host).await);
        }
        for (code, run) in (0..50).zip(&mut runs) {
            assert_eq!(run.child.exited().await, Exit::Code(code));
        }
        for mut run in runs {
            run.child.emptied().await;
            run.release().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_sweep_finds_what_was_left_behind() {
    on_every_rung(async |host| {
        let mut run = script("setsid sleep 60 & echo ready; kill -STOP $$; wait").start(host).await;
        run.says("ready").await;
        until(|| alive(&run.cookie).len() >= 2, || "both live".into()).await;
        let swept = host.sweep(&[run.cookie.clone(), "nobody".into()]).await;
        assert_eq!(swept.len(), 2);
        assert!(swept[0].1 >= 2 && swept[1].1 == 0, "{swept:?}");
        run.is_gone().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn the_best_containment_is_taken_and_the_others_explained() {
    let config = HostConfig {
        containment: None,
        instance: format!("best-{}", std::process::id()),
        executable: Some(env!("CARGO_BIN_EXE_cc-executor").into()),
    };
    let host = Host::open(config).await.expect("something works");
    match host.containment() {
        Containment::Cgroup => assert!(host.refused().is_empty()),
        Containment::Shim => assert_eq!(host.refused().len(), 1),
        Containment::Group => assert_eq!(host.refused().len(), 2),
    }
    let run = script("sleep 60").start(&host).await;
    let source = run.child.tree.usage().await.source;
    assert_eq!(source == UsageSource::Cgroup, host.containment() == Containment::Cgroup);
    run.release().await;
    let config = HostConfig { instance: "a/b".into(), ..HostConfig::default() };
    assert!(Host::open(config).await.is_err());
}
