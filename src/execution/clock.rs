//! The clocks of a run: which one rings next. Pure: time is an argument.
//!
//! The run clocks (first output, idle, run) measure *active* time and stand still while the run is paused; the others
//! (wall, pause, lease, grace) measure real time.

use std::time::Duration;

use tokio::time::Instant;

use super::command::Timeouts;

/// No clock is longer: what is added to one stays within what a moment can be computed with.
pub const LONGEST: Duration = Duration::from_secs(10_000 * 365 * 24 * 60 * 60);

/// What a clock says when it rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alarm {
    /// No output at all in time.
    FirstOutput,
    /// Silence for too long.
    Idle,
    /// Ran for too long.
    Run,
    /// Existed for too long.
    Wall,
    /// Was paused for too long.
    MaxPause,
    /// Nobody followed for too long.
    Lease,
    /// Waited in the queue for too long.
    Queue,
    /// Had time to end politely.
    Grace,
    /// What outlived the command had time to finish its output.
    Drain,
    /// Was killed and is still there.
    GiveUp,
    /// Four fifths of the idle time are over.
    IdleNear,
    /// Four fifths of the run time are over.
    RunNear,
    /// Four fifths of the wall time are over.
    WallNear,
}

/// A stopwatch that can stand still.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    before: Duration,
    since: Option<Instant>,
}

impl Stopwatch {
    /// One that runs from `now`.
    #[must_use]
    pub fn started(now: Instant) -> Stopwatch {
        Stopwatch { before: Duration::ZERO, since: Some(now) }
    }

    /// One that stands at zero.
    #[must_use]
    pub fn stopped() -> Stopwatch {
        Stopwatch { before: Duration::ZERO, since: None }
    }

    /// Lets it run; nothing happens when it does.
    pub fn start(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Makes it stand still; nothing happens when it does.
    pub fn stop(&mut self, now: Instant) {
        self.before = self.elapsed(now);
        self.since = None;
    }

    /// What it shows.
    #[must_use]
    pub fn elapsed(&self, now: Instant) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// When it will show `reading`; `None` while it stands still, `now` when it does already.
    fn when(&self, reading: Duration, now: Instant) -> Option<Instant> {
        self.since.map(|_| now + reading.saturating_sub(self.elapsed(now)))
    }
}

/// All clocks of one run.
#[derive(Clone, Debug)]
pub struct Clocks {
    limits: Timeouts,
    accepted: Instant,
    active: Stopwatch,
    paused: Stopwatch,
    /// Active time at the last output; `None` before the first.
    last_output: Option<Duration>,
    pause_began: Option<Instant>,
    lease_ends: Option<Instant>,
    grace_ends: Option<Instant>,
    drain_ends: Option<Instant>,
    give_up: Option<Instant>,
    started: bool,
    stopping: bool,
    warned: Vec<Alarm>,
}

impl Clocks {
    /// The clocks of a run accepted at `accepted`; the active ones stand at zero until [`Clocks::start`].
    #[must_use]
    pub fn new(limits: Timeouts, accepted: Instant) -> Clocks {
        Clocks {
            limits,
            accepted,
            active: Stopwatch::stopped(),
            paused: Stopwatch::stopped(),
            last_output: None,
            pause_began: None,
            lease_ends: None,
            grace_ends: None,
            drain_ends: None,
            give_up: None,
            started: false,
            stopping: false,
            warned: Vec::new(),
        }
    }

    /// The process runs.
    pub fn start(&mut self, now: Instant) {
        self.started = true;
        self.active.start(now);
    }

    /// It wrote something.
    pub fn output(&mut self, now: Instant) {
        self.last_output = Some(self.active.elapsed(now));
        self.warned.retain(|alarm| *alarm != Alarm::IdleNear);
    }

    /// It stands still.
    pub fn pause(&mut self, now: Instant) {
        self.active.stop(now);
        self.paused.start(now);
        self.pause_began.get_or_insert(now);
    }

    /// It goes on.
    pub fn resume(&mut self, now: Instant) {
        self.paused.stop(now);
        self.pause_began = None;
        self.active.start(now);
    }

    /// Nobody follows; the lease runs.
    pub fn abandon(&mut self, lease: Duration, now: Instant) {
        self.lease_ends.get_or_insert(now + lease);
    }

    /// Somebody follows again, or the lease has been acted upon.
    pub fn reclaim(&mut self) {
        self.lease_ends = None;
    }

    /// It is being ended: only the grace clock matters from now on, and a repeat can only shorten it.
    pub fn stop(&mut self, grace: Duration, now: Instant) {
        let ends = now + grace;
        self.grace_ends = Some(self.grace_ends.map_or(ends, |former| former.min(ends)));
        self.stopping = true;
    }

    /// The grace period is over and has been acted upon; after `patience` it is given up.
    pub fn killed(&mut self, patience: Duration, now: Instant) {
        self.grace_ends = None;
        self.stopping = true;
        // Killing again must not put it off.
        self.give_up.get_or_insert(now + patience);
    }

    /// The command has exited; what outlived it has until then, and a repeat can only shorten it.
    pub fn drain(&mut self, time: Duration, now: Instant) {
        let ends = now + time;
        self.drain_ends = Some(self.drain_ends.map_or(ends, |former| former.min(ends)));
        self.give_up = None;
    }

    /// It has ended: every clock stands still.
    pub fn finish(&mut self, now: Instant) {
        self.active.stop(now);
        self.paused.stop(now);
    }

    /// The near-warning was given; it is not given again.
    pub fn warned(&mut self, alarm: Alarm) {
        self.warned.push(alarm);
    }

    /// Adds to a clock; false when the run has no such clock.
    pub fn extend(&mut self, run_by: Duration, wall_by: Duration) -> bool {
        let possible =
            (run_by.is_zero() || self.limits.run.is_some()) && (wall_by.is_zero() || self.limits.wall.is_some());
        if possible {
            self.limits.run = self.limits.run.map(|run| run.saturating_add(run_by).min(LONGEST));
            self.limits.wall = self.limits.wall.map(|wall| wall.saturating_add(wall_by).min(LONGEST));
            self.warned.retain(|alarm| *alarm == Alarm::IdleNear);
        }
        possible
    }

    /// The clock that rings next, and when; a time not after `now` means it rings already.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<(Instant, Alarm)> {
        let ends = [(self.grace_ends, Alarm::Grace), (self.drain_ends, Alarm::Drain), (self.give_up, Alarm::GiveUp)];
        if self.stopping || self.drain_ends.is_some() {
            return earliest(ends);
        }
        let near = |limit: Duration| limit / 5 * 4;
        let active = |reading: Option<Duration>| reading.and_then(|reading| self.active.when(reading, now));
        let silence = |limit: Duration| self.last_output.unwrap_or_default() + limit;
        let unwarned = |alarm: Alarm| !self.warned.contains(&alarm);
        earliest([
            (self.limits.queue.filter(|_| !self.started).map(|queue| self.accepted + queue), Alarm::Queue),
            (active(self.limits.first_output.filter(|_| self.last_output.is_none())), Alarm::FirstOutput),
            (active(self.limits.idle.map(silence)), Alarm::Idle),
            (active(self.limits.run), Alarm::Run),
            (self.limits.wall.map(|wall| self.accepted + wall), Alarm::Wall),
            (self.pause_began.and_then(|began| self.limits.max_pause.map(|limit| began + limit)), Alarm::MaxPause),
            (self.lease_ends, Alarm::Lease),
            (
                active(self.limits.idle.filter(|_| unwarned(Alarm::IdleNear)).map(|idle| silence(near(idle)))),
                Alarm::IdleNear,
            ),
            (active(self.limits.run.filter(|_| unwarned(Alarm::RunNear)).map(near)), Alarm::RunNear),
            (
                self.limits.wall.filter(|_| unwarned(Alarm::WallNear)).map(|wall| self.accepted + near(wall)),
                Alarm::WallNear,
            ),
        ])
    }

    /// What is left of the clock that a near-warning is about.
    #[must_use]
    pub fn remaining(&self, alarm: Alarm, now: Instant) -> Option<Duration> {
        let active = self.active.elapsed(now);
        match alarm {
            Alarm::IdleNear => {
                self.limits.idle.map(|idle| (self.last_output.unwrap_or_default() + idle).saturating_sub(active))
            }
            Alarm::RunNear => self.limits.run.map(|run| run.saturating_sub(active)),
            Alarm::WallNear => self.limits.wall.map(|wall| wall.saturating_sub(now - self.accepted)),
            _ => None,
        }
    }

    /// What is left until the run or the wall timeout, whichever comes first.
    #[must_use]
    pub fn until_timeout(&self, now: Instant) -> Option<Duration> {
        [self.remaining(Alarm::RunNear, now), self.remaining(Alarm::WallNear, now)].into_iter().flatten().min()
    }

    /// Time of running, pauses not counted.
    #[must_use]
    pub fn running(&self, now: Instant) -> Duration {
        self.active.elapsed(now)
    }

    /// Time of all pauses.
    #[must_use]
    pub fn paused(&self, now: Instant) -> Duration {
        self.paused.elapsed(now)
    }

    /// Time since it was accepted.
    #[must_use]
    pub fn total(&self, now: Instant) -> Duration {
        now - self.accepted
    }

    /// Active time since the last output, or since the start.
    #[must_use]
    pub fn idle(&self, now: Instant) -> Duration {
        self.active.elapsed(now).saturating_sub(self.last_output.unwrap_or_default())
    }

    /// The lengths of the clocks, extensions included.
    #[must_use]
    pub fn limits(&self) -> &Timeouts {
        &self.limits
    }
}

fn earliest<const N: usize>(clocks: [(Option<Instant>, Alarm); N]) -> Option<(Instant, Alarm)> {
    clocks.into_iter().filter_map(|(at, alarm)| Some((at?, alarm))).min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn clocks(limits: Timeouts) -> (Clocks, Instant) {
        let now = Instant::now();
        let mut clocks = Clocks::new(limits, now);
        clocks.start(now);
        (clocks, now)
    }

    #[test]
    fn pausing_stops_the_run_clock_but_not_the_wall_clock() {
        let (mut clocks, start) =
            clocks(Timeouts { run: Some(10 * SECOND), wall: Some(100 * SECOND), ..Timeouts::default() });
        clocks.warned(Alarm::RunNear);
        clocks.warned(Alarm::WallNear);
        clocks.pause(start + 4 * SECOND);
        assert_eq!(clocks.next(start + 50 * SECOND), Some((start + 100 * SECOND, Alarm::Wall)));
        clocks.resume(start + 50 * SECOND);
        assert_eq!(clocks.next(start + 50 * SECOND), Some((start + 56 * SECOND, Alarm::Run)));
    }

    #[test]
    fn output_restarts_the_idle_clock_and_ends_the_first_output_clock() {
        let limits = Timeouts { idle: Some(5 * SECOND), first_output: Some(3 * SECOND), ..Timeouts::default() };
        let (mut clocks, start) = clocks(limits);
        clocks.warned(Alarm::IdleNear);
        assert_eq!(clocks.next(start), Some((start + 3 * SECOND, Alarm::FirstOutput)));
        clocks.output(start + 2 * SECOND);
        assert_eq!(clocks.next(start + 2 * SECOND), Some((start + 6 * SECOND, Alarm::IdleNear)));
        clocks.warned(Alarm::IdleNear);
        assert_eq!(clocks.next(start + 2 * SECOND), Some((start + 7 * SECOND, Alarm::Idle)));
    }

    #[test]
    fn a_second_stop_can_only_shorten_the_grace() {
        let (mut clocks, start) = clocks(Timeouts::default());
        clocks.stop(10 * SECOND, start);
        clocks.stop(20 * SECOND, start);
        assert_eq!(clocks.next(start), Some((start + 10 * SECOND, Alarm::Grace)));
        clocks.stop(Duration::ZERO, start + SECOND);
        assert_eq!(clocks.next(start + SECOND), Some((start + SECOND, Alarm::Grace)));
    }

    #[test]
    fn however_much_time_is_asked_for_the_clocks_go_on() {
        let (mut clocks, start) = clocks(Timeouts { run: Some(SECOND), wall: Some(SECOND), ..Timeouts::default() });
        for _ in 0..3 {
            assert!(clocks.extend(Duration::MAX, Duration::MAX));
        }
        assert!(clocks.next(start).is_some_and(|(at, _)| at > start + LONGEST / 2));
    }

    #[test]
    fn killing_again_does_not_put_off_giving_up() {
        let (mut clocks, start) = clocks(Timeouts::default());
        clocks.killed(2 * SECOND, start);
        clocks.killed(2 * SECOND, start + SECOND);
        assert_eq!(clocks.next(start + SECOND), Some((start + 2 * SECOND, Alarm::GiveUp)));
    }

    proptest! {
        /// However pauses fall, the run clock rings when exactly its length of active time has passed.
        #[test]
        fn the_run_clock_measures_active_time(spans in prop::collection::vec((1u64..20, 1u64..20), 0..8), run in 1u64..200) {
            let (mut clocks, start) = clocks(Timeouts { run: Some(run as u32 * SECOND), ..Timeouts::default() });
            clocks.warned(Alarm::RunNear);
            let (mut now, mut active) = (start, Duration::ZERO);
            for (on, off) in spans {
                now += on as u32 * SECOND;
                active += on as u32 * SECOND;
                clocks.pause(now);
                prop_assert_eq!(clocks.next(now), None);
                now += off as u32 * SECOND;
                clocks.resume(now);
            }
            let (at, alarm) = clocks.next(now).unwrap();
            prop_assert_eq!(alarm, Alarm::Run);
            prop_assert_eq!(at, now + (run as u32 * SECOND).saturating_sub(active));
            prop_assert_eq!(clocks.running(now), active);
        }
    }
}
