//! How often something may happen: pure.

use std::time::Duration;

use crate::time::Boot;

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least 1.
    pub count: u32,
    /// In how long.
    pub every: Duration,
}

/// What is left of a rate: `count` at once, and from then on one each `every / count`.
///
/// The generic cell rate algorithm (ITU-T I.371): one moment is all that it remembers.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    rate: Rate,
    /// Until when what was taken has been paid for.
    paid: Duration,
}

impl Budget {
    /// The whole of `rate`.
    #[must_use]
    pub const fn of(rate: Rate) -> Self {
        Self { rate, paid: Duration::ZERO }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long until there is one to take.
    pub fn take(&mut self, now: Boot) -> Result<(), Duration> {
        let wait = self.wait(now);
        if wait.is_zero() {
            self.paid = self.paid.max(now.since_boot()) + self.each();
            Ok(())
        } else {
            Err(wait)
        }
    }

    /// Gives one back that was taken and not used.
    pub fn give_back(&mut self) {
        self.paid = self.paid.saturating_sub(self.each());
    }

    /// How long until there is one to take; zero where there is.
    #[must_use]
    pub fn wait(&self, now: Boot) -> Duration {
        let ahead = self.paid.saturating_sub(now.since_boot());
        (ahead + self.each()).saturating_sub(self.rate.every)
    }

    /// How many there are to take at once.
    #[must_use]
    pub fn left(&self, now: Boot) -> u32 {
        let free = self.rate.every.saturating_sub(self.paid.saturating_sub(now.since_boot()));
        let left = free.as_nanos() / self.each().as_nanos().max(1);
        u32::try_from(left).unwrap_or(u32::MAX).min(self.rate.count)
    }

    /// Whether nothing has been taken that is not paid for: to forget it loses nothing.
    #[must_use]
    pub fn is_whole(&self, now: Boot) -> bool {
        self.paid <= now.since_boot()
    }

    fn each(&self) -> Duration {
        self.rate.every / self.rate.count.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Clock, ManualClock};

    #[test]
    fn a_budget_gives_its_count_at_once_and_then_one_by_one() {
        let (clock, rate) = (ManualClock::default(), Rate { count: 3, every: Duration::from_secs(60) });
        clock.advance(Duration::from_secs(1_000));
        let mut budget = Budget::of(rate);
        assert_eq!(budget.left(clock.now().boot), 3);
        let mut take = || budget.take(clock.now().boot);
        assert_eq!([take(), take(), take()], [Ok(()); 3]);
        assert_eq!(take(), Err(Duration::from_secs(20)));
        clock.advance(Duration::from_secs(20));
        assert_eq!(take(), Ok(()));
        assert_eq!(take(), Err(Duration::from_secs(20)));
        clock.advance(Duration::from_secs(3_600));
        assert_eq!([take(), take(), take()], [Ok(()); 3], "what was not used does not add up");
        assert!(take().is_err());
        budget.give_back();
        assert_eq!(budget.take(clock.now().boot), Ok(()), "what was not used");
        assert!(budget.take(clock.now().boot).is_err());
        assert_eq!(budget.left(clock.now().boot), 0);
        clock.advance(Duration::from_secs(40));
        assert_eq!(budget.left(clock.now().boot), 2);
    }
}
