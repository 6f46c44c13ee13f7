//! What a command finds when it begins: what the plan says, and nothing of ours.

use std::{fs, time::Duration};

use bytes::Bytes;
use cc_executor::os::{Exit, Host, Output, Stdin, User};

use super::support::{on_every_rung, program, script};

async fn output_of(host: &Host, text: &str) -> String {
    let mut run = script(text).start(host).await;
    let output = run.all_output().await;
    run.child.exited().await;
    run.release().await;
    output
}

#[tokio::test]
async fn nothing_is_inherited() {
    on_every_rung(async |host| {
        assert_eq!(
            output_of(host, "exec ls /proc/self/fd").await.split_whitespace().collect::<Vec<_>>(),
            ["0", "1", "2", "3"],
            "3 is the directory being listed"
        );
        assert_eq!(output_of(host, "ulimit -n; ulimit -c; umask").await, "1024\n0\n0022\n");
        let status = output_of(host, "exec cat /proc/self/status").await;
        for name in ["SigBlk", "SigIgn", "SigPnd", "ShdPnd"] {
            let line = status.lines().find(|line| line.starts_with(name)).expect("it is listed");
            assert!(line.ends_with("\t0000000000000000"), "{line}");
        }
        assert_eq!(output_of(host, "cat /proc/self/oom_score_adj").await, "300\n");
    })
    .await;
}

#[tokio::test]
async fn the_environment_is_exactly_what_was_planned() {
    on_every_rung(async |host| {
        let mut program = program("env", &[]);
        program.plan.environment = vec![("PATH".into(), "/usr/bin:/bin".into()), ("A".into(), "b=c\nd".into())];
        let mut run = program.start(host).await;
        assert_eq!(run.all_output().await, "PATH=/usr/bin:/bin\nA=b=c\nd\n");
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn the_leader_has_a_session_and_name_of_its_own() {
    on_every_rung(async |host| {
        let mut program = program(
            "/bin/sh",
            &["-c", "echo $0 $(cut -d' ' -f5,6 /proc/$$/stat) $PWD; tr '\\0' ' ' < /proc/$$/cmdline"],
        );
        program.plan.arg0 = Some("-shell".into());
        program.plan.working_directory = "/usr".into();
        let mut run = program.start(host).await;
        let pid = run.child.pid;
        let output = run.all_output().await;
        assert!(output.contains(&format!(" {pid} {pid} /usr\n-shell -c ")), "{output}");
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn limits_are_set() {
    on_every_rung(async |host| {
        let mut program = script("ulimit -n; ulimit -Hn; ulimit -t; while :; do :; done");
        program.plan.limits.open_files = Some(77);
        program.plan.limits.cpu_time = Some(Duration::from_millis(200));
        let mut run = program.start(host).await;
        assert_eq!(run.child.exited().await, Exit::Signal { number: libc::SIGXCPU, core_dumped: false });
        assert_eq!(run.all_output().await, "77\n77\n1\n");
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn input_is_empty_inline_or_a_pipe() {
    on_every_rung(async |host| {
        let mut run = program("cat", &[]).start(host).await;
        assert_eq!(run.all_output().await, "", "no input is the end of input");
        run.release().await;

        let large = vec![b'x'; 3 << 20];
        let mut inline = script("wc -c; echo >&0 || echo sealed; cat /dev/stdin | wc -c");
        inline.plan.stdin = Stdin::Inline(Bytes::from(large));
        let mut run = inline.start(host).await;
        let output = run.all_output().await;
        assert!(
            output.starts_with("3145728\n") && output.contains("sealed\n") && output.ends_with("3145728\n"),
            "{output}"
        );
        run.release().await;

        let mut pipe = program("cat", &[]);
        pipe.plan.stdin = Stdin::Pipe;
        let mut run = pipe.start(host).await;
        let writer = run.child.stdin.take().expect("it has a pipe");
        writer.writable().await.expect("readiness is told");
        assert_eq!(writer.try_write(b"hello").expect("there is room"), 5);
        run.says("hello").await;
        drop(writer);
        assert_eq!(run.child.exited().await, Exit::Code(0));
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn input_nobody_reads_holds_nothing_up() {
    on_every_rung(async |host| {
        let mut program = script("sleep 0.2");
        program.plan.stdin = Stdin::Pipe;
        let mut run = program.start(host).await;
        let writer = run.child.stdin.take().expect("it has a pipe");
        let block = vec![0; 1 << 20];
        let full = loop {
            match writer.try_write(&block) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(run.child.exited().await, Exit::Code(0));
        run.child.emptied().await;
        writer.writable().await.expect("the end wakes the writer");
        assert_eq!(writer.try_write(&block).expect_err("nobody reads").kind(), std::io::ErrorKind::BrokenPipe);
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn another_user_gets_its_groups_and_its_pipes() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let user = User::lookup("nobody").expect("it can be asked").expect("it exists");
    on_every_rung(async |host| {
        let mut program = script("id -u; id -G; echo hi > /dev/stdout; cat /dev/stdin; kill -0 1 || echo refused");
        program.plan.user = Some(user.clone());
        program.plan.stdin = Stdin::Inline(Bytes::from_static(b"in\n"));
        let mut run = program.start(host).await;
        let output = run.all_output().await;
        let groups = user.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        assert!(output.starts_with(&format!("{}\n{groups}\nhi\nin\n", user.uid)), "{output}");
        assert!(output.ends_with("refused\n"), "{output}");
        run.release().await;

        // It is held and killed like any other, and dies with its shim.
        let mut program = script("setsid sleep 60 & echo ready; wait");
        program.plan.user = Some(user.clone());
        let mut run = program.start(host).await;
        run.says("ready").await;
        assert!(run.child.tree.freeze().await.expect("it is frozen").complete);
        run.child.tree.kill().await.expect("it is killed");
        run.is_gone().await;
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_terminal_prompt_fails_instead_of_stopping() {
    on_every_rung(async |host| {
        let output = output_of(host, "(: < /dev/tty) 2>/dev/null && echo opened || echo failed").await;
        assert_eq!(output, "failed\n");
    })
    .await;
}

#[tokio::test]
async fn output_can_go_to_files() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    on_every_rung(async |host| {
        let path = directory.path().join(host.containment().to_string());
        let open = || fs::File::options().append(true).create(true).open(&path).expect("it can be opened");
        let mut program = script("echo out; echo err >&2; echo again >> /dev/stdout");
        program.plan.output = Output::Files { stdout: open(), stderr: None };
        let mut run = program.start(host).await;
        assert!(run.child.stdout.is_none());
        assert_eq!(run.child.exited().await, Exit::Code(0));
        assert_eq!(fs::read_to_string(&path).expect("it is there").len(), 14);
        run.release().await;
    })
    .await;
}
