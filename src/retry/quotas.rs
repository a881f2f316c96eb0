//! One rate for each of many: pure.

use std::collections::HashMap;
use std::time::Duration;

use crate::name::Name;
use crate::time::Boot;

use super::{Budget, Rate};

/// With more names than this, those are forgotten of which nothing is owed.
const SWEPT_ABOVE: usize = 1_024;

/// What each of many has taken of the rate that each has.
#[derive(Debug, Default)]
pub struct Quotas(HashMap<Name, (Rate, Budget)>);

impl Quotas {
    /// Takes one for `whose`, whose rate is `rate` by now.
    ///
    /// # Errors
    /// How long until there is one to take.
    pub fn take(&mut self, whose: &Name, rate: Rate, now: Boot) -> Result<(), Duration> {
        if self.0.len() > SWEPT_ABOVE {
            self.0.retain(|_, (_, budget)| !budget.is_whole(now));
        }
        if let Some((_, budget)) = self.0.get_mut(whose).filter(|(known, _)| *known == rate) {
            return budget.take(now);
        }
        let mut budget = Budget::of(rate);
        let taken = budget.take(now);
        self.0.insert(whose.clone(), (rate, budget));
        taken
    }

    /// Gives one back that `whose` has taken and not used.
    pub fn give_back(&mut self, whose: &Name) {
        if let Some((_, budget)) = self.0.get_mut(whose) {
            budget.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Clock, ManualClock};

    #[test]
    fn what_one_takes_the_others_still_have() {
        let (clock, rate) = (ManualClock::default(), Rate { count: 1, every: Duration::from_secs(1) });
        let (mut quotas, greedy, modest) = (Quotas::default(), "greedy".parse().unwrap(), "modest".parse().unwrap());
        let mut take = |whose: &Name, rate| quotas.take(whose, rate, clock.now().boot);
        assert_eq!(take(&greedy, rate), Ok(()));
        assert!(take(&greedy, rate).is_err());
        assert_eq!(take(&modest, rate), Ok(()));
        quotas.give_back(&greedy);
        let mut take = |whose: &Name, rate| quotas.take(whose, rate, clock.now().boot);
        assert_eq!(take(&greedy, rate), Ok(()), "what was not used");
        assert_eq!(take(&greedy, Rate { count: 2, ..rate }), Ok(()), "another rate begins anew");
    }
}
