//! What is kept beside each store: the turns of its reads, and what is counted of them.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::cache::Landing;
use crate::telemetry::metrics::{Histogram, Tally};

/// How many reads of one store are under way at once: one that hangs does not take the turns of the others.
pub(super) const MOST_READS: usize = 32;

/// The reads of one store.
#[derive(Debug)]
pub struct Desk {
    turns: Semaphore,
    /// Reads, by how they ended: `read`, `missing`, `failed`.
    pub reads: Tally<3>,
    /// How long they took, the turn included.
    pub took: Histogram,
    /// Values that were found for requests, by freshness.
    pub served: Tally<3>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(MOST_READS),
            reads: Tally::of(["read", "missing", "failed"]),
            took: Histogram::default(),
            served: Tally::of(["fresh", "ahead", "stale"]),
        }
    }
}

impl Desk {
    /// How many reads are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        MOST_READS.saturating_sub(self.turns.available_permits())
    }

    /// Waits for a turn; none if the turns were closed, which they never are.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    pub(super) fn landed(&self, landing: &Landing) {
        self.reads.count(match landing {
            Ok(_) => "read",
            Err(why) if why.is_final() => "missing",
            Err(_) => "failed",
        });
    }
}
