//! Pipes and terminals lose nothing and end once.

use cc_executor::os::{Exit, Output, Stdin};

use super::support::{on_every_rung, read_to_end, script};

#[tokio::test]
async fn two_pipes_are_two_streams() {
    on_every_rung(async |host| {
        let mut program = script("head -c 1000000 /dev/zero & head -c 900000 /dev/zero >&2; wait");
        program.plan.output = Output::Pipes { merge_stderr: false };
        let mut run = program.start(host).await;
        let (out, err) = (run.child.stdout.take().expect("a pipe"), run.child.stderr.take().expect("a pipe"));
        let (out, err) = tokio::join!(read_to_end(&out), read_to_end(&err));
        assert_eq!((out.len(), err.len()), (1_000_000, 900_000));
        assert_eq!(run.child.exited().await, Exit::Code(0));
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn one_pipe_keeps_the_order() {
    on_every_rung(async |host| {
        let mut run = script("for i in 1 2 3; do echo o$i; echo e$i >&2; done").start(host).await;
        assert_eq!(run.all_output().await, "o1\ne1\no2\ne2\no3\ne3\n");
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_terminal_loses_nothing_and_ends_once() {
    on_every_rung(async |host| {
        let mut program = script("stty raw < /dev/tty; i=0; while [ $i -lt 5000 ]; do echo line$i; i=$((i+1)); done");
        program.plan.output = Output::Terminal { rows: 24, columns: 80 };
        let mut run = program.start(host).await;
        let expected: String = (0..5000).map(|line| format!("line{line}\n")).collect();
        let output = run.all_output().await;
        assert!(output == expected, "{} bytes, not {}", output.len(), expected.len());
        assert_eq!(run.child.exited().await, Exit::Code(0));
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_terminal_is_the_controlling_one_and_has_a_size() {
    on_every_rung(async |host| {
        let mut program = script("trap 'stty size' WINCH; stty size; echo to-tty > /dev/tty; read line; echo got $line; while :; do sleep 0.05; done");
        program.plan.output = Output::Terminal { rows: 30, columns: 100 };
        program.plan.stdin = Stdin::Pipe;
        let mut run = program.start(host).await;
        run.says("30 100").await;
        run.says("to-tty").await;
        let writer = run.child.stdin.take().expect("the terminal can be written to");
        assert_eq!(writer.try_write(b"hello\n").expect("there is room"), 6);
        run.says("got hello").await;
        run.child.tree.resize(40, 120).expect("it has a terminal");
        run.says("40 120").await;
        // Ctrl-C, by way of the terminal.
        assert_eq!(writer.try_write(b"\x03").expect("there is room"), 1);
        assert_eq!(run.child.exited().await, Exit::Signal { number: libc::SIGINT, core_dumped: false });
        run.release().await;
    })
    .await;
}

#[tokio::test]
async fn a_run_without_terminal_cannot_be_resized() {
    on_every_rung(async |host| {
        let run = script("sleep 60").start(host).await;
        assert!(run.child.tree.resize(1, 1).is_err());
        run.release().await;
    })
    .await;
}
