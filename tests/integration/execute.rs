//! Running commands and following them.

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{Cause, Channel};

use crate::support::run::argv;
use crate::support::{Events, Server, shell};

#[tokio::test]
async fn output_arrives_apart_in_order_and_whole() {
    let server = Server::start().await;
    let request = shell("echo one; echo two >&2; printf three; exit 3");
    let stream = server.executions().await.execute(request).await.unwrap().into_inner();
    let seen = Events::of(stream).to_end().await;
    assert_eq!(seen.stdout(), "one\nthree");
    assert_eq!(seen.stderr(), "two\n");
    assert_eq!(seen.exit_code(), 3);
    assert_eq!(seen.outcome().cause(), Cause::Exited);
    assert!(!seen.outcome().success);
    assert!(matches!(seen.kinds().next(), Some(Event::Accepted(accepted)) if !accepted.attached));
    let stdout = seen.outcome().channels.iter().find(|summary| summary.channel() == Channel::Stdout).unwrap();
    assert_eq!((stdout.bytes_total, stdout.bytes_kept, stdout.sha256.len()), (9, 9, 32));
}

#[tokio::test]
async fn a_program_runs_without_a_shell() {
    let server = Server::start().await;
    let request = argv("echo", &["$HOME;", "a b"]);
    let stream = server.executions().await.execute(request).await.unwrap().into_inner();
    assert_eq!(Events::of(stream).to_end().await.stdout(), "$HOME; a b\n");
}
