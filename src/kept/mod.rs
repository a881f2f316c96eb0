//! Kept secrets: how fresh a value is and what to do about it (pure, here), who holds one (`cache`), and how one is read
//! from its store: once at a time for each version that is asked for, ahead of the moment from which it would have to
//! be read anew (`engine`).

use std::sync::Arc;
use std::time::Duration;

use crate::access::Permit;
use crate::account::{Freshness, SecretTerms};
use crate::secret::Secret;
use crate::store::{StoreError, Version};
use crate::time::{Deadline, Moment, Wall};

mod cache;
mod engine;
#[cfg(test)]
mod tests;

pub use engine::{Engine, keep_ahead};

/// How long a value serves that its store does not confirm: a store that is down takes nothing away until then.
pub const MOST_STALE: Duration = Duration::from_secs(86_400);
/// The fraction of the time after which a value is read anew at which that begins, less up to a tenth of it.
const AHEAD_AT: f64 = 0.8;

/// A version of a secret that is held in memory.
#[derive(Clone, Debug)]
struct Kept {
    value: Arc<Secret>,
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
    ///
    /// # Errors
    /// [`Unavailable::NotText`].
    fn new(version: &Version, value: Secret, begun: Begun) -> Result<Self, Unavailable> {
        if std::str::from_utf8(value.expose()).is_err() {
            return Err(Unavailable::NotText);
        }
        let early = 0.1 * f64::from(begun.dice) / f64::from(u16::MAX);
        Ok(Self {
            value: Arc::new(value),
            version: version.id.as_str().into(),
            created: version.created,
            asked: begun.at,
            changes: begun.changes,
            ahead: begun.at.deadline(begun.reread_after.mul_f64(AHEAD_AT * (1.0 - early))),
            due: begun.at.deadline(begun.reread_after),
            ends: begun.at.deadline(MOST_STALE),
        })
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

    fn terms(&self, freshness: Freshness) -> SecretTerms {
        let (version, created, obtained) = (Arc::clone(&self.version), self.created, self.asked);
        SecretTerms { version, created, obtained, freshness }
    }
}

/// Why no value can be handed over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// The store has no such secret, or no such version that is served.
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
    /// The value is no text, and there is no other way yet to write it into a reply.
    #[error("the value is not UTF-8 text, and this version hands out no other")]
    NotText,
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
        matches!(self, Self::Missing(_) | Self::NotText)
    }

    /// The same, told to somebody who may ask again after `wait`.
    fn retry_after(self, wait: Duration) -> Self {
        match self {
            Self::Store { error, .. } => Self::Store { error, retry_after: wait },
            other @ (Self::Missing(_) | Self::NotText | Self::Internal(_)) => other,
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
