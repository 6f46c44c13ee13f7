//! Reading a run's events from any point, during the run, after it, and after the server's.

use std::collections::BTreeMap;

use cc_executor::proto::attach_request::From;
use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{
    self, AttachRequest, Channel, ExecutionOptions, FromNow, FromOffsets, FromStart, Limits, OutputPolicy,
    StreamOptions, gap,
};
use sha2::{Digest, Sha256};
use tonic::Code;

use crate::support::calls::{Client, attach, attach_from, behind, input};
use crate::support::run::{Seen, With};
use crate::support::{Server, refusal, shell};

/// Output in small pieces on both channels, each piece seen by a follower before the next is written.
const TALK: &str = "for word in one two three four; do
    echo $word; read ack; echo $word >&2; read ack
done; printf end";

async fn talk(client: &Client, id: &str) -> Seen {
    let stdin = Some(proto::Stdin { mode: proto::stdin::Mode::Pipe.into(), ..Default::default() });
    let options = ExecutionOptions { stdin, ..ExecutionOptions::default() };
    let mut events = client.execute(shell(TALK).id(id).options(options)).await;
    for _ in 0..8 {
        events.until(|event| matches!(event, Event::Output(_)).then_some(())).await;
        client.write(id, input(None, "ack\n", false)).await.expect("it is accepted");
    }
    events.to_end().await.whole()
}

fn bounded(bytes: u64, policy: OutputPolicy) -> ExecutionOptions {
    let limits = Some(Limits { output_bytes: Some(bytes), ..Limits::default() });
    ExecutionOptions { limits, on_output_limit: policy.into(), ..ExecutionOptions::default() }
}

/// What is behind a cursor, by what a whole stream showed: the bytes of each channel, and the notes.
fn rest(whole: &Seen, seq: u64) -> (Vec<u8>, Vec<u8>, Vec<u64>) {
    let behind = whole.0.iter().filter(|event| event.cursor.is_some_and(|cursor| cursor.seq > seq)).cloned();
    let behind = Seen(behind.collect());
    let notes = behind.0.iter().filter(|event| !matches!(event.event, Some(Event::Output(_))));
    let notes = notes.filter_map(|event| event.cursor).map(|cursor| cursor.seq).collect();
    (behind.bytes(Channel::Stdout), behind.bytes(Channel::Stderr), notes)
}

#[tokio::test]
async fn every_cursor_of_a_run_gives_exactly_what_is_behind_it() {
    let server = Server::start().await;
    let client = server.client().await;
    let whole = talk(&client, "talk").await;
    let last = *whole.seqs().last().unwrap();
    assert_eq!(last, 12, "started, nine outputs, exited, completed: {:?}", whole.seqs());
    for follow in [true, false] {
        for seq in 0..=last {
            let request = AttachRequest { follow, ..attach_from("talk", behind(seq)) };
            let seen = client.attach(request).await;
            assert!(seen.accepted().1);
            let shown = rest(&seen, 0);
            let wanted = rest(&whole, seq);
            assert_eq!((&shown.0, &shown.1), (&wanted.0, &wanted.1), "behind {seq}");
            if seq < last {
                assert_eq!(shown.2, wanted.2, "behind {seq}");
            }
            assert_eq!(seen.outcome(), whole.outcome(), "of a run that has ended at least `completed` is sent");
        }
    }
    let future = client.executions.clone().attach(attach_from("talk", behind(last + 1))).await;
    assert!(future.is_ok(), "a cursor that a crash has cut off still leads to the end");
}

#[tokio::test]
async fn completed_is_the_last_event_of_a_stream_that_follows_and_live_of_one_that_does_not() {
    let server = Server::start().await;
    let client = server.client().await;
    client.run(shell("echo x").id("done")).await;
    let from = [None, Some(From::Start(FromStart {})), Some(From::Now(FromNow {})), Some(behind(1))];
    for from in from.into_iter().chain([Some(From::TailBytes(1)), Some(From::Offsets(FromOffsets::default()))]) {
        let seen = client.attach(AttachRequest { from, ..attach("done") }).await;
        let kinds: Vec<_> = seen.kinds().collect();
        assert!(matches!(kinds[kinds.len() - 2..], [Event::Live(_), Event::Completed(_)]), "{from:?}: {kinds:?}");
        let seen = client.attach(AttachRequest { from, follow: false, ..attach("done") }).await;
        assert!(matches!(seen.kinds().last(), Some(Event::Live(_))), "{from:?}");
    }
}

#[tokio::test]
async fn a_stream_that_does_not_follow_ends_while_the_run_goes_on() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut events = client.execute(shell("echo up; exec sleep 1000").id("on")).await;
    events.until(|event| matches!(event, Event::Output(_)).then_some(())).await;
    let seen = client.attach(AttachRequest { follow: false, ..attach("on") }).await.whole();
    assert_eq!(seen.stdout(), "up\n");
    match seen.kinds().last() {
        Some(Event::Live(live)) => assert_eq!(live.cursor.unwrap().seq, *seen.seqs().last().unwrap()),
        other => panic!("{other:?}"),
    }
    client.kill("on").await;
    events.to_end().await.whole();
}

#[tokio::test]
async fn from_now_shows_only_what_comes() {
    let server = Server::start().await;
    let client = server.client().await;
    let stdin = Some(proto::Stdin { mode: proto::stdin::Mode::Pipe.into(), ..Default::default() });
    let options = ExecutionOptions { stdin, ..ExecutionOptions::default() };
    let mut events = client.execute(shell("echo before; read line; echo after").id("now").options(options)).await;
    events.until(|event| matches!(event, Event::Output(_)).then_some(())).await;
    let mut late = client.follow(attach_from("now", From::Now(FromNow {}))).await;
    late.until(|event| matches!(event, Event::Live(_)).then_some(())).await;
    client.write("now", input(None, "go\n", false)).await.unwrap();
    let late = late.to_end().await;
    assert_eq!(late.stdout(), "after\n");
    assert_eq!(late.first_offset(Channel::Stdout), Some(7));
    assert_eq!(events.to_end().await.whole().stdout(), "before\nafter\n");
}

#[tokio::test]
async fn channels_that_are_not_wanted_are_left_out_and_all_else_is_sent() {
    let server = Server::start().await;
    let client = server.client().await;
    let whole = talk(&client, "talk").await;
    let seen = client.attach(AttachRequest { channels: vec![Channel::Stderr.into()], ..attach("talk") }).await;
    assert_eq!((seen.stdout(), seen.stderr()), (String::new(), whole.stderr()));
    let notes = |seen: &Seen| seen.kinds().filter(|event| !matches!(event, Event::Output(_))).count();
    assert_eq!(notes(&seen), notes(&whole));
    let refused =
        refusal(client.executions.clone().attach(AttachRequest { channels: vec![0], ..attach("talk") }).await);
    assert_eq!(refused.fields, ["channels"]);
}

/// 4 MiB on each channel, the same bytes each time; both channels are written at once.
async fn large(server: &Server, client: &Client, id: &str, options: ExecutionOptions) -> BTreeMap<Channel, Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut data = BTreeMap::new();
    for (channel, name) in [(Channel::Stdout, "a"), (Channel::Stderr, "b")] {
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(4 << 20).collect();
        std::fs::write(server.path(name), &bytes).expect("the data is written");
        data.insert(channel, bytes);
    }
    let seen = client.run(shell("cat a & cat b >&2; wait").id(id).options(options)).await.whole();
    assert!(seen.outcome().success, "{:?}", seen.outcome());
    for (channel, bytes) in &data {
        assert_eq!(seen.bytes(*channel).len() as u64 + seen.missing(*channel), bytes.len() as u64);
    }
    data
}

#[tokio::test]
async fn a_large_run_reads_the_same_from_any_point_in_any_pieces_and_after_a_restart() {
    let server = Server::start().await;
    let client = server.client().await;
    let data = large(&server, &client, "large", ExecutionOptions::default()).await;
    check_large(&client, &data).await;
    let (state, _) = server.stop().await;
    let server = Server::setup().state(state).start().await;
    check_large(&server.client().await, &data).await;
}

async fn check_large(client: &Client, data: &BTreeMap<Channel, Vec<u8>>) {
    let whole = client.attach(attach("large")).await.whole();
    for (channel, bytes) in data {
        assert!(whole.bytes(*channel) == *bytes, "{channel:?} is identical");
        assert_eq!(whole.summary(*channel).sha256, Sha256::digest(bytes).to_vec());
    }
    let mut random = fastrand::Rng::with_seed(11);
    for max_output_bytes in [4_096, 262_144] {
        let stream = Some(StreamOptions { max_output_bytes, ..StreamOptions::default() });
        let (stdout, stderr) = (random.u64(..4 << 20), random.u64(..4 << 20));
        let from = From::Offsets(FromOffsets { stdout, stderr, terminal: 0 });
        let seen = client.attach(AttachRequest { stream, ..attach_from("large", from) }).await;
        for (channel, offset) in [(Channel::Stdout, stdout), (Channel::Stderr, stderr)] {
            assert_eq!(seen.first_offset(channel), Some(offset));
            assert!(seen.bytes(channel) == data[&channel][offset as usize..], "{channel:?} from {offset}");
        }
        for event in seen.kinds() {
            if let Event::Output(output) = event {
                assert!(output.data.len() <= max_output_bytes as usize);
            }
        }
        let seqs = whole.seqs();
        let seq = seqs[random.usize(..seqs.len())];
        let seen = client.attach(AttachRequest { stream, ..attach_from("large", behind(seq)) }).await;
        let wanted = rest(&whole, seq);
        assert!((seen.bytes(Channel::Stdout), seen.bytes(Channel::Stderr)) == (wanted.0, wanted.1), "behind {seq}");
    }
    let tail = client.attach(attach_from("large", From::TailBytes(100_000))).await;
    let kept = [Channel::Stdout, Channel::Stderr].map(|channel| tail.bytes(channel));
    assert_eq!(kept.iter().map(Vec::len).sum::<usize>(), 100_000);
    assert!(data[&Channel::Stdout].ends_with(&kept[0]) && data[&Channel::Stderr].ends_with(&kept[1]));
}

#[tokio::test]
async fn resuming_in_the_middle_of_split_output_brings_every_byte() {
    let server = Server::start().await;
    let client = server.client().await;
    client.run(shell("head -c 300000 /dev/zero | tr '\\0' x; echo end >&2").id("split")).await;
    let whole = client.attach(attach("split")).await.whole().bytes(Channel::Stdout);
    let stream = Some(StreamOptions { max_output_bytes: 4_096, ..StreamOptions::default() });
    let small = client.attach(AttachRequest { stream, ..attach("split") }).await.whole();
    let outputs: Vec<_> = small.0.iter().filter(|event| matches!(event.event, Some(Event::Output(_)))).collect();
    assert!(outputs.len() > 70);
    for event in outputs.iter().step_by(7) {
        let Some(Event::Output(output)) = &event.event else { unreachable!("filtered") };
        let had =
            if output.channel() == Channel::Stdout { output.offset as usize + output.data.len() } else { 300_000 };
        let seen = client.attach(attach_from("split", behind(event.cursor.unwrap().seq))).await;
        let first = seen.first_offset(Channel::Stdout).map_or(300_000, |offset| offset as usize);
        assert!(first <= had, "nothing between {had} and {first} is skipped");
        assert!([&whole[..first], &seen.bytes(Channel::Stdout)].concat() == whole);
    }
}

#[tokio::test]
async fn forgotten_output_is_a_gap_with_exact_ranges() {
    let server = Server::start().await;
    let client = server.client().await;
    let data = large(&server, &client, "oldest", bounded(64 << 10, OutputPolicy::DropOldest)).await;
    let seen = client.attach(attach("oldest")).await.whole();
    let mut kept_of_all = 0;
    for (channel, bytes) in &data {
        let (kept, missing) = (seen.bytes(*channel), seen.missing(*channel));
        let summary = seen.summary(*channel);
        assert_eq!((summary.bytes_total, summary.bytes_total - missing), (4 << 20, kept.len() as u64));
        assert_eq!((summary.bytes_kept, summary.first_kept_offset), (kept.len() as u64, missing));
        assert!(bytes.ends_with(&kept), "the newest are kept");
        assert_eq!(summary.sha256, Sha256::digest(bytes).to_vec(), "dropped bytes count in the digest");
        kept_of_all += kept.len();
    }
    assert!((1..=64 << 10).contains(&kept_of_all), "{kept_of_all} bytes are kept");
    let reasons = seen.kinds().filter_map(|event| if let Event::Gap(gap) = event { Some(gap.reason()) } else { None });
    assert!(reasons.into_iter().all(|reason| reason == gap::Reason::OutputLimit));
    let warned = seen.kinds().filter(
        |event| matches!(event, Event::Warning(warning) if warning.kind() == proto::warning::Kind::OutputLimit),
    );
    assert_eq!(warned.count(), 1);

    let strict = AttachRequest { strict_replay: true, ..attach("oldest") };
    let refused = refusal(client.executions.clone().attach(strict).await);
    assert_eq!(refused.kind(), (Code::OutOfRange, "OUT_OF_RANGE"));
    let first = |channel: &str| -> u64 { refused.metadata[channel].split('-').next().unwrap().parse().unwrap() };
    let (stdout, stderr) = (first("stdout"), first("stderr"));
    assert_eq!(stdout, seen.summary(Channel::Stdout).first_kept_offset);
    let from = From::Offsets(FromOffsets { stdout, stderr, terminal: 0 });
    let strict = AttachRequest { strict_replay: true, ..attach_from("oldest", from) };
    let valid = client.attach(strict).await;
    assert_eq!(valid.bytes(Channel::Stdout), seen.bytes(Channel::Stdout), "the range it names is valid");
}

#[tokio::test]
async fn output_that_is_not_kept_is_a_gap_with_exact_ranges() {
    let server = Server::start().await;
    let client = server.client().await;
    let data = large(&server, &client, "newest", bounded(64 << 10, OutputPolicy::DropNewest)).await;
    let seen = client.attach(attach("newest")).await.whole();
    let mut kept_of_all = 0;
    for (channel, bytes) in &data {
        let (kept, missing) = (seen.bytes(*channel), seen.missing(*channel));
        let summary = seen.summary(*channel);
        assert_eq!((summary.bytes_total, summary.bytes_kept), (4 << 20, kept.len() as u64));
        assert_eq!((summary.first_kept_offset, missing), (0, (4 << 20) - kept.len() as u64));
        assert!(bytes.starts_with(&kept), "the oldest are kept");
        assert_eq!(summary.sha256, Sha256::digest(bytes).to_vec());
        kept_of_all += kept.len();
    }
    assert_eq!(kept_of_all, 64 << 10);
}

#[tokio::test]
async fn offsets_and_cursors_in_the_future_are_out_of_range() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut events = client.execute(shell("echo up; exec sleep 1000").id("here")).await;
    events.until(|event| matches!(event, Event::Output(_)).then_some(())).await;
    let offsets = FromOffsets { stdout: 4, ..FromOffsets::default() };
    for from in [behind(1000), From::Offsets(offsets)] {
        let refused = refusal(client.executions.clone().attach(attach_from("here", from)).await);
        assert_eq!(refused.kind(), (Code::OutOfRange, "OUT_OF_RANGE"), "{from:?}");
        assert_eq!((refused.metadata["last_seq"].as_str(), refused.metadata["stdout"].as_str()), ("2", "0-3"));
    }
    let epoch = From::Cursor(proto::Cursor { epoch: 2, seq: 1 });
    assert_eq!(refusal(client.executions.clone().attach(attach_from("here", epoch)).await).fields, ["cursor.epoch"]);
    client.kill("here").await;
}
