//! Any reader, from anywhere, at any time, gets what was written but for what it is told is missing.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// What is done to a log.
#[derive(Clone, Debug)]
enum Act {
    Output(usize, usize),
    Note,
    Flush,
    Read(usize, usize),
    Open(Begin),
}

/// Where a new reader begins.
#[derive(Clone, Debug)]
enum Begin {
    Start,
    Now,
    LikeCursor(usize),
    Offsets(prop::sample::Index, prop::sample::Index),
    Tail(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    let length = prop_oneof![4 => 1..40usize, 2 => 100..5_000usize, 1 => 30_000..100_000usize];
    prop_oneof![
        6 => (0..2usize, length).prop_map(|(channel, length)| Act::Output(channel, length)),
        2 => Just(Act::Note),
        1 => Just(Act::Flush),
        3 => (0..8usize, 1..20usize).prop_map(|(reader, items)| Act::Read(reader, items)),
        2 => any_begin().prop_map(Act::Open),
    ]
}

fn any_begin() -> impl Strategy<Value = Begin> {
    prop_oneof![
        Just(Begin::Start),
        Just(Begin::Now),
        (0..8usize).prop_map(Begin::LikeCursor),
        any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(out, err)| Begin::Offsets(out, err)),
        (0..300_000u64).prop_map(Begin::Tail),
    ]
}

fn any_options() -> impl Strategy<Value = ReadOptions> {
    let channels = prop_oneof![3 => Just(None), 1 => Just(Some(vec![OUT])), 1 => Just(Some(vec![ERR]))];
    (channels, prop_oneof![Just(64 << 10), Just(4096usize), Just(256 << 10), Just(7)])
        .prop_map(|(channels, max_output_bytes)| ReadOptions { channels, max_output_bytes, strict: false })
}

/// A reader that begins like this, next to those there are.
fn open(log: &Log, begin: &Begin, options: ReadOptions, totals: [u64; 3], others: &[Follower]) -> Follower {
    let known = totals.map(Some);
    match begin {
        Begin::Start => Follower::new(log, From::Start, options, [Some(0); 3]),
        Begin::Now => Follower::new(log, From::Now, options, known),
        Begin::LikeCursor(other) => {
            let Some(other) = others.get(other % others.len().max(1)) else {
                return Follower::new(log, From::Start, options, [Some(0); 3]);
            };
            // Behind its cursor lies at least what the other has not seen, and all of what it has is before.
            Follower::new(log, From::Cursor(other.cursor), options, [None; 3])
        }
        Begin::Offsets(out, err) => {
            let offsets = [out.index(totals[0] as usize + 1) as u64, err.index(totals[1] as usize + 1) as u64, 0];
            Follower::new(log, From::Offsets(offsets), options, offsets.map(Some))
        }
        Begin::Tail(bytes) => Follower::new(log, From::TailBytes(*bytes), options, [None; 3]),
    }
}

/// Reads `follower` to its end and checks that nothing was missed there.
async fn finish(follower: &mut Follower, totals: [u64; 3], notes: u32) {
    follower.until_end().await;
    for channel in Channel::ALL {
        let reached = follower.offsets[channel.index()].unwrap_or_else(|| totals[channel.index()]);
        if follower.channels[channel.index()] {
            assert_eq!(reached, totals[channel.index()], "{channel:?} is whole");
        }
    }
    let first = follower.notes.first().copied().unwrap_or(notes + 1);
    assert_eq!(follower.notes, (first..=notes).collect::<Vec<_>>(), "notes are whole");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_gets_everything_behind_its_beginning(
        acts in prop::collection::vec(any_act(), 1..60),
        options in prop::collection::vec(any_options(), 8),
        memory in prop_oneof![Just(0usize), Just(4 << 10), Just(256 << 10)],
        output_bytes in prop_oneof![2 => Just(1u64 << 40), 1 => Just(20_000u64), 1 => Just(300_000u64)],
        late in prop::collection::vec(any_begin(), 3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let test = async {
            let bench = Bench::new();
            let (writer, log) = bench.create(LogConfig { memory_bytes: memory, output_bytes, policy: OutputPolicy::DropOldest });
            let mut author = Author::new(writer);
            let mut followers: Vec<Follower> = Vec::new();
            for act in &acts {
                match act {
                    Act::Output(channel, length) => { author.output(Channel::ALL[*channel], *length); }
                    Act::Note => { author.note(); }
                    Act::Flush => author.writer.flush().await,
                    Act::Open(begin) => {
                        let options = options[followers.len() % 8].clone();
                        followers.push(open(&log, begin, options, author.totals, &followers));
                    }
                    Act::Read(which, items) => {
                        let count = followers.len().max(1);
                        if let Some(follower) = followers.get_mut(which % count) {
                            let newest = log.last();
                            for _ in 0..*items {
                                // What is there must come without anything new being written.
                                if follower.lives == 0 || follower.cursor < newest && follower.channels == [true; 3] {
                                    follower.step().await;
                                }
                            }
                        }
                    }
                }
            }
            let (totals, notes) = (author.totals, author.notes);
            author.writer.seal().await;
            for follower in &mut followers {
                finish(follower, totals, notes).await;
            }
            for log in [&log, &bench.load()] {
                for (index, begin) in late.iter().enumerate() {
                    let mut follower = open(log, begin, options[index].clone(), totals, &followers);
                    finish(&mut follower, totals, notes).await;
                }
                let all = read_all(log).await;
                assert_eq!(all.notes, (1..=notes).collect::<Vec<_>>());
                let kept: u64 = log.summaries().iter().map(|summary| summary.bytes_kept).sum();
                assert_eq!(all.bytes, kept, "what is said to be kept can be read, missing {:?}", all.missing);
                assert!(kept <= output_bytes, "{kept} of {output_bytes}");
                assert_eq!(kept + all.missing_bytes(), totals.iter().sum::<u64>());
                for summary in log.summaries() {
                    assert_eq!(summary.bytes_total, totals[summary.channel.index()]);
                    assert_eq!(summary.sha256, Some(sha256(summary.channel, summary.bytes_total)));
                }
            }
        };
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("nobody waits for ever") });
    }
}

#[tokio::test]
async fn resuming_behind_any_cursor_brings_exactly_the_rest() {
    let bench = Bench::new();
    let (writer, log) = bench.create(small(0));
    let mut author = Author::new(writer);
    for round in 0..600 {
        author.output(if round % 3 == 0 { ERR } else { OUT }, 50 + round);
        if round % 7 == 0 {
            author.note();
        }
        keep_apart(&log);
    }
    author.writer.seal().await;
    for log in [log, bench.load()] {
        let options = ReadOptions { max_output_bytes: 1, ..ReadOptions::default() };
        let mut offsets = [0; 3];
        let mut all = log.read(From::Start, ReadOptions { max_output_bytes: 1000, ..options }).unwrap();
        let mut cursors = Vec::new();
        while let Item::Event(event) = all.next().await.unwrap() {
            if let EventKind::Output { channel, offset, data } = &event.kind {
                offsets[channel.index()] = offset + data.len() as u64;
            }
            cursors.push((event.seq, offsets));
        }
        for (seq, offsets) in cursors.into_iter().step_by(13) {
            let from = From::Cursor(Cursor::at(seq));
            let mut rest = Follower::new(&log, from, ReadOptions::default(), offsets.map(Some));
            finish(&mut rest, author.totals, author.notes).await;
        }
    }
}

#[tokio::test]
async fn the_future_is_out_of_range() {
    let bench = Bench::new();
    let (writer, log) = bench.create(small(0));
    let mut author = Author::new(writer);
    author.output(OUT, 10);
    let read = |from| log.read(from, ReadOptions::default());
    let valid = Valid { events: (1, 1), offsets: [0..10, 0..0, 0..0] };
    for from in [
        From::Cursor(Cursor::at(2)),
        From::Cursor(Cursor { epoch: 2, seq: 1 }),
        From::Offsets([11, 0, 0]),
        From::Offsets([0, 1, 0]),
    ] {
        match read(from) {
            Err(LogError::OutOfRange { valid: said }) => assert_eq!(said, valid),
            other => panic!("{from:?}: {other:?}"),
        }
    }
    read(From::Cursor(Cursor::at(1))).unwrap();
    read(From::Cursor(Cursor::default())).unwrap();
    read(From::Offsets([10, 0, 0])).unwrap();
}

#[tokio::test]
async fn whoever_has_all_output_still_gets_the_notes_behind_it() {
    let bench = Bench::new();
    let (writer, log) = bench.create(small(0));
    let mut author = Author::new(writer);
    author.note();
    author.output(OUT, 100);
    author.note();
    author.note();
    author.writer.seal().await;
    for log in [log, bench.load()] {
        for from in [From::Offsets([100, 0, 0]), From::TailBytes(0)] {
            let mut follower = Follower::new(&log, from, ReadOptions::default(), [Some(100), Some(0), Some(0)]);
            follower.until_end().await;
            assert_eq!((follower.notes, follower.bytes), (vec![2, 3], 0), "{from:?}");
        }
    }
}

#[tokio::test]
async fn a_channel_is_read_raw_from_any_offset() {
    let bench = Bench::new();
    let (writer, log) = bench.create(small(0));
    let mut author = Author::new(writer);
    for _ in 0..40 {
        author.output(OUT, 20_000);
        author.output(ERR, 300);
        author.note();
    }
    author.writer.flush().await;
    let check = async |log: &Log, offset: u64, limit: Option<u64>| {
        let mut reader = log.read_channel(OUT, offset, limit).unwrap();
        let mut end = offset;
        while let Some((at, data)) = reader.next().await.unwrap() {
            assert_eq!(at, end);
            assert!(data.len() <= 64 << 10);
            assert_eq!(data, pattern(OUT, at, data.len()));
            end += data.len() as u64;
        }
        assert_eq!(end, limit.map_or(800_000, |limit| (offset + limit).min(800_000)));
    };
    for (offset, limit) in
        [(0, None), (123_456, Some(1)), (20_000, Some(70_000)), (799_999, Some(5)), (800_000, None), (5, Some(0))]
    {
        check(&log, offset, limit).await;
    }
    author.writer.seal().await;
    check(&bench.load(), 77, None).await;
    assert!(matches!(bench.load().read_channel(OUT, 800_001, None), Err(LogError::OutOfRange { .. })));
}
