//! What is counted of one provider, for those who watch.

use crate::telemetry::metrics::{Histogram, Tally};

/// What is counted of one provider since it was made: a reload that changes its entry begins anew.
#[derive(Debug)]
pub struct Counts {
    /// Tokens that left, by freshness.
    pub served: Tally<3>,
    /// What became of those who asked for a token, by what the cache did.
    pub cache: Tally<6>,
    /// Requests that were sent to it, or could not be for want of a credential, by what came of them.
    pub requests: Tally<5>,
    /// How long they took.
    pub took: Histogram,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            served: Tally::of(["fresh", "ahead", "stale"]),
            cache: Tally::of(["hit", "ahead", "stale", "fetch", "join", "refuse"]),
            requests: Tally::of(["granted", "refused", "nonsense", "unavailable", "credential"]),
            took: Histogram::default(),
        }
    }
}
