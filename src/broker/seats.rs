//! Seats: how many may wait or listen at once, of one workload and in all. Nobody waits for a seat.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::name::Name;

/// The most of one workload, and of all.
const MOST_OF_ONE: usize = 1_024;
const MOST: usize = 4_096;

/// The seats for one purpose.
#[derive(Debug)]
pub(super) struct Seats {
    all: Arc<Semaphore>,
    own: Mutex<HashMap<Name, Arc<Semaphore>>>,
}

/// A seat, free again when it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Seat {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Default for Seats {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MOST)), own: Mutex::default() }
    }
}

impl Seats {
    /// A seat for `whose`, if there is one for it and for anybody.
    pub(super) fn take(&self, whose: &Name) -> Option<Seat> {
        let own = self.own(whose).try_acquire_owned().ok()?;
        Some(Seat { _own: own, _all: Arc::clone(&self.all).try_acquire_owned().ok()? })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        MOST.saturating_sub(self.all.available_permits())
    }

    fn own(&self, name: &Name) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        // Who sits holds it too.
        own.retain(|_, seats| Arc::strong_count(seats) > 1);
        Arc::clone(own.entry(name.clone()).or_insert_with(|| Arc::new(Semaphore::new(MOST_OF_ONE))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_workload_does_not_take_the_seats_of_all_and_who_leaves_frees_its_own() {
        let (seats, greedy, modest) = (Seats::default(), "greedy".parse().unwrap(), "modest".parse().unwrap());
        let mut sitting: Vec<_> = (0..MOST_OF_ONE).map(|_| seats.take(&greedy).unwrap()).collect();
        assert!(seats.take(&greedy).is_none());
        drop(seats.take(&modest).unwrap());
        assert_eq!(seats.taken(), MOST_OF_ONE);
        sitting.pop();
        assert!(seats.take(&greedy).is_some());
    }
}
