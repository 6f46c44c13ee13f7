//! What happens when the room for output is used up.

use std::os::unix::fs::MetadataExt;

use super::*;

fn limited(output_bytes: u64, policy: OutputPolicy) -> LogConfig {
    LogConfig { memory_bytes: 0, output_bytes, policy }
}

#[tokio::test]
async fn drop_oldest_keeps_the_end_and_gives_the_disk_back() {
    let bench = Bench::new();
    let budget = 4 << 20;
    let (writer, log) = bench.create(limited(budget, OutputPolicy::DropOldest));
    let mut author = Author::new(writer);
    author.note();
    let mut appended = Vec::new();
    for round in 0..1000 {
        let channel = if round % 10 == 0 { ERR } else { OUT };
        appended.push(author.output(channel, 20_000));
        if round == 500 {
            author.note();
        }
        author.writer.ready().await;
    }
    let firsts = appended.iter().filter(|appended| **appended == Appended::Dropping { first: true }).count();
    assert_eq!((appended[0], firsts), (Appended::Stored, 1));
    assert!(appended.iter().filter(|appended| **appended != Appended::Stored).count() < 100, "dropping is rare");
    assert!(author.writer.has_dropped());
    let totals = author.totals;
    author.writer.seal().await;

    let used = std::fs::metadata(bench.file("out")).unwrap().blocks() * 512;
    assert!(used <= budget + (256 << 10), "{used} bytes of disk");
    for log in [log, bench.load()] {
        let summaries = log.summaries();
        let kept: u64 = summaries.iter().map(|summary| summary.bytes_kept).sum();
        assert!(kept <= budget && kept > budget * 3 / 4, "{kept}");
        assert_eq!(summary_of(&summaries, OUT).sha256, Some(sha256(OUT, totals[0])));

        let all = read_all(&log).await;
        assert_eq!((all.notes, all.bytes), (vec![1, 2], kept));
        assert_eq!(
            all.missing.len(),
            4,
            "one gap before and one behind the second note, in two channels: {:?}",
            all.missing
        );
        assert!(all.missing.iter().all(|(_, _, reason)| *reason == GapReason::OutputLimit));

        let first = summary_of(&summaries, OUT).first_kept_offset;
        assert!(matches!(log.read_channel(OUT, first - 1, None), Err(LogError::OutOfRange { .. })));
        log.read_channel(OUT, first, None).unwrap().next().await.unwrap().unwrap();
        let strict = ReadOptions { strict: true, ..ReadOptions::default() };
        let refused = log.read(From::Start, strict.clone());
        let Err(LogError::OutOfRange { valid }) = refused else { panic!("{refused:?}") };
        assert_eq!(valid.offsets[0], first..totals[0]);
        let behind = From::Cursor(Cursor::at(valid.events.0 - 1));
        let mut rest = Follower::new(&log, behind, strict.clone(), [None; 3]);
        rest.until_end().await;
        assert_eq!(rest.bytes, kept, "what is said to be valid is");
        let mut before = log.read(From::Cursor(Cursor::at(5)), strict).unwrap();
        assert!(matches!(before.next().await, Err(LogError::OutOfRange { .. })));
    }
}

#[tokio::test]
async fn drop_newest_keeps_the_beginning_and_says_so_at_the_end() {
    let bench = Bench::new();
    let (writer, log) = bench.create(limited(10_000, OutputPolicy::DropNewest));
    let mut author = Author::new(writer);
    assert_eq!(author.output(OUT, 6_000), Appended::Stored);
    assert_eq!(author.output(ERR, 6_000), Appended::Dropping { first: true });
    assert_eq!(author.output(OUT, 1), Appended::Dropping { first: false });
    author.note();
    author.output(OUT, 99);
    let totals = author.totals;
    let digests = author.writer.digests().await;
    assert_eq!(summary_of(&digests, OUT).sha256, Some(sha256(OUT, totals[0])));
    author.writer.seal().await;
    for log in [log, bench.load()] {
        let all = read_all(&log).await;
        assert_eq!(all.offsets, totals.map(Some));
        let limit = GapReason::OutputLimit;
        assert_eq!(all.missing, [(OUT, 6_000..6_100, limit), (ERR, 4_000..6_000, limit)]);
        let summaries = log.summaries();
        assert_eq!(summary_of(&summaries, ERR).bytes_kept, 4_000);
        assert_eq!(summary_of(&summaries, ERR).bytes_total, 6_000);
        assert_eq!(summary_of(&summaries, ERR).sha256, Some(sha256(ERR, 6_000)));
        let mut behind = Follower::new(&log, From::Offsets([6_100, 6_000, 0]), ReadOptions::default(), [None; 3]);
        behind.until_end().await;
        assert_eq!((behind.bytes, behind.notes), (0, vec![1]));
    }
}

#[tokio::test]
async fn what_was_dropped_is_said_before_the_run_is_completed() {
    use crate::execution::outcome::*;
    let bench = Bench::new();
    let (writer, log) = bench.create(limited(10, OutputPolicy::DropNewest));
    let mut author = Author::new(writer);
    author.output(OUT, 15);
    author.writer.note(Note::Completed(Box::new(Outcome {
        ending: Ending::Exited(0),
        cause: Cause::Exited,
        reason: String::new(),
        escalation: Vec::new(),
        usage: Usage::default(),
        durations: Durations::default(),
        channels: Vec::new(),
        output_incomplete: false,
        leaked: Vec::new(),
        survivors: Vec::new(),
    })));
    author.writer.seal().await;
    let mut reader = log.read(From::Start, ReadOptions::default()).unwrap();
    let mut kinds = Vec::new();
    while let Item::Event(event) = reader.next().await.unwrap() {
        kinds.push(match event.kind {
            EventKind::Output { .. } => "output",
            EventKind::Note(Note::Gap(_)) => "gap",
            EventKind::Note(_) => "completed",
        });
    }
    assert_eq!(kinds, ["output", "gap", "completed"]);
}

#[tokio::test]
async fn block_holds_the_writer_back_and_loses_nothing() {
    let bench = Bench::new();
    let (writer, log) = bench.create(limited(1000, OutputPolicy::Block));
    let mut author = Author::new(writer);
    author.output(OUT, 999);
    author.writer.ready().await;
    assert_eq!(author.output(OUT, 500), Appended::Stored);
    author.writer.flush().await;
    assert!(futures_util::FutureExt::now_or_never(author.writer.ready()).is_none(), "the room is used up");
    author.writer.seal().await;
    let all = read_all(&log).await;
    assert_eq!((all.bytes, all.missing.len()), (1499, 0));
}

#[tokio::test]
async fn cancel_tells_the_writer() {
    let bench = Bench::new();
    let (writer, log) = bench.create(limited(1000, OutputPolicy::Cancel));
    let mut author = Author::new(writer);
    assert_eq!(author.output(OUT, 1000), Appended::Stored);
    assert!(!author.writer.has_dropped());
    assert_eq!(author.output(ERR, 1), Appended::LimitReached);
    assert_eq!(author.output(OUT, 1), Appended::LimitReached);
    author.writer.seal().await;
    let all = read_all(&log).await;
    assert_eq!((all.bytes, all.missing_bytes()), (1000, 2));
}

#[tokio::test]
async fn a_flood_of_tiny_events_does_not_fill_the_disk_with_frames() {
    let bench = Bench::new();
    let (writer, log) = bench.create(limited(200_000, OutputPolicy::DropOldest));
    let mut author = Author::new(writer);
    // Each byte is an event of its own, with 42 bytes of frame.
    for _ in 0..80_000 {
        author.output(OUT, 1);
        author.output(ERR, 1);
        if author.totals[0].is_multiple_of(5_000) {
            author.writer.flush().await;
        }
    }
    author.writer.flush().await;
    let metadata = std::fs::metadata(bench.file("log")).unwrap();
    assert!(metadata.len() > 160_000 * 42, "the events were kept apart");
    assert!(metadata.blocks() * 512 < 2 << 20, "{} bytes of frames", metadata.blocks() * 512);
    let totals = author.totals.map(Some);
    author.writer.seal().await;
    for log in [log, bench.load()] {
        let all = read_all(&log).await;
        assert_eq!(all.offsets, totals);
        assert!(all.bytes > 20_000, "{}", all.bytes);
    }
}

#[tokio::test]
async fn the_childs_own_file_is_given_back_as_well() {
    let bench = Bench::new();
    let (mut writer, log) = bench.create(limited(1 << 20, OutputPolicy::DropOldest));
    let mut child = writer.file(OUT).unwrap();
    for round in 0..100u64 {
        std::io::Write::write_all(&mut child, &pattern(OUT, round * 100_000, 100_000)).unwrap();
        while writer.adopt(OUT).await.unwrap().0 > 0 {}
    }
    assert!(writer.has_dropped());
    writer.seal().await;
    let used = std::fs::metadata(bench.file("out")).unwrap().blocks() * 512;
    // One step is given back at a time, and a file system rounds to blocks of its own.
    assert!(used <= (1 << 20) + (128 << 10), "{used} bytes of disk");
    for log in [log, bench.load()] {
        let all = read_all(&log).await;
        assert_eq!((all.offsets[0], all.missing.len()), (Some(10_000_000), 1));
        assert!(all.bytes > 800_000);
    }
}

#[tokio::test]
async fn what_the_child_writes_beyond_the_limit_is_counted_once() {
    let bench = Bench::new();
    let (mut writer, log) = bench.create(limited(50_000, OutputPolicy::Cancel));
    let mut child = writer.file(OUT).unwrap();
    std::io::Write::write_all(&mut child, &pattern(OUT, 0, 200_000)).unwrap();
    while writer.adopt(OUT).await.unwrap().0 > 0 {}
    assert!(writer.has_dropped());
    assert_eq!(summary_of(&writer.digests().await, OUT).sha256, Some(sha256(OUT, 200_000)));
    writer.seal().await;
    let all = read_all(&log).await;
    assert_eq!((all.bytes, all.missing), (50_000, vec![(OUT, 50_000..200_000, GapReason::OutputLimit)]));
}

#[tokio::test]
async fn what_was_forgotten_stays_forgotten_after_a_crash() {
    let bench = Bench::new();
    let (writer, log) = bench.create(limited(100_000, OutputPolicy::DropOldest));
    let mut author = Author::new(writer);
    for _ in 0..100 {
        author.output(OUT, 10_000);
        author.note();
        author.writer.ready().await;
    }
    drop(author);
    log.core.until(|state| state.is_finished).await;
    let before = log.summaries();
    let (writer, log) = bench.spool.recover(&bench.id).unwrap();
    writer.seal().await;
    for log in [log, bench.load()] {
        let all = read_all(&log).await;
        assert_eq!((all.offsets[0], all.notes.len()), (Some(1_000_000), 100));
        assert!(all.missing.iter().all(|(_, _, reason)| *reason == GapReason::OutputLimit));
        let kept = summary_of(&log.summaries(), OUT);
        assert_eq!((kept.bytes_kept, kept.first_kept_offset), (all.bytes, before[0].first_kept_offset));
    }
}
