//! Turns at a provider: how many requests to it are under way at once, and how many of them for one workload.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::Unavailable;
use crate::name::Name;

/// How many requests to one provider are under way at once: each has a connection, and with it a descriptor.
pub const MOST_FLIGHTS: usize = 32;
/// How many of them one workload has. Of n scopes it may ask for 2^n sets, each a flight of its own.
pub(super) const MOST_FLIGHTS_OF_ONE: usize = 8;
/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// The turns of one provider.
#[derive(Debug)]
pub(super) struct Turns {
    all: Semaphore,
    /// Of those who fly or wait for it.
    own: Mutex<HashMap<Name, Arc<Semaphore>>>,
}

/// A turn, over when it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Turn<'a> {
    _own: Option<OwnedSemaphorePermit>,
    _all: SemaphorePermit<'a>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Semaphore::new(MOST_FLIGHTS), own: Mutex::default() }
    }
}

impl Turns {
    /// Waits for a turn, among its own first: so a workload never has more than its share even in the queue of all.
    ///
    /// # Errors
    /// [`Unavailable::Busy`], when none came in time.
    pub(super) async fn take(&self, whose: Option<&Name>) -> Result<Turn<'_>, Unavailable> {
        timeout(TURN_TIMEOUT, self.wait(whose)).await.ok().flatten().ok_or(Unavailable::Busy(MOST_FLIGHTS))
    }

    /// None if the turns were closed, which they never are.
    async fn wait(&self, whose: Option<&Name>) -> Option<Turn<'_>> {
        let own = match whose.map(|name| self.own(name)) {
            Some(own) => Some(own.acquire_owned().await.ok()?),
            None => None,
        };
        Some(Turn { _own: own, _all: self.all.acquire().await.ok()? })
    }

    fn own(&self, name: &Name) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        // Who flies or waits holds it too.
        own.retain(|_, turns| Arc::strong_count(turns) > 1);
        Arc::clone(own.entry(name.clone()).or_insert_with(|| Arc::new(Semaphore::new(MOST_FLIGHTS_OF_ONE))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_workload_does_not_take_the_turns_of_the_others() {
        let (turns, greedy, modest) = (Turns::default(), "greedy".parse().unwrap(), "modest".parse().unwrap());
        let mut flying: Vec<_> =
            (0..MOST_FLIGHTS_OF_ONE).map(|_| turns.take(Some(&greedy)).now_or_never().unwrap().unwrap()).collect();
        assert!(turns.take(Some(&greedy)).now_or_never().is_none(), "it waits");
        assert!(turns.take(Some(&modest)).now_or_never().is_some());
        flying.pop();
        assert!(turns.take(Some(&greedy)).now_or_never().is_some(), "a flight that is over leaves a turn");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_that_it_is_busy() {
        let turns = Turns::default();
        let _flying: Vec<_> = (0..MOST_FLIGHTS).map(|_| turns.take(None).now_or_never().unwrap().unwrap()).collect();
        assert!(matches!(turns.take(None).await, Err(Unavailable::Busy(MOST_FLIGHTS))));
    }
}
