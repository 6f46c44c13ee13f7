//! The rules of a stream of events, checked over everything a test has seen.

use cc_executor::proto::execution_event::Event;
use cc_executor::proto::{Channel, ExecutionEvent};

/// Which part of a log a stream shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// From the first event on, all channels.
    Whole,
    /// From somewhere on, or not all channels.
    Some,
}

/// Checks a stream that ended with OK.
///
/// `accepted` is first, `live` comes once, `completed` is last if it is there, numbers grow without holes (output that
/// joins several entries has the last one's), offsets go on exactly where output or a gap before them ended.
pub(crate) fn check(events: &[ExecutionEvent], part: Part) {
    let kinds: Vec<&Event> = events.iter().map(|event| event.event.as_ref().expect("an event")).collect();
    assert!(matches!(kinds.first(), Some(Event::Accepted(_))), "accepted is first");
    let count = |pick: fn(&Event) -> bool| kinds.iter().filter(|event| pick(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Accepted(_))), 1, "accepted comes once");
    assert_eq!(count(|event| matches!(event, Event::Live(_))), 1, "live comes once");
    if let Some(place) = kinds.iter().position(|event| matches!(event, Event::Completed(_))) {
        let rest: Vec<_> = kinds[place + 1..].iter().filter(|event| !matches!(event, Event::Live(_))).collect();
        assert!(rest.is_empty(), "behind completed comes {rest:?}");
    }
    numbers(events, part);
    offsets(&kinds, part);
}

fn numbers(events: &[ExecutionEvent], part: Part) {
    let mut last = 0;
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.execution_id, events[0].execution_id);
        assert!(event.time.is_some(), "every event has a time");
        let kind = event.event.as_ref().expect("an event");
        let is_remark = matches!(kind, Event::Accepted(_) | Event::Live(_) | Event::Keepalive(_));
        let Some(cursor) = event.cursor else {
            // A crash may have kept `completed` out of the log.
            assert!(is_remark || matches!(kind, Event::Completed(_)), "{index}: no cursor on {kind:?}");
            continue;
        };
        assert!(!is_remark, "{index}: a cursor on {kind:?}");
        assert_eq!(cursor.epoch, 1);
        match kind {
            // Parts of a split output have the number before it; joined ones the last.
            Event::Output(_) | Event::Gap(_) => assert!(cursor.seq >= last, "{index}: {} behind {last}", cursor.seq),
            _ if part == Part::Whole => assert_eq!(cursor.seq, last + 1, "{index}: {kind:?}"),
            _ => assert!(cursor.seq > last, "{index}: {} behind {last}", cursor.seq),
        }
        last = cursor.seq;
    }
}

fn offsets(kinds: &[&Event], part: Part) {
    let mut ends: [Option<u64>; 4] = if part == Part::Whole { [Some(0); 4] } else { [None; 4] };
    for event in kinds {
        match event {
            Event::Output(output) => {
                assert!(!output.data.is_empty(), "output without bytes");
                let end = &mut ends[output.channel as usize];
                assert_eq!(output.offset, end.unwrap_or(output.offset), "{:?}", output.channel());
                *end = Some(output.offset + output.data.len() as u64);
            }
            Event::Gap(gap) => {
                for range in &gap.ranges {
                    assert!(range.start < range.end, "{gap:?}");
                    let end = &mut ends[range.channel as usize];
                    assert_eq!(range.start, end.unwrap_or(range.start), "{:?}", Channel::try_from(range.channel));
                    *end = Some(range.end);
                }
            }
            _ => {}
        }
    }
}
