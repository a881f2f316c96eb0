//! Whether an endpoint is asked: passing, tripped, probing. Pure.

use std::time::Duration;

use super::Backoff;
use crate::time::{Deadline, Moment};

/// How many failures in a row trip it.
const TRIPS_AT: u32 = 3;
/// How long it stays tripped. At most one tick of the refresh, so that recovery is found out within one.
const REST: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };
/// How long a probe may take before another is sent.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);
/// After how long who is held back by a probe is to look again: most often it has been answered by then.
const PROBE_LOOK: Duration = Duration::from_secs(1);

/// What a breaker does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests pass.
    Passing,
    /// The endpoint failed, or asked for rest: it is left alone.
    Tripped,
    /// One request is under way to see whether it is well again; the others are held back.
    Probing,
}

impl State {
    /// The word in status and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Tripped => "tripped",
            Self::Probing => "probing",
        }
    }
}

/// The breaker of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    /// Failures in a row.
    failures: u32,
    /// Until when nothing passes: the rest, and then the time of the probe.
    until: Option<Deadline>,
    probing: bool,
}

impl Breaker {
    /// Whether a request passes now. One that does has to be followed by [`Self::succeeded`], [`Self::failed`] or
    /// [`Self::abandoned`].
    ///
    /// # Errors
    /// How long until one may.
    pub fn pass(&mut self, now: Moment) -> Result<(), Duration> {
        match self.until.map(|until| until.left(now)) {
            None => Ok(()),
            Some(left) if !left.is_zero() => Err(self.wait(now)),
            Some(_) => {
                (self.until, self.probing) = (Some(now.deadline(PROBE_TIMEOUT)), true);
                Ok(())
            }
        }
    }

    /// How long until a request may pass, or until it is worth looking again whether a probe has been answered.
    #[must_use]
    pub fn wait(&self, now: Moment) -> Duration {
        let left = self.until.map_or(Duration::ZERO, |until| until.left(now));
        if self.probing { left.min(PROBE_LOOK) } else { left }
    }

    /// The endpoint answered as an endpoint does, be it with a refusal.
    pub const fn succeeded(&mut self) {
        (self.failures, self.until, self.probing) = (0, None, false);
    }

    /// The endpoint did not answer, or with nonsense; `asked_to_rest` is what it said itself, `dice` is uniform.
    pub fn failed(&mut self, asked_to_rest: Option<Duration>, dice: u16, now: Moment) {
        let left = if self.probing { Duration::ZERO } else { self.wait(now) };
        // What had passed before it tripped fails of the same fault: many at once are not many in a row.
        let rest = if left.is_zero() { self.trip(dice) } else { Some(left) };
        let asked_to_rest = asked_to_rest.filter(|rest| !rest.is_zero());
        self.until = rest.max(asked_to_rest).map(|rest| now.deadline(rest));
        self.probing = false;
    }

    /// Counts a failure; how long it rests for it, if it does.
    fn trip(&mut self, dice: u16) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let trips = self.failures.saturating_add(1).saturating_sub(TRIPS_AT);
        (trips > 0).then(|| REST.after(trips, dice))
    }

    /// Nothing was heard of the endpoint, since nothing was asked: what was a probe is left to the next.
    pub fn abandoned(&mut self, now: Moment) {
        if self.probing {
            (self.until, self.probing) = (Some(now.deadline(Duration::ZERO)), false);
        }
    }

    /// What it does now.
    #[must_use]
    pub const fn state(&self) -> State {
        match (self.until, self.probing) {
            (None, _) => State::Passing,
            (Some(_), false) => State::Tripped,
            (Some(_), true) => State::Probing,
        }
    }

    /// Failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Lets the next request pass: what it failed for may have been mended.
    pub const fn forgive(&mut self) {
        self.succeeded();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Clock, ManualClock};

    const SECOND: Duration = Duration::from_secs(1);

    fn tripped(clock: &ManualClock) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..TRIPS_AT {
            assert_eq!((breaker.state(), breaker.pass(clock.now())), (State::Passing, Ok(())));
            breaker.failed(None, u16::MAX, clock.now());
        }
        breaker
    }

    #[test]
    fn three_failures_in_a_row_trip_it_and_a_success_between_does_not() {
        let clock = ManualClock::default();
        let mut breaker = tripped(&clock);
        assert_eq!((breaker.state(), breaker.pass(clock.now())), (State::Tripped, Err(SECOND)));
        breaker = Breaker::default();
        for _ in 0..10 {
            breaker.failed(None, 0, clock.now());
            breaker.failed(None, 0, clock.now());
            breaker.succeeded();
        }
        assert_eq!(breaker.pass(clock.now()), Ok(()));
    }

    #[test]
    fn after_its_rest_one_request_probes_and_decides() {
        let clock = ManualClock::default();
        let mut breaker = tripped(&clock);
        clock.advance(SECOND);
        assert_eq!(breaker.pass(clock.now()), Ok(()));
        assert_eq!(breaker.state(), State::Probing);
        assert_eq!(breaker.pass(clock.now()), Err(PROBE_LOOK), "one at a time, and the others soon look again");
        breaker.failed(None, u16::MAX, clock.now());
        assert_eq!(breaker.wait(clock.now()), 2 * SECOND, "and rests longer");
        clock.advance(2 * SECOND);
        assert_eq!(breaker.pass(clock.now()), Ok(()));
        breaker.succeeded();
        assert_eq!((breaker.state(), breaker.failures()), (State::Passing, 0));
    }

    #[test]
    fn a_probe_that_is_never_heard_of_again_does_not_hold_it_for_ever() {
        let clock = ManualClock::default();
        let mut breaker = tripped(&clock);
        clock.advance(SECOND);
        breaker.pass(clock.now()).unwrap();
        clock.advance(PROBE_TIMEOUT);
        assert_eq!(breaker.pass(clock.now()), Ok(()));
    }

    #[test]
    fn what_the_endpoint_asks_for_is_honoured_at_the_first_failure() {
        let clock = ManualClock::default();
        let mut breaker = Breaker::default();
        breaker.failed(Some(90 * SECOND), 0, clock.now());
        assert_eq!(breaker.pass(clock.now()), Err(90 * SECOND));
    }

    #[test]
    fn it_never_rests_longer_than_a_tick_unless_asked() {
        let clock = ManualClock::default();
        let mut breaker = tripped(&clock);
        for _ in 0..100 {
            clock.advance(breaker.wait(clock.now()));
            breaker.pass(clock.now()).unwrap();
            breaker.failed(None, u16::MAX, clock.now());
        }
        assert_eq!(breaker.wait(clock.now()), 30 * SECOND);
    }

    #[test]
    fn many_failures_of_one_moment_trip_it_once() {
        let clock = ManualClock::default();
        let mut breaker = Breaker::default();
        (0..32).for_each(|_| breaker.failed(None, u16::MAX, clock.now()));
        assert_eq!(breaker.wait(clock.now()), SECOND);
        breaker.failed(Some(40 * SECOND), u16::MAX, clock.now());
        assert_eq!(breaker.wait(clock.now()), 40 * SECOND, "what it asks for still counts");
    }

    #[test]
    fn who_does_not_ask_leaves_the_probe_to_the_next() {
        let clock = ManualClock::default();
        let mut breaker = tripped(&clock);
        clock.advance(SECOND);
        breaker.pass(clock.now()).unwrap();
        breaker.abandoned(clock.now());
        assert_eq!((breaker.pass(clock.now()), breaker.state()), (Ok(()), State::Probing));
    }

    #[test]
    fn to_be_asked_for_no_rest_is_not_to_rest() {
        let clock = ManualClock::default();
        let mut breaker = Breaker::default();
        breaker.failed(Some(Duration::ZERO), 0, clock.now());
        assert_eq!(breaker.state(), State::Passing);
    }
}
