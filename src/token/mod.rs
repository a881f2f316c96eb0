//! Tokens: how fresh one is and what to do about it (pure, here), who holds one (`cache`), and how one is
//! fetched: once at a time for each key (`engine`), in its `turns`, ahead of its expiry, from the endpoint that is well
//! (`upstream`). `room` bounds what they take.

use std::sync::Arc;
use std::time::Duration;

use crate::access::{Permit, Scopes};
use crate::account::{Freshness, TokenTerms};
use crate::audit::NotDurable;
use crate::crypto::Fingerprint;
use crate::oauth::{Failure, Grant};
use crate::secret::Secret;
use crate::time::{Deadline, Moment};

mod cache;
mod catalogue;
mod counts;
mod engine;
mod room;
mod turns;
mod upstream;

pub use cache::Key;
pub use catalogue::{Catalogue, NotListed};
pub use counts::Counts;
pub use engine::{Engine, Provider, Rejection, Revoked, Settings, Share, keep_ahead};
pub use turns::MOST_FLIGHTS;
pub use upstream::Health;

use room::{Room, Taken};

/// A token that is held in memory.
#[derive(Clone, Debug)]
pub struct Held {
    /// The token.
    pub value: Arc<Secret>,
    /// What the provider granted.
    pub scopes: Scopes,
    /// When it was asked for: its lifetime counts from here.
    pub sent: Moment,
    /// When it ends; `None` where the provider did not say: it is handed to those who wait, and not kept.
    pub expires: Option<Deadline>,
    /// When its refresh is due.
    pub refresh: Deadline,
    /// What records say of it.
    pub fingerprint: Fingerprint,
    /// The index of the intent record of the request that brought it.
    pub intent: u64,
    /// The memory that it takes, for as long as anyone has it.
    room: Option<Arc<Taken>>,
}

impl Held {
    /// A granted token, to be refreshed at `refresh_at` of its lifetime less up to a tenth of that, by `dice`
    /// (uniform in 0..=65535): a fleet that started together does not ask together.
    #[must_use]
    pub fn new(grant: Grant, refresh_at: f64, dice: u16, fingerprint: Fingerprint, intent: u64) -> Self {
        let early = 0.1 * f64::from(dice) / f64::from(u16::MAX);
        let refresh_after = grant.lifetime.unwrap_or_default().mul_f64((refresh_at * (1.0 - early)).clamp(0.0, 1.0));
        Self {
            value: Arc::new(grant.token),
            scopes: grant.scopes,
            sent: grant.sent,
            expires: grant.lifetime.map(|lifetime| grant.sent.deadline(lifetime)),
            refresh: grant.sent.deadline(refresh_after),
            fingerprint,
            intent,
            room: None,
        }
    }

    /// The same, counted in `room`.
    fn within(mut self, room: &Room) -> Self {
        self.room = Some(Arc::new(room.take(self.value.len())));
        self
    }

    /// How fresh it is, `failing` being whether its last refresh failed; `None` once it is dead.
    #[must_use]
    pub fn freshness(&self, failing: bool, now: Moment) -> Option<Freshness> {
        let dead = self.expires.is_none_or(|expires| expires.passed(now));
        match (dead, self.refresh.passed(now), failing) {
            (true, _, _) => None,
            (false, false, _) => Some(Freshness::Fresh),
            (false, true, false) => Some(Freshness::Ahead),
            (false, true, true) => Some(Freshness::Stale),
        }
    }

    /// What is said of it when it is handed over.
    #[must_use]
    pub fn terms(&self, freshness: Freshness, rejected: bool) -> TokenTerms {
        TokenTerms {
            scopes: self.scopes.clone(),
            obtained: self.sent,
            expires: self.expires,
            freshness,
            rejected,
            fingerprint: self.fingerprint,
            intent: self.intent,
        }
    }
}

/// Why no token can be handed over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// The provider, or our credential for it.
    #[error("{failure}")]
    Provider {
        /// What happened last.
        failure: Failure,
        /// When the provider will be asked again.
        retry_after: Duration,
    },
    /// The provider is left alone for a while, since it failed or asked for it.
    #[error("{failure} (it is not asked again before {} s have passed)", .wait.as_secs_f64().ceil())]
    Resting {
        /// What happened last.
        failure: Failure,
        /// How long that is still so.
        wait: Duration,
    },
    /// As many requests have gone to this provider as `budget` allows.
    #[error("the `budget` of requests to this provider is used up")]
    Budget(Duration),
    /// As many requests of this workload have reached providers as `limits.mints_per_workload` allows.
    #[error("the workload has used up its `limits.mints_per_workload`")]
    Mints(Duration),
    /// The provider gives no token that lives as long as the caller demands.
    #[error("the caller demands a token that lives longer than the {} s that this one was given", .0.as_secs())]
    TooShort(Duration),
    /// The intent could not be recorded, so the provider was not asked.
    #[error(transparent)]
    Audit(#[from] NotDurable),
    /// More different tokens of this provider are held than there is room for.
    #[error("bursar holds {0} different tokens of this provider, which is the most it will")]
    Full(usize),
    /// As many requests to this provider are under way as there may be, for the workload or for all, and none ended in time.
    #[error(
        "as many requests to this provider are under way as there may be ({0}, fewer for one workload), and none ended in time"
    )]
    Busy(usize),
    /// bursar's own fault: the random generator failed, or a task ended.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl Unavailable {
    /// A limit of ours, and how long it holds: that says nothing of the provider.
    fn of_ours(&self) -> Option<Duration> {
        match self {
            Self::Budget(wait) | Self::Mints(wait) => Some(*wait),
            Self::Busy(_) => Some(Duration::ZERO),
            Self::Provider { .. }
            | Self::Resting { .. }
            | Self::TooShort(_)
            | Self::Audit(_)
            | Self::Full(_)
            | Self::Internal(_) => None,
        }
    }

    /// The same, told to somebody who may ask again after `wait`.
    fn retry_after(self, wait: Duration) -> Self {
        match self {
            Self::Provider { failure, .. } => Self::Provider { failure, retry_after: wait },
            Self::Resting { failure, .. } => Self::Resting { failure, wait },
            Self::Budget(_) => Self::Budget(wait),
            Self::Mints(_) => Self::Mints(wait),
            other @ (Self::TooShort(_) | Self::Audit(_) | Self::Full(_) | Self::Busy(_) | Self::Internal(_)) => other,
        }
    }
}

/// No token: the permit back, for the record of the refusal, and why.
#[derive(Debug)]
pub struct Unobtained {
    /// The permit, unused.
    pub permit: Box<Permit>,
    /// Why.
    pub why: Unavailable,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::FingerprintKey;
    use crate::time::{Clock, ManualClock};

    fn held(clock: &ManualClock, lifetime: u64) -> Held {
        let token = Secret::new(b"token".to_vec());
        let fingerprint = FingerprintKey::new(1, &[0; 32]).of(b"token");
        let grant = Grant {
            token,
            scopes: Scopes::default(),
            lifetime: Some(Duration::from_secs(lifetime)),
            sent: clock.now(),
        };
        Held::new(grant, 0.7, 0, fingerprint, 0)
    }

    #[test]
    fn a_token_is_fresh_then_ahead_or_stale_then_dead() {
        let clock = ManualClock::default();
        let held = held(&clock, 100);
        let table = [
            (69, Some(Freshness::Fresh), Some(Freshness::Fresh)),
            (70, Some(Freshness::Ahead), Some(Freshness::Stale)),
            (99, Some(Freshness::Ahead), Some(Freshness::Stale)),
            (100, None, None),
        ];
        let mut passed = 0;
        for (second, healthy, failing) in table {
            clock.advance(Duration::from_secs(second - passed));
            passed = second;
            assert_eq!(held.freshness(false, clock.now()), healthy, "healthy, at {second} s");
            assert_eq!(held.freshness(true, clock.now()), failing, "failing, at {second} s");
        }
    }

    #[test]
    fn a_wall_clock_stepped_either_way_never_lengthens_a_life() {
        for step in [-7_200_000_000, 7_200_000_000] {
            let clock = ManualClock::default();
            let held = held(&clock, 100);
            clock.step_wall(step);
            clock.advance(Duration::from_secs(100));
            assert_eq!(held.freshness(false, clock.now()), None, "stepped by {step} µs");
        }
    }
}
