//! How much memory the tokens of all providers take together: bounded, and those that were asked for longest ago go first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};

use super::cache::Cache;

/// The most that all tokens take together, in bytes: an eighth of the unit's `MemoryMax=`, since they lie in slabs
/// and stand beside connections, policies and the log.
pub(super) const MOST_BYTES: usize = 128 << 20;
/// What a token takes beside its own bytes, at most about: its key and its books.
const BESIDE: usize = 2 << 10;

/// The memory for tokens.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    taken: Arc<AtomicUsize>,
    caches: Mutex<Vec<Weak<Cache>>>,
}

/// A part of the memory, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Room {
    /// Room for `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default(), caches: Mutex::default() }
    }

    /// From here on `cache` lets tokens go when there is no room.
    pub(super) fn share(&self, cache: &Arc<Cache>) {
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        caches.retain(|one| one.strong_count() > 0);
        caches.push(Arc::downgrade(cache));
    }

    /// Takes what a token of `bytes` needs, also beyond the most: [`Self::clear`] makes up for it.
    pub(super) fn take(&self, bytes: usize) -> Taken {
        let bytes = bytes + BESIDE;
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Taken { bytes, of: Arc::clone(&self.taken) }
    }

    /// Lets tokens go where too much is taken: more than need be, so that not each that comes asks for a look at all.
    pub(super) fn clear(&self) {
        if !self.is_beyond(self.most) {
            return;
        }
        let caches = match self.caches.try_lock() {
            Ok(caches) => caches,
            Err(TryLockError::Poisoned(caches)) => caches.into_inner(),
            // Another clears.
            Err(TryLockError::WouldBlock) => return,
        };
        let mut entries: Vec<_> = caches.iter().filter_map(Weak::upgrade).flat_map(|cache| cache.entries()).collect();
        entries.sort_by_cached_key(|entry| entry.used());
        for entry in entries {
            if !self.is_beyond(self.most - self.most / 8) {
                return;
            }
            entry.forget();
        }
    }

    pub(super) fn is_beyond(&self, bytes: usize) -> bool {
        self.taken.load(Ordering::Relaxed) > bytes
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
