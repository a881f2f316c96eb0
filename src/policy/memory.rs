//! A bounded memory for several threads: it forgets, it never grows, and asking it neither locks nor allocates.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;

/// How many entries share one place by their hash.
const WAYS: usize = 4;

/// A set-associative memory of `sets` × 4 entries. A new entry displaces the oldest of its set.
///
/// The hash is keyed at random per memory, so that nobody can choose questions that displace each other.
pub(super) struct Memory<K, V> {
    hasher: RandomState,
    sets: Box<[Set<K, V>]>,
}

struct Set<K, V> {
    ways: [ArcSwapOption<(K, V)>; WAYS],
    kept: AtomicUsize,
}

impl<K, V> Memory<K, V> {
    pub(super) fn with_sets(sets: usize) -> Self {
        let set = |_| Set { ways: [const { ArcSwapOption::const_empty() }; WAYS], kept: AtomicUsize::new(0) };
        Self { hasher: RandomState::new(), sets: (0..sets.max(1)).map(set).collect() }
    }

    /// The place of what hashes like `key`.
    pub(super) fn place_of(&self, key: impl Hash) -> usize {
        let hash = self.hasher.hash_one(key);
        usize::try_from(hash % self.sets.len() as u64).unwrap_or(0)
    }

    /// What `of` makes of the entry at `place` under a key for which `same` holds.
    pub(super) fn recall<R>(&self, place: usize, same: impl Fn(&K) -> bool, of: impl Fn(&V) -> R) -> Option<R> {
        let set = self.sets.get(place)?;
        set.ways.iter().find_map(|way| way.load().as_ref().filter(|entry| same(&entry.0)).map(|entry| of(&entry.1)))
    }

    /// Keeps `value` at `place`, instead of the oldest there.
    pub(super) fn keep(&self, place: usize, key: K, value: V) {
        let Some(set) = self.sets.get(place) else { return };
        let oldest = set.kept.fetch_add(1, Ordering::Relaxed) % WAYS;
        if let Some(way) = set.ways.get(oldest) {
            way.store(Some(Arc::new((key, value))));
        }
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
        let held: Vec<_> = (0..6).filter_map(|number| memory.recall(0, |key| *key == number, |value| *value)).collect();
        assert_eq!(held, [20, 30, 40, 50]);
    }

    #[test]
    fn two_keys_of_one_place_are_told_apart() {
        let memory = Memory::with_sets(1);
        memory.keep(memory.place_of("a"), "a", 1);
        assert!(memory.recall(memory.place_of("b"), |key| *key == "b", |value| *value).is_none());
    }
}
