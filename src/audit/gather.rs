//! How long the writer lets a batch fill: pure.
//!
//! Who waits for one batch comes back with the next question shortly after it. Written at once, the next batch
//! would hold only those who came during the sync, and the crowd would fall into two halves that take turns.
//! So the writer waits for as many as were there the last time, but less than a sync takes, and only as long as
//! it pays: a wait that brings less than the time it costs is not repeated for a while.

use std::time::Duration;

/// The longest wait.
const MOST: Duration = Duration::from_millis(2);
/// How many batches are written without a wait after many that did not pay.
const MAX_SKIPPED: u32 = 64;

/// What the last batches were like.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// How many records waited when the last batch was done: those in it, and those that came meanwhile.
    crowd: u64,
    /// How long a batch takes to be written, on the average.
    write: Duration,
    /// For how many batches no wait is tried.
    skip: u32,
    /// How many are skipped after the next wait that does not pay.
    next_skip: u32,
}

impl Gather {
    /// How many records to wait for, and how long at most, when there are `waiting`; none: write at once.
    pub(super) fn plan(&mut self, waiting: u64) -> Option<(u64, Duration)> {
        if waiting == 0 || waiting >= self.crowd || self.write.is_zero() {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        Some((self.crowd, (self.write / 2).min(MOST)))
    }

    /// Says what a wait of `waited` made of `before` records.
    pub(super) fn waited(&mut self, before: u64, after: u64, waited: Duration) {
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        #[expect(clippy::cast_precision_loss, reason = "a ratio of small numbers")]
        let gain = share((after - before) as f64, before as f64);
        let cost = share(waited.as_secs_f64(), self.write.as_secs_f64());
        if gain >= cost {
            self.next_skip = 1;
        } else {
            self.skip = self.next_skip;
            self.next_skip = (self.next_skip * 2).clamp(1, MAX_SKIPPED);
        }
    }

    /// Says that a batch of `taken` records took `took`, and that `came` others came meanwhile.
    pub(super) fn wrote(&mut self, taken: u64, came: u64, took: Duration) {
        self.crowd = taken + came;
        self.write = if self.write.is_zero() { took } else { (self.write * 3 + took) / 4 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Duration = Duration::from_micros(80);

    #[test]
    fn who_asks_alone_never_waits() {
        let mut gather = Gather::default();
        assert_eq!(gather.plan(1), None);
        gather.wrote(1, 0, WRITE);
        assert_eq!(gather.plan(1), None);
    }

    #[test]
    fn two_halves_become_one() {
        let mut gather = Gather::default();
        gather.wrote(34, 30, WRITE);
        assert_eq!(gather.plan(30), Some((64, WRITE / 2)));
        gather.waited(30, 64, WRITE / 4);
        gather.wrote(64, 0, WRITE);
        assert_eq!(gather.plan(64), None);
    }

    #[test]
    fn a_wait_that_does_not_pay_is_tried_ever_less() {
        let mut gather = Gather::default();
        let mut waits = 0;
        for _ in 0..1_000 {
            gather.wrote(2, 1, WRITE);
            if gather.plan(1).is_some() {
                gather.waited(1, 1, WRITE / 2);
                waits += 1;
            }
        }
        assert!(waits < 25, "{waits}");
    }

    #[test]
    fn a_slow_disk_is_not_waited_for_without_bound() {
        let mut gather = Gather::default();
        gather.wrote(34, 30, Duration::from_secs(1));
        assert_eq!(gather.plan(30), Some((64, MOST)));
    }
}
