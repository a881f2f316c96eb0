//! When to try again, and how often: pure.

mod breaker;
mod quotas;
mod rate;

use std::time::Duration;

pub use breaker::{Breaker, State};
pub use quotas::Quotas;
pub use rate::{Budget, Rate};

/// Exponential back-off with full jitter between `first` and `most`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure, before jitter.
    pub first: Duration,
    /// The longest wait, before jitter.
    pub most: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row, `dice` being uniform in 0..=65535.
    ///
    /// Between half of the exponential step and the whole of it, so that it never comes to nothing.
    #[must_use]
    pub fn after(self, failures: u32, dice: u16) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let step = self.first.saturating_mul(1 << doublings).min(self.most);
        step / 2 + (step / 2).mul_f64(f64::from(dice) / f64::from(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_bound_and_keeps_half() {
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };
        let least: Vec<_> = (1..=8).map(|n| backoff.after(n, 0).as_millis()).collect();
        assert_eq!(least, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
        assert_eq!(backoff.after(u32::MAX, u16::MAX), Duration::from_secs(30));
    }
}
