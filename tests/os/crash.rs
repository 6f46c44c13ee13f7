//! Somebody kills the server, or a shim: nothing of the command lives on.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio as Standard},
};

use cc_executor::os::{Containment, Exit, Scope};

use super::support::{alive, found, gone, host, members_are, on_strong_rungs, script, until};

const MODE: &str = "CC_TEST_SERVER";

/// Not a test: the server that [`nothing_outlives_a_killed_server`] kills. Prints its command's cookie.
#[tokio::test]
#[ignore = "a mode of this binary for another test"]
async fn a_server_to_be_killed() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let (rung, is_frozen) = mode.split_once(' ').expect("rung and state");
    let containment = match rung {
        "cgroup" => Containment::Cgroup,
        "shim" => Containment::Shim,
        _ => Containment::Group,
    };
    let Some(host) = host(containment).await else {
        println!("\ncookie none");
        return;
    };
    let mut run =
        script("setsid sleep 60 & trap '' TERM HUP; echo ready; while :; do sleep 0.05; done").start(&host).await;
    run.says("ready").await;
    until(|| alive(&run.cookie).len() >= 2, || "both live".into()).await;
    if is_frozen == "frozen" {
        assert!(run.child.tree.freeze().await.expect("it is frozen").complete);
    }
    println!("\ncookie {} {}", run.cookie, run.child.pid);
    std::future::pending::<()>().await;
}

/// What a killed server has told.
struct Server {
    pid: u32,
    cookie: String,
    leader: u32,
}

#[expect(clippy::disallowed_methods, reason = "the server under test is a process of its own")]
fn kill_a_server(rung: Containment, state: &str) -> Option<Server> {
    let mut server = Command::new(std::env::current_exe().expect("we run"))
        .args(["--exact", "crash::a_server_to_be_killed", "--ignored", "--nocapture"])
        .env(MODE, format!("{rung} {state}"))
        .stdout(Standard::piped())
        .spawn()
        .expect("it starts");
    let output = BufReader::new(server.stdout.take().expect("it is piped"));
    let cookie = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("cookie ").map(str::to_owned))
        .expect("it tells its cookie");
    server.kill().expect("it is killed");
    server.wait().expect("it is ours");
    let (cookie, leader) = cookie.split_once(' ')?;
    Some(Server { pid: server.id(), cookie: cookie.to_owned(), leader: leader.parse().expect("it is a number") })
}

#[tokio::test]
async fn nothing_outlives_a_killed_server() {
    for rung in [Containment::Cgroup, Containment::Shim] {
        for state in ["running", "frozen"] {
            let Some(server) = kill_a_server(rung, state) else { continue };
            gone(&server.cookie).await;
        }
    }
}

#[tokio::test]
async fn on_the_floor_the_leader_dies_with_the_server_and_a_sweep_finds_the_rest() {
    let Some(server) = kill_a_server(Containment::Group, "frozen") else { return };
    let cookie = server.cookie;
    let is_alive = || found(server.leader).is_some_and(|found| found.state != 'Z');
    until(|| !is_alive(), || format!("{:?}", alive(&cookie))).await;
    let left = alive(&cookie).len();
    let host = host(Containment::Group).await.expect("the floor always works");
    let swept = host.sweep(std::slice::from_ref(&cookie)).await;
    assert_eq!(swept, [(cookie.clone(), u32::try_from(left).expect("they are few"))]);
    gone(&cookie).await;
}

#[tokio::test]
async fn a_killed_shim_takes_its_command_along() {
    on_strong_rungs(async |host| {
        let mut run =
            script("setsid sleep 60 & trap '' TERM HUP; echo ready; while :; do sleep 0.05; done").start(host).await;
        run.says("ready").await;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", run.child.pid)).expect("it runs");
        let shim: i32 = stat.split(' ').nth(3).and_then(|pid| pid.parse().ok()).expect("it has a parent");
        let leader = run.child.pid;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL)
            .expect("it is ours");
        assert!(matches!(run.child.exited().await, Exit::Unknown { .. }));
        run.child.emptied().await;
        run.is_gone().await;
        until(|| found(leader).is_none(), || "the orphan is reaped".into()).await;
        assert!(run.child.tree.kill().await.expect("nothing fails").survivors.is_empty());
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn an_unanswering_shim_is_a_timeout_not_a_hang() {
    on_strong_rungs(async |host| {
        let mut run = script("echo ready; exec sleep 60").start(host).await;
        run.says("ready").await;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", run.child.pid)).expect("it runs");
        let shim: i32 = stat.split(' ').nth(3).and_then(|pid| pid.parse().ok()).expect("it has a parent");
        let signal = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), signal).expect("it is ours");
        signal(nix::sys::signal::Signal::SIGSTOP);
        assert_eq!(run.child.tree.members().await, Err(cc_executor::os::TreeError::Timeout));
        signal(nix::sys::signal::Signal::SIGCONT);
        assert_eq!(run.child.tree.members().await.expect("it answers again").len(), 1);
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_shim_asked_to_end_by_others_leaves_that_to_the_server() {
    on_strong_rungs(async |host| {
        let mut run =
            script("trap 'echo usr; exit 9' USR1; echo ready; while :; do sleep 0.05; done").start(host).await;
        run.says("ready").await;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", run.child.pid)).expect("it runs");
        let shim: i32 = stat.split(' ').nth(3).and_then(|pid| pid.parse().ok()).expect("it has a parent");
        for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGINT] {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), signal).expect("it is ours");
        }
        run.child.tree.signal(libc::SIGUSR1, Scope::Leader).await.expect("it is sent");
        assert_eq!(run.child.exited().await, Exit::Code(9));
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn cgroups_of_dead_instances_are_cleaned() {
    let Some(server) = kill_a_server(Containment::Cgroup, "running") else { return };
    gone(&server.cookie).await;
    let Some(host) = host(Containment::Cgroup).await else { return };
    // A neighbour that nobody vouches for.
    let neighbour = super::support::host(Containment::Cgroup).await.expect("it worked a moment ago");
    let mut spared = script("echo ready; exec sleep 60").start(&neighbour).await;
    spared.says("ready").await;
    // Of whichever test.
    let cleaned = host.clean(|name| {
        let owner = name.strip_prefix("test-").and_then(|rest| rest.split('-').next());
        owner.is_none()
    });
    let cleaned = cleaned.await;
    assert!(cleaned.iter().any(|name| name.starts_with(&format!("test-{}-", server.pid))), "{cleaned:?}");
    members_are(&spared.child.tree, &["sleep"]).await;
    spared.release().await;
}
