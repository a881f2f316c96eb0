//! Kept secrets: how fresh a value is and what to do about it (pure, here), who holds one (`cache`), and how one is read
//! from its store: once at a time for each version that is asked for, ahead of the moment from which it would have to
//! be read anew (`engine`). `parts` is what of a value is meant.

use std::sync::Arc;
use std::time::Duration;

use crate::access::Permit;
use crate::account::Freshness;
use crate::secret::Secret;
use crate::store::{StoreError, Version};
use crate::time::{Deadline, Moment, Wall};

mod cache;
mod desk;
mod engine;
mod parts;
#[cfg(test)]
mod tests;

pub use desk::Desk;
pub use engine::{Engine, keep_ahead};
pub use parts::member_of;

use parts::Parts;

/// How long a value serves that its store does not confirm: a store that is down takes nothing away until then.
pub const MOST_STALE: Duration = Duration::from_secs(86_400);
/// The fraction of the time after which a value is read anew at which that begins, less up to a tenth of it.
const AHEAD_AT: f64 = 0.8;

/// A version of a secret that is held in memory.
#[derive(Clone, Debug)]
struct Kept {
    parts: Arc<Parts>,
    version: Arc<str>,
    created: Wall,
    /// When the store was asked for it.
    asked: Moment,
    /// What had been written to its place then.
    changes: Changes,
    /// When it begins to be read anew.
    ahead: Deadline,
    /// From when on it has to be.
    due: Deadline,
    /// When it ends, though the store may still have it.
    ends: Deadline,
}

/// What has been written to a secret's place, as far as it is counted: when it is another, what was read is of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Changes {
    /// By the store, where it counts: whatever was written to it, by whom ever.
    counted: Option<u64>,
    /// By bursar, to this secret.
    ours: u64,
}

/// How a read was begun: what its result is kept by.
#[derive(Clone, Copy, Debug)]
struct Begun {
    at: Moment,
    changes: Changes,
    reread_after: Duration,
    /// Uniform in 0..=65535: a fleet that started together does not ask together.
    dice: u16,
}

impl Kept {
    /// What the store gave to a read.
    fn new(version: &Version, value: Secret, begun: Begun) -> Self {
        let early = 0.1 * f64::from(begun.dice) / f64::from(u16::MAX);
        Self {
            parts: Arc::new(Parts::of(value)),
            version: version.id.as_str().into(),
            created: version.created,
            asked: begun.at,
            changes: begun.changes,
            ahead: begun.at.deadline(begun.reread_after.mul_f64(AHEAD_AT * (1.0 - early))),
            due: begun.at.deadline(begun.reread_after),
            ends: begun.at.deadline(MOST_STALE),
        }
    }

    /// How fresh it is, `changes` being what has been written by now and `failing` whether it was last read in vain; none
    /// where it may not be served without being read anew.
    fn freshness(&self, changes: Changes, failing: bool, now: Moment) -> Option<Freshness> {
        let due = self.changes != changes || self.due.passed(now);
        match (due, failing) {
            _ if self.ends.passed(now) => None,
            (true, true) => Some(Freshness::Stale),
            (true, false) => None,
            (false, _) if self.ahead.passed(now) => Some(Freshness::Ahead),
            (false, _) => Some(Freshness::Fresh),
        }
    }
}

/// How a secret is at one look, without its value.
#[derive(Clone, Debug)]
pub struct Look {
    /// The version that is known, when it was made, and how old what is known of it is.
    pub known: Option<(Arc<str>, Wall, Duration)>,
    /// How fresh it is; none where it would be read before it is served.
    pub freshness: Option<Freshness>,
    /// How many reads in a row have failed.
    pub failures: u32,
    /// How the last read failed, if nothing has come of it since, and how long until the next.
    pub failed: Option<(Unavailable, Duration)>,
    /// How many wait for another version.
    pub waiting: usize,
}

impl Look {
    /// `fresh`, `ahead`, `stale`; `due`: it would be read before it is served; `missing`: its store has none; `failing`: it
    /// cannot be read, and nothing of it is known.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match (self.freshness, &self.known, &self.failed) {
            (Some(freshness), _, _) => freshness.as_str(),
            (None, None, Some((why, _))) if why.is_final() => "missing",
            (None, _, Some(_)) => "failing",
            (None, _, None) => "due",
        }
    }
}

/// Why no value can be handed over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// The store has no such secret, no such version that is served, or the value is not what its entry says.
    #[error("{0}")]
    Missing(StoreError),
    /// The store cannot be read, and no value is known.
    #[error("{error}")]
    Store {
        /// What happened last.
        error: StoreError,
        /// When it will be read again.
        retry_after: Duration,
    },
    /// bursar's own fault: a task ended, or a permit was for something else.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl Unavailable {
    fn of(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => Self::Missing(error),
            StoreError::Fenced(_)
            | StoreError::Taken(..)
            | StoreError::ReadOnly(_)
            | StoreError::Invalid(_)
            | StoreError::Setup(_)
            | StoreError::Damaged(_)
            | StoreError::Unavailable(_) => Self::Store { error, retry_after: Duration::ZERO },
        }
    }

    /// Whether the store has spoken: what it had before is over.
    const fn is_final(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    /// The same, told to somebody who may ask again after `wait`.
    fn retry_after(self, wait: Duration) -> Self {
        match self {
            Self::Store { error, .. } => Self::Store { error, retry_after: wait },
            other @ (Self::Missing(_) | Self::Internal(_)) => other,
        }
    }
}

/// No value: the permit back, for the record of the refusal, and why.
#[derive(Debug)]
pub struct Unobtained {
    /// The permit, unused.
    pub permit: Box<Permit>,
    /// Why.
    pub why: Unavailable,
}
