//! Output captured through files that the command writes itself.

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{Capture, Channel, ExecuteRequest, ExecutionOptions, Limits, OutputPolicy};
use sha2::{Digest, Sha256};

use crate::support::calls::attach;
use crate::support::run::With;
use crate::support::{Server, shell};

fn to_files(request: ExecuteRequest, options: ExecutionOptions) -> ExecuteRequest {
    request.options(ExecutionOptions { capture: Capture::File.into(), ..options })
}

#[tokio::test]
async fn output_in_files_is_followed_while_the_run_goes_on() {
    let server = Server::start().await;
    let client = server.client().await;
    nix::unistd::mkfifo(&server.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = "[ -f /proc/self/fd/1 ] && echo file; read line < go; echo error >&2; echo last";
    let mut events = client.execute(to_files(shell(script), ExecutionOptions::default())).await;
    let first = events.until(|event| if let Event::Output(it) = event { Some(it.data.clone()) } else { None }).await;
    assert_eq!(first, "file\n", "it comes while the run waits");
    tokio::fs::write(server.path("go"), "go\n").await.unwrap();
    let seen = events.to_end().await.whole();
    assert_eq!((seen.stdout(), seen.stderr()), ("file\nlast\n".to_owned(), "error\n".to_owned()));
}

#[tokio::test]
async fn merged_files_keep_the_order() {
    let server = Server::start().await;
    let script = "i=0; while [ $i -lt 200 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done";
    let options = ExecutionOptions { merge_stderr: true, ..ExecutionOptions::default() };
    let seen = server.client().await.run(to_files(shell(script), options)).await.whole();
    let wanted: String = (0..200).map(|index| format!("o{index}\ne{index}\n")).collect();
    assert_eq!((seen.stdout(), seen.outcome().channels.len()), (wanted, 1));
}

#[tokio::test]
async fn a_large_answer_right_before_the_exit_is_kept_whole() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut random = fastrand::Rng::with_seed(5);
    let data: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(20 << 20).collect();
    std::fs::write(server.path("data"), &data).unwrap();
    let script = "cat data; cat data >&2; kill -9 $$";
    let seen = client.run(to_files(shell(script).id("large"), ExecutionOptions::default())).await.whole();
    for channel in [Channel::Stdout, Channel::Stderr] {
        assert!(seen.bytes(channel) == data, "{channel:?}");
        assert_eq!(seen.summary(channel).sha256, Sha256::digest(&data).to_vec());
    }
    let late = client.attach(attach("large")).await.whole();
    assert!(late.bytes(Channel::Stdout) == data && late.bytes(Channel::Stderr) == data);
}

#[tokio::test]
async fn what_a_grandchild_writes_after_the_exit_is_kept_too() {
    let server = Server::start().await;
    let client = server.client().await;
    nix::unistd::mkfifo(&server.path("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let options =
        ExecutionOptions { on_leak: cc_executor::proto::LeakPolicy::Wait.into(), ..ExecutionOptions::default() };
    let script = "(read line < go; echo late) & echo early";
    let mut events = client.execute(to_files(shell(script).id("left"), options)).await;
    events.until(|event| matches!(event, Event::Exited(_)).then_some(())).await;
    tokio::fs::write(server.path("go"), "go\n").await.unwrap();
    let seen = events.to_end().await.whole();
    assert_eq!(seen.stdout(), "early\nlate\n");
    assert!(seen.outcome().success && !seen.outcome().output_incomplete);
}

#[tokio::test]
async fn files_forget_their_beginning_when_the_room_is_used_up() {
    let server = Server::start().await;
    let client = server.client().await;
    let options = ExecutionOptions {
        limits: Some(Limits { output_bytes: Some(1 << 20), ..Limits::default() }),
        on_output_limit: OutputPolicy::DropOldest.into(),
        ..ExecutionOptions::default()
    };
    let wanted: Vec<u8> = (1..=1_000_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let live = client.run(to_files(shell("seq 1 1000000").id("trimmed"), options)).await.whole();
    let late = client.attach(attach("trimmed")).await.whole();
    for seen in [&live, &late] {
        let kept = seen.bytes(Channel::Stdout).len() as u64;
        assert_eq!(kept + seen.missing(Channel::Stdout), wanted.len() as u64);
        let summary = seen.summary(Channel::Stdout);
        assert_eq!(summary.bytes_total, wanted.len() as u64);
        assert_eq!(summary.sha256, Sha256::digest(&wanted).to_vec());
    }
    let kept = late.bytes(Channel::Stdout);
    assert!(kept.len() <= 1 << 20 && kept.len() > 512 << 10, "{} bytes are kept", kept.len());
    assert!(wanted.ends_with(&kept));
    assert_eq!(late.summary(Channel::Stdout).bytes_kept, kept.len() as u64);
    let taken = server.disk_usage("spool");
    assert!(taken < 3 << 20, "the disk has got the rest back: {taken} bytes are in use");
}
