//! Many readers, slow readers, big logs.

use super::*;

fn is_send<T: Send>(value: T) -> T {
    value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watchers_get_every_byte_while_it_is_written() {
    let bench = Bench::new();
    let (writer, log) = bench.create(small(64 << 10));
    let mut author = Author::new(writer);
    let watchers: Vec<_> = (0..100)
        .map(|_| {
            let mut follower = Follower::from_start(&log);
            tokio::spawn(is_send(async move {
                follower.until_end().await;
                (follower.offsets, follower.missing.len())
            }))
        })
        .collect();
    for round in 0..300 {
        author.output(if round % 4 == 0 { ERR } else { OUT }, 1 + round * 97 % 9_000);
        author.writer.ready().await;
        if round % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let totals = author.totals.map(Some);
    author.writer.seal().await;
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), (totals, 0));
    }
}

#[tokio::test]
async fn a_stalled_watcher_costs_nothing_and_misses_nothing() {
    let bench = Bench::new();
    let (writer, log) = bench.create(small(64 << 10));
    let mut author = Author::new(writer);
    author.output(OUT, 10);
    let mut stalled = Follower::from_start(&log);
    stalled.step().await;
    for _ in 0..200 {
        author.output(OUT, 60_000);
        author.writer.ready().await;
    }
    author.writer.flush().await;
    let held = log.core.state().tail.held_bytes();
    assert!(held <= 64 << 10, "{held} bytes are held");
    author.writer.seal().await;
    stalled.until_end().await;
    assert_eq!((stalled.bytes, stalled.missing.len()), (12_000_010, 0));
}

#[tokio::test]
async fn a_reader_that_is_cancelled_skips_nothing() {
    let bench = Bench::new();
    let (writer, log) = bench.create(small(0));
    let mut author = Author::new(writer);
    for _ in 0..100 {
        author.output(OUT, 10_000);
    }
    author.writer.seal().await;
    let mut follower = Follower::from_start(&log);
    while !follower.is_ended {
        // Ask, walk away, ask again.
        match futures_util::FutureExt::now_or_never(follower.reader.next()) {
            Some(item) => match item.unwrap() {
                Item::Event(event) | Item::Gap(event) => follower.event(event),
                Item::Live => {}
                Item::End => follower.is_ended = true,
            },
            None => tokio::task::yield_now().await,
        }
    }
    assert_eq!((follower.bytes, follower.missing.len()), (1_000_000, 0));
}

#[tokio::test]
async fn a_log_much_larger_than_its_memory_is_read_whole() {
    let bench = Bench::new();
    let (writer, log) = bench.create(small(4 << 10));
    let mut author = Author::new(writer);
    for _ in 0..400 {
        author.output(OUT, 64 << 10);
        author.output(ERR, 10);
        author.writer.ready().await;
    }
    author.writer.seal().await;
    for log in [log, bench.load()] {
        let options = ReadOptions { channels: Some(vec![OUT]), max_output_bytes: 256 << 10, strict: true };
        let mut all = Follower::new(&log, From::Start, options, [Some(0), None, None]);
        all.until_end().await;
        assert_eq!(all.bytes, 400 << 16);
        assert!(all.output_events <= 101, "joined to 256 KiB: {}", all.output_events);
    }
}
