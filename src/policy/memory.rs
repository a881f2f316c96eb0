//! A bounded memory for several threads: it forgets, it never grows, and it is asked without allocating.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// How many entries share one lock and one place by their hash.
const WAYS: usize = 4;

/// A set-associative memory of `sets` × 4 entries. A new entry displaces the oldest of its set.
///
/// The hash is keyed at random per memory, so that nobody can choose questions that displace each other.
pub(super) struct Memory<K, V> {
    hasher: RandomState,
    sets: Box<[Mutex<Set<K, V>>]>,
}

type Set<K, V> = [Option<Arc<(K, V)>>; WAYS];

impl<K, V> Memory<K, V> {
    pub(super) fn with_sets(sets: usize) -> Self {
        let sets = (0..sets.max(1)).map(|_| Mutex::new([const { None }; WAYS])).collect();
        Self { hasher: RandomState::new(), sets }
    }

    /// The place of what hashes like `key`.
    pub(super) fn place_of(&self, key: impl Hash) -> usize {
        let hash = self.hasher.hash_one(key);
        usize::try_from(hash % self.sets.len() as u64).unwrap_or(0)
    }

    /// What stands at `place` under a key for which `same` holds.
    pub(super) fn recall(&self, place: usize, same: impl Fn(&K) -> bool) -> Option<Arc<(K, V)>> {
        let set = self.sets.get(place)?.lock().unwrap_or_else(PoisonError::into_inner);
        set.iter().flatten().find(|entry| same(&entry.0)).cloned()
    }

    /// Keeps `value` at `place`, in the place of the oldest there.
    pub(super) fn keep(&self, place: usize, key: K, value: V) -> Arc<(K, V)> {
        let entry = Arc::new((key, value));
        if let Some(set) = self.sets.get(place) {
            let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
            set.rotate_right(1);
            let oldest = set.first_mut();
            oldest.into_iter().for_each(|oldest| *oldest = Some(Arc::clone(&entry)));
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_forgets_the_oldest_and_never_grows() {
        let memory = Memory::with_sets(1);
        for number in 0..6 {
            memory.keep(0, number, number * 10);
        }
        let held: Vec<_> = (0..6).filter_map(|number| memory.recall(0, |key| *key == number)).collect();
        assert_eq!(held.iter().map(|entry| entry.1).collect::<Vec<_>>(), [20, 30, 40, 50]);
    }

    #[test]
    fn two_keys_of_one_place_are_told_apart() {
        let memory = Memory::with_sets(1);
        memory.keep(memory.place_of("a"), "a", 1);
        assert!(memory.recall(memory.place_of("b"), |key| *key == "b").is_none());
    }
}
