//! What a writer may rely on.

use std::io::Write;

use super::*;

#[tokio::test]
async fn small_pieces_become_few_events() {
    let bench = Bench::new();
    let (writer, log) = bench.create(LogConfig::default());
    let mut author = Author::new(writer);
    for _ in 0..100_000 {
        author.output(OUT, 1);
    }
    assert!(log.last().seq <= 2, "nobody has looked, so nothing is kept apart: {:?}", log.last());
    author.writer.seal().await;
    let all = read_all(&bench.load()).await;
    assert_eq!((all.bytes, all.output_events), (100_000, 2));
}

#[tokio::test]
async fn what_was_seen_does_not_change() {
    let bench = Bench::new();
    let (writer, log) = bench.create(LogConfig::default());
    let mut author = Author::new(writer);
    author.output(OUT, 5);
    let cursor = log.last();
    author.output(OUT, 5);
    assert_eq!(log.last().seq, cursor.seq + 1, "a cursor was given out");
    let mut follower = Follower::from_start(&log);
    follower.until_live().await;
    author.output(OUT, 5);
    follower.step().await;
    author.output(OUT, 5);
    follower.step().await;
    assert_eq!(follower.bytes, 20);
    assert_eq!(log.last().seq, 4, "a reader has seen each");
}

#[tokio::test]
async fn a_lone_piece_is_live_at_once() {
    let bench = Bench::new();
    let (writer, log) = bench.create(LogConfig::default());
    let mut author = Author::new(writer);
    let mut follower = Follower::from_start(&log);
    follower.until_live().await;
    author.output(ERR, 1);
    let event = futures_util::FutureExt::now_or_never(follower.reader.next());
    assert!(matches!(event, Some(Ok(Item::Event(_)))), "nothing is waited for: {event:?}");
}

#[tokio::test]
async fn nothing_touches_the_disk_before_there_is_an_event() {
    let bench = Bench::new();
    let (mut writer, log) = bench.create(LogConfig::default());
    writer.declare(OUT);
    writer.flush().await;
    assert_eq!(std::fs::read_dir(bench.directory.path().join("spool")).unwrap().count(), 0);
    assert_eq!(bench.spool.size(&bench.id).unwrap(), 0);
    assert_eq!(log.last(), Cursor::at(0));
    writer.seal().await;
    read_all(&log).await;
    assert_eq!(summary_of(&bench.load().summaries(), OUT).sha256, Some(sha256(OUT, 0)));
}

#[tokio::test]
async fn an_idle_log_holds_no_file() {
    let bench = Bench::new();
    let (mut writer, log) = bench.create(LogConfig::default());
    writer.output(OUT, Bytes::from_static(b"ready\n"));
    writer.flush().await;
    log.core.until(|state| !state.is_pending()).await;
    let path = bench.file("out");
    let is_ours = |link: PathBuf| std::fs::read_link(link).is_ok_and(|target| target == path);
    // The job closes its files when it finds nothing more to do, which is right after it wrote.
    while std::fs::read_dir("/proc/self/fd").unwrap().any(|entry| is_ours(entry.unwrap().path())) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn digests_cover_everything_at_any_time() {
    let bench = Bench::new();
    let (writer, _log) = bench.create(LogConfig::default());
    let mut author = Author::new(writer);
    author.writer.declare(ERR);
    for length in [10, 100_000, 3, 2_000_000, 1] {
        author.output(OUT, length);
        let summaries = author.writer.digests().await;
        assert_eq!(summary_of(&summaries, OUT).sha256, Some(sha256(OUT, author.totals[0])));
        assert_eq!(summary_of(&summaries, ERR).sha256, Some(sha256(ERR, 0)));
    }
    assert!(author.writer.summaries().iter().all(|summary| summary.sha256.is_none()), "the channels are open");
}

#[tokio::test]
async fn a_writer_is_held_back_until_the_disk_has_caught_up() {
    let bench = Bench::new();
    let (writer, log) = bench.create(small(0));
    let mut author = Author::new(writer);
    author.output(OUT, 3 << 20);
    let ready = futures_util::FutureExt::now_or_never(author.writer.ready());
    assert!(ready.is_none(), "3 MiB wait for the disk");
    author.writer.ready().await;
    assert!(!log.core.state().is_urgent());
}

#[tokio::test]
async fn what_the_child_writes_itself_is_adopted() {
    let bench = Bench::new();
    let (mut writer, log) = bench.create(small(0));
    let mut child = writer.file(OUT).unwrap();
    let mut errors = writer.file(ERR).unwrap();
    assert_eq!(writer.adopt(OUT).await.unwrap().0, 0);
    for round in 0..50u64 {
        child.write_all(&pattern(OUT, round * 40_000, 40_000)).unwrap();
        errors.write_all(&pattern(ERR, round * 10, 10)).unwrap();
        while writer.adopt(OUT).await.unwrap().0 + writer.adopt(ERR).await.unwrap().0 > 0 {}
    }
    assert_eq!(writer.adopt(Channel::Terminal).await.unwrap().0, 0, "nobody asked for its file");
    writer.seal().await;
    for log in [log, bench.load()] {
        let all = read_all(&log).await;
        assert_eq!(all.offsets, [Some(2_000_000), Some(500), Some(0)]);
        assert!(all.missing.is_empty());
        assert_eq!(summary_of(&log.summaries(), OUT).sha256, Some(sha256(OUT, 2_000_000)));
    }
    assert_eq!(std::fs::metadata(bench.file("out")).unwrap().len(), 2_000_000, "nothing is written twice");
}

#[tokio::test]
async fn a_writer_that_vanishes_leaves_what_it_wrote_and_a_gap() {
    let bench = Bench::new();
    let (writer, log) = bench.create(LogConfig::default());
    let mut author = Author::new(writer);
    author.output(OUT, 1000);
    let mut follower = Follower::from_start(&log);
    let core = Arc::clone(&log.core);
    drop(author);
    core.until(|state| state.is_finished).await;
    let is_lost = |item: &Item| match item {
        Item::Gap(Event { kind: EventKind::Note(Note::Gap(gap)), .. }) => gap.reason == GapReason::ServerLost,
        _ => false,
    };
    follower.until_live().await;
    assert_eq!(follower.bytes, 1000);
    assert!(is_lost(&follower.reader.next().await.unwrap()));
    assert_eq!(follower.reader.next().await.unwrap(), Item::End);
    assert_eq!(follower.reader.next().await.unwrap(), Item::End, "the end does not end");
    let loaded = bench.load();
    let mut reader = loaded.read(From::Now, ReadOptions::default()).unwrap();
    assert_eq!(reader.next().await.unwrap(), Item::Live);
    assert!(is_lost(&reader.next().await.unwrap()));
}

#[tokio::test]
async fn a_log_is_made_once_and_removed_whole() {
    let bench = Bench::new();
    assert!(matches!(bench.spool.load(&bench.id), Err(LogError::NotFound)));
    let (writer, log) = bench.create(LogConfig::default());
    let mut author = Author::new(writer);
    author.output(OUT, 100_000);
    author.output(ERR, 10);
    author.writer.seal().await;
    assert!(matches!(bench.spool.create(&bench.id, LogConfig::default()), Err(LogError::Exists)));
    assert!(matches!(bench.spool.recover(&bench.id), Err(LogError::Sealed)));

    let size = bench.spool.size(&bench.id).unwrap();
    assert!(size >= 100_000);
    assert_eq!(bench.spool.total_size().unwrap(), size);
    assert_eq!(bench.spool.remove(&bench.id).unwrap(), size);
    assert_eq!(bench.spool.total_size().unwrap(), 0);
    assert_eq!(bench.spool.remove(&bench.id).unwrap(), 0);
    let mut reader = log.read(From::Start, ReadOptions::default()).unwrap();
    assert!(matches!(reader.next().await, Err(LogError::NotFound)), "it is gone for those who still hold it, too");
}

#[tokio::test]
async fn notes_of_every_kind_come_back_as_they_were() {
    use crate::execution::outcome::*;
    let bench = Bench::new();
    let (mut writer, log) = bench.create(small(0));
    let notes = [
        Note::Warning {
            kind: crate::execution::event::WarningKind::Leak,
            message: "caf\u{e9}\0\n".to_owned(),
            remaining: Some(std::time::Duration::from_nanos(1_000_000_001)),
        },
        Note::Exited { ending: Ending::Signaled { number: 9, core_dumped: true }, open_channels: vec![ERR] },
        Note::Gap(Gap { events: None, ranges: vec![(OUT, 5..9)], reason: GapReason::ServerLost }),
        Note::Completed(Box::new(Outcome {
            ending: Ending::NotStarted(NotStarted {
                step: Step::Exec,
                errno: 2,
                path: Some("/nope".to_owned()),
                message: "no such file".to_owned(),
            }),
            cause: Cause::SpawnFailed,
            reason: String::new(),
            escalation: vec![SentSignal { number: 15, time: jiff::Timestamp::now(), processes: 3 }],
            usage: Usage { source: Some(UsageSource::Cgroup), ..Usage::default() },
            durations: Durations::default(),
            channels: writer.digests().await,
            output_incomplete: true,
            leaked: vec![Process { pid: 1, command: "x".to_owned() }],
            survivors: Vec::new(),
        })),
    ];
    for note in &notes {
        writer.note(note.clone());
    }
    writer.seal().await;
    for log in [log, bench.load()] {
        let mut reader = log.read(From::Start, ReadOptions::default()).unwrap();
        for (index, note) in notes.iter().enumerate() {
            let Item::Event(event) = reader.next().await.unwrap() else { panic!("a note is an event") };
            assert_eq!((event.seq, &event.kind), (index as u64 + 1, &EventKind::Note(note.clone())));
        }
        assert_eq!(reader.next().await.unwrap(), Item::Live);
        assert_eq!(reader.next().await.unwrap(), Item::End);
    }
}
