//! What came to the issuer and what became of it, and the day that decides the latter. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::day::{BadDay, Course};
use super::fault::Endpoint;

/// Requests since the start, by kind, and what became of those for a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// For a token.
    pub token: u64,
    /// For the metadata.
    pub metadata: u64,
    /// For the keys.
    pub keys: u64,
    /// Where a redirect points: a client that comes here has sent its credential after it.
    pub elsewhere: u64,
    /// For anything else.
    pub other: u64,
    /// Tokens that were granted, the same ones again too.
    pub granted: u64,
    /// Requests for a token that deserved no token, on any day.
    pub refused: u64,
    /// How often each fault has struck, by its name.
    pub struck: BTreeMap<String, u64>,
}

/// The counts, and the day.
#[derive(Default)]
pub(super) struct Ledger {
    requests: Requests,
    day: BadDay,
    /// Requests by endpoint since the day began.
    since: BTreeMap<Endpoint, u64>,
}

/// What a request that is not struck down comes to.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    Granted,
    Refused,
    Elsewhere,
    Other,
}

impl Ledger {
    /// A day begins: its faults count from the next request on.
    pub(super) fn begin(&mut self, day: BadDay) {
        self.day = day;
        self.since.clear();
    }

    pub(super) fn day(&self) -> &BadDay {
        &self.day
    }

    pub(super) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// A request has come: what becomes of it.
    pub(super) fn come(&mut self, endpoint: Endpoint) -> Course {
        let before = self.since.entry(endpoint).or_default();
        let course = self.day.course(endpoint, *before);
        *before += 1;
        match endpoint {
            Endpoint::Token => self.requests.token += 1,
            Endpoint::Metadata => self.requests.metadata += 1,
            Endpoint::Keys => self.requests.keys += 1,
        }
        for name in &course.struck {
            *self.requests.struck.entry(name.clone()).or_default() += 1;
        }
        course
    }

    pub(super) fn ended(&mut self, ending: Ending) {
        match ending {
            Ending::Granted => self.requests.granted += 1,
            Ending::Refused => self.requests.refused += 1,
            Ending::Elsewhere => self.requests.elsewhere += 1,
            Ending::Other => self.requests.other += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_counts_from_its_beginning_and_each_endpoint_by_itself() {
        let mut ledger = Ledger::default();
        ledger.come(Endpoint::Token);
        ledger.begin("503,for=1,at=all".parse().unwrap());
        let struck =
            [Endpoint::Token, Endpoint::Token, Endpoint::Keys].map(|endpoint| ledger.come(endpoint).instead.is_some());
        assert_eq!(struck, [true, false, true]);
        let told = ledger.requests();
        assert_eq!((told.token, told.keys, told.struck.get("503")), (3, 1, Some(&2)));
    }
}
