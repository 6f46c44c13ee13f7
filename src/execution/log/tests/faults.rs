//! What happens when the disk fails.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const NO_SPACE: i32 = nix::libc::ENOSPC;
const IO_ERROR: i32 = nix::libc::EIO;

fn config(memory_bytes: usize, policy: OutputPolicy) -> LogConfig {
    LogConfig { memory_bytes, policy, ..LogConfig::default() }
}

#[tokio::test]
async fn a_short_failure_loses_nothing() {
    let bench = Bench::new();
    let (writer, log) = bench.create(config(1 << 20, OutputPolicy::DropOldest));
    let mut author = Author::new(writer);
    author.output(OUT, 1000);
    author.writer.flush().await;
    log.core.files.faults.set(NO_SPACE);
    author.output(OUT, 50_000);
    author.writer.flush().await;
    assert!(author.writer.failure().unwrap().contains("No space left"), "{:?}", author.writer.failure());
    let mut follower = Follower::from_start(&log);
    follower.until_live().await;
    assert_eq!(follower.bytes, 51_000, "it can be read meanwhile");
    log.core.files.faults.set(0);
    author.output(ERR, 10);
    author.writer.flush().await;
    assert_eq!(author.writer.failure(), None);
    author.writer.seal().await;
    let all = read_all(&bench.load()).await;
    assert_eq!((all.bytes, all.missing.len()), (51_010, 0));
}

#[tokio::test]
async fn a_long_failure_loses_the_oldest_and_says_so() {
    for policy in [OutputPolicy::DropOldest, OutputPolicy::DropNewest, OutputPolicy::Cancel] {
        let bench = Bench::new();
        let (writer, log) = bench.create(config(64 << 10, policy));
        let mut author = Author::new(writer);
        author.output(OUT, 1000);
        author.writer.flush().await;
        log.core.files.faults.set(IO_ERROR);
        for _ in 0..100 {
            author.output(OUT, 40_000);
            author.output(ERR, 100);
            author.note();
            author.writer.ready().await; // memory is bounded, so it must go on
        }
        assert!(author.writer.failure().is_some());
        log.core.files.faults.set(0);
        author.writer.flush().await;
        author.output(OUT, 5);
        let (totals, notes) = (author.totals, author.notes);
        author.writer.seal().await;
        for log in [log, bench.load()] {
            let all = read_all(&log).await;
            assert_eq!((all.offsets, all.notes.len() as u32), (totals.map(Some), notes), "every note is kept");
            assert!(all.missing.iter().all(|(_, _, reason)| *reason == GapReason::SpoolFailed));
            assert!(all.missing_bytes() > 3_000_000 && all.bytes > 1_000);
            let summaries = log.summaries();
            let kept: u64 = summaries.iter().map(|summary| summary.bytes_kept).sum();
            assert_eq!(kept, all.bytes);
            assert_eq!(summary_of(&summaries, OUT).sha256, Some(sha256(OUT, totals[0])), "what is lost is digested");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn block_waits_for_the_disk() {
    let bench = Bench::new();
    let (writer, log) = bench.create(config(0, OutputPolicy::Block));
    let mut author = Author::new(writer);
    log.core.files.faults.set(NO_SPACE);
    author.output(OUT, 100_000);
    author.writer.flush().await;
    tokio::time::timeout(Duration::from_secs(3600), author.writer.ready()).await.expect_err("the disk is full");
    log.core.files.faults.set(0);
    author.writer.ready().await;
    author.writer.seal().await;
    let all = read_all(&bench.load()).await;
    assert_eq!((all.bytes, all.missing.len()), (100_000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_log_ends_though_the_disk_does_not_come_back() {
    for policy in [OutputPolicy::DropOldest, OutputPolicy::Block] {
        let bench = Bench::new();
        let (writer, log) = bench.create(config(0, policy));
        let mut author = Author::new(writer);
        author.output(OUT, 1000);
        author.writer.flush().await;
        log.core.files.faults.set(NO_SPACE);
        author.output(OUT, 1000);
        author.note();
        let mut follower = Follower::from_start(&log);
        author.writer.seal().await;
        follower.until_end().await;
        assert_eq!(follower.notes, [1], "who is there gets the notes from memory");
        assert_eq!(follower.offsets[0], Some(2000));
        let loaded = read_all(&bench.load()).await;
        assert_eq!((loaded.bytes, loaded.is_lost), (1000, true), "who comes later is told");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_a_little_for_the_disk() {
    let bench = Bench::new();
    let (writer, log) = bench.create(config(0, OutputPolicy::DropOldest));
    let mut author = Author::new(writer);
    log.core.files.faults.set(NO_SPACE);
    author.output(OUT, 300_000);
    author.note();
    let sealing = tokio::spawn(author.writer.seal());
    log.core.until(|state| state.failures() > 0).await;
    log.core.files.faults.set(0);
    sealing.await.unwrap();
    let all = read_all(&bench.load()).await;
    assert_eq!((all.bytes, all.missing.len(), all.is_lost), (300_000, 0, false));
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Output(usize, usize),
    Note,
    Flush,
    Fail(bool),
    Read,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0..2usize, prop_oneof![1..100usize, 10_000..90_000usize]).prop_map(|(channel, length)| Act::Output(channel, length)),
        1 => Just(Act::Note),
        2 => Just(Act::Flush),
        2 => any::<bool>().prop_map(Act::Fail),
        1 => Just(Act::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whenever_the_disk_fails_every_byte_is_kept_or_announced(
        acts in prop::collection::vec(any_act(), 1..60),
        memory in prop_oneof![Just(0usize), Just(100_000)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let test = async {
            let bench = Bench::new();
            let (writer, log) = bench.create(config(memory, OutputPolicy::DropOldest));
            let mut author = Author::new(writer);
            let mut followers = Vec::new();
            for act in acts {
                match act {
                    Act::Output(channel, length) => { author.output(Channel::ALL[channel], length); }
                    Act::Note => { author.note(); }
                    Act::Flush => author.writer.flush().await,
                    Act::Fail(fails) => log.core.files.faults.set(if fails { NO_SPACE } else { 0 }),
                    Act::Read => {
                        let mut follower = Follower::from_start(&log);
                        follower.until_live().await;
                        followers.push(follower);
                    }
                }
                author.writer.ready().await;
            }
            log.core.files.faults.set(0);
            let (totals, notes) = (author.totals, author.notes);
            author.writer.seal().await;
            followers.push(Follower::from_start(&log));
            followers.push(Follower::from_start(&bench.load()));
            for mut follower in followers {
                follower.until_end().await;
                let ends = totals.map(Some);
                assert_eq!((follower.offsets, follower.notes.len() as u32), (ends, notes));
                assert!(!follower.is_lost);
            }
        };
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("nobody waits for ever") });
    }
}
