//! What is left when the server is killed, the disk is cut off or a byte of it turns.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;

/// A sealed log of a few hundred events in both channels.
async fn write(bench: &Bench, events: usize) -> (Author, Log) {
    let (writer, log) = bench.create(small(0));
    let mut author = Author::new(writer);
    for round in 0..events {
        match round % 5 {
            0 => drop(author.note()),
            1 | 3 => drop(author.output(ERR, 1 + round % 50)),
            _ => drop(author.output(OUT, 1 + round * 7 % 400)),
        }
        keep_apart(&log);
    }
    author.writer.flush().await;
    (author, log)
}

/// Writes a log and seals it. Returns what it held.
async fn sealed(bench: &Bench, events: usize) -> ([u64; 3], u32) {
    let (author, _) = write(bench, events).await;
    let (totals, notes) = (author.totals, author.notes);
    author.writer.seal().await;
    (totals, notes)
}

/// Leaves the files as a killed server does: no seal, no job that still writes.
async fn killed(bench: &Bench, events: usize) -> ([u64; 3], u32) {
    let (author, log) = write(bench, events).await;
    let (totals, notes) = (author.totals, author.notes);
    drop(author);
    log.core.until(|state| state.is_finished).await;
    (totals, notes)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limit = std::time::Duration::from_secs(60);
    runtime.block_on(async { tokio::time::timeout(limit, future).await.expect("nobody waits for ever") })
}

fn extensions() -> impl Strategy<Value = &'static str> {
    prop_oneof![2 => Just("log"), 1 => Just("out"), 1 => Just("err")]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_file_gives_what_is_left_and_a_gap(
        extension in extensions(),
        at in any::<prop::sample::Index>(),
        is_sealed: bool,
    ) {
        block_on(async {
            let bench = Bench::new();
            let (totals, notes) = if is_sealed { sealed(&bench, 120).await } else { killed(&bench, 120).await };
            let path = bench.file(extension);
            let length = std::fs::metadata(&path).unwrap().len();
            OpenOptions::new().write(true).open(&path).unwrap().set_len(at.index(length as usize) as u64).unwrap();

            // The follower checks that whatever it gets is right and in its place.
            let all = read_all(&bench.load()).await;
            let is_whole = all.bytes == totals.iter().sum::<u64>() && all.notes.len() as u32 == notes;
            assert!(all.notes.iter().copied().eq(1..=all.notes.len() as u32), "a prefix: {:?}", all.notes);
            if extension == "log" {
                assert!(all.is_lost || is_whole, "a cut log does not pass for a whole one");
                assert!(all.missing.is_empty());
            } else {
                assert_eq!(all.offsets, totals.map(Some));
                assert!(all.missing_bytes() > 0);
                assert!(all.missing.iter().all(|(_, _, reason)| *reason == GapReason::Corrupt));
            }
        });
    }

    #[test]
    fn a_turned_byte_is_noticed(extension in extensions(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        block_on(async {
            let bench = Bench::new();
            let (totals, notes) = sealed(&bench, 120).await;
            let path = bench.file(extension);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            std::fs::write(&path, bytes).unwrap();

            let log = match bench.spool.load(&bench.id) {
                Err(LogError::Corrupt) if extension == "log" && at < frame::HEADER.len() => return,
                log => log.unwrap(),
            };
            let all = read_all(&log).await;
            let total: u64 = totals.iter().sum();
            assert!(all.is_lost || all.damaged_events + all.missing_bytes() > 0, "nobody noticed byte {at}");
            assert_eq!(all.bytes + all.missing_bytes(), total, "one event is damaged, and every byte accounted for");
            assert!(all.missing_bytes() <= 400 && all.notes.len() as u32 + 1 >= notes, "no more than one event is lost");

            let mut strict = log.read(From::Start, ReadOptions { strict: true, ..ReadOptions::default() }).unwrap();
            let end = loop {
                match strict.next().await {
                    Ok(Item::End) => break Ok(()),
                    Ok(_) => {}
                    Err(error) => break Err(error),
                }
            };
            assert!(matches!(end, Err(LogError::Corrupt)), "{end:?}");
        });
    }

    #[test]
    fn a_recovered_log_goes_on_behind_what_is_left(at in any::<prop::sample::Index>(), again: bool) {
        block_on(async {
            let bench = Bench::new();
            let (totals, _) = killed(&bench, 120).await;
            let path = bench.file("log");
            let length = std::fs::metadata(&path).unwrap().len();
            let at = at.index(length as usize + 1) as u64;
            OpenOptions::new().write(true).open(&path).unwrap().set_len(at).unwrap();

            if again {
                let (writer, log) = bench.spool.recover(&bench.id).unwrap();
                drop(writer);
                log.core.until(|state| state.is_finished).await;
            }
            let (mut writer, log) = bench.spool.recover(&bench.id).unwrap();
            let left = read_to_live(&log).await;
            assert_eq!(left.offsets[..2], [Some(totals[0]), Some(totals[1])], "all bytes are on disk, so all come back");
            assert!(left.missing.is_empty());
            let newest = log.last();
            assert!(writer.digests().await.iter().all(|summary| summary.sha256.is_none()), "nobody knows them");
            assert_eq!(writer.note(note(left.notes.len() as u32 + 1)).seq, newest.seq + 1);
            writer.output(OUT, pattern(OUT, totals[0], 10));
            writer.seal().await;
            for log in [log, bench.load()] {
                let all = read_all(&log).await;
                assert_eq!(all.offsets[..2], [Some(totals[0] + 10), Some(totals[1])]);
                assert_eq!(all.notes.len(), left.notes.len() + 1);
                assert!(!all.is_lost && all.missing.is_empty());
            }
        });
    }
}

async fn read_to_live(log: &Log) -> Follower {
    let mut follower = Follower::from_start(log);
    follower.until_live().await;
    follower
}

#[tokio::test]
async fn damage_in_many_places_is_told_exactly() {
    let bench = Bench::new();
    let (totals, notes) = sealed(&bench, 2_000).await;
    let log = OpenOptions::new().read(true).write(true).open(bench.file("log")).unwrap();
    let length = log.metadata().unwrap().len();
    for position in (1_000..length - 2_000).step_by(3_001) {
        log.write_all_at(&[0xa5; 60], position).unwrap();
    }
    let out = OpenOptions::new().read(true).write(true).open(bench.file("out")).unwrap();
    for position in (0..totals[0]).step_by(30_011) {
        out.write_all_at(&[0xa5; 10], position).unwrap();
    }
    let loaded = bench.load();
    let all = read_all(&loaded).await;
    assert!(!all.is_lost);
    assert_eq!(all.offsets, totals.map(Some), "every byte is there or said to be missing");
    assert!(all.missing.len() > 10 && all.notes.len() < notes as usize);
    assert!(all.bytes > totals.iter().sum::<u64>() / 2);
    // From the middle as from the start.
    let mut rest =
        Follower::new(&loaded, From::Offsets([totals[0] / 2, totals[1] / 2, 0]), ReadOptions::default(), [None; 3]);
    rest.until_end().await;
    assert_eq!(rest.offsets[..2], [Some(totals[0]), Some(totals[1])]);
}

#[tokio::test]
async fn a_file_that_is_no_log_is_refused() {
    let bench = Bench::new();
    sealed(&bench, 3).await;
    std::fs::write(bench.file("log"), b"#!/bin/sh\necho hello\n").unwrap();
    assert!(matches!(bench.spool.load(&bench.id), Err(LogError::Corrupt)));
    assert!(matches!(bench.spool.recover(&bench.id), Err(LogError::Corrupt)));
}

#[tokio::test]
async fn what_only_the_child_has_written_is_recovered() {
    use std::io::Write;
    let bench = Bench::new();
    let (mut writer, _log) = bench.create(LogConfig::default());
    let mut child = writer.file(OUT).unwrap();
    child.write_all(&pattern(OUT, 0, 100_000)).unwrap();
    drop(writer); // nothing was adopted, no event written
    let (writer, log) = bench.spool.recover(&bench.id).unwrap();
    let left = read_to_live(&log).await;
    assert_eq!(left.bytes, 100_000);
    writer.seal().await;
    assert_eq!(read_all(&bench.load()).await.bytes, 100_000);
}

#[tokio::test]
async fn recovering_nothing_makes_an_empty_log() {
    let bench = Bench::new();
    let (mut writer, log) = bench.spool.recover(&bench.id).unwrap();
    assert_eq!(log.last(), Cursor::at(0));
    writer.note(note(1));
    writer.seal().await;
    assert_eq!(read_all(&bench.load()).await.notes, [1]);
}
