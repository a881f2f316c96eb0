//! (E) The arena: the locked pages in which every secret lies.
//!
//! The pages stay in memory (`mlock2`), out of core dumps (`MADV_DONTDUMP`) and out of forked children
//! (`MADV_WIPEONFORK`). A user who is not root may lock 8 MiB by default (`RLIMIT_MEMLOCK`); what is beyond
//! is not locked, and [`stats`] says how much that is: a token that may reach swap is better than none.
#![expect(unsafe_code, reason = "no safe crate gives locked memory; every pointer of the arena is in this file")]

use std::alloc::{Layout, handle_alloc_error};
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::mm::{Advice, MapFlags, MlockFlags, ProtFlags, madvise, mlock_with, mmap_anonymous, munmap};

use super::slabs::{Place, Slabs};
use super::wipe;

static ARENA: Mutex<Arena> = Mutex::new(Arena::new());

/// What the arena holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live values.
    pub secrets: usize,
    /// The sum of their lengths.
    pub in_use_bytes: usize,
    /// Address space that the arena has mapped; pages that were never used take no memory.
    pub mapped_bytes: usize,
    /// The part of `mapped_bytes` that cannot be swapped out.
    pub locked_bytes: usize,
    /// The part of `mapped_bytes` that appears in a core dump, because the kernel refused to leave it out.
    pub dumpable_bytes: usize,
}

/// What the arena holds at this moment.
#[must_use]
pub fn stats() -> Stats {
    lock().stats
}

/// The bytes of one secret: theirs alone until they are dropped, which wipes them.
pub(super) struct Slot {
    at: NonNull<u8>,
    len: usize,
    place: Place,
}

// SAFETY: a slot owns its bytes as a `Box<[u8]>` would; the arena is behind a mutex.
unsafe impl Send for Slot {}
// SAFETY: as above; shared access gives shared slices only.
unsafe impl Sync for Slot {}

impl Slot {
    /// A slot of `len` zero bytes. Aborts, as every allocation does, when there is no memory.
    pub(super) fn take(len: usize) -> Self {
        let (at, place) = lock().take(len);
        Self { at, len, place }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `take` gave `len` initialised bytes at `at` to this slot alone, in a chunk that stays
        // mapped until `drop` gives the slot back.
        unsafe { NonNull::slice_from_raw_parts(self.at, self.len).as_ref() }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed alone.
        unsafe { NonNull::slice_from_raw_parts(self.at, self.len).as_mut() }
    }

    /// The first `len` bytes; the others are wiped. Moves to a smaller slot where that saves much.
    pub(super) fn cut(mut self, len: usize) -> Self {
        let len = len.min(self.len);
        let (kept, rest) = self.bytes_mut().split_at_mut(len);
        if rest.len() > len.max(64) {
            let mut smaller = Self::take(len);
            smaller.bytes_mut().copy_from_slice(kept);
            return smaller;
        }
        wipe(rest);
        let mut arena = lock();
        arena.stats.in_use_bytes -= self.len - len;
        self.len = len;
        self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        wipe(self.bytes_mut());
        lock().give_back(self.place, self.len);
    }
}

fn lock() -> MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Arena {
    slabs: Slabs,
    /// By the number of the chunk.
    chunks: Vec<Option<Chunk>>,
    stats: Stats,
}

impl Arena {
    const fn new() -> Self {
        let stats = Stats { secrets: 0, in_use_bytes: 0, mapped_bytes: 0, locked_bytes: 0, dumpable_bytes: 0 };
        Self { slabs: Slabs::new(), chunks: Vec::new(), stats }
    }

    fn take(&mut self, len: usize) -> (NonNull<u8>, Place) {
        let taken = self.slabs.take(len).or_else(|| {
            self.map_chunk(len);
            self.slabs.take(len)
        });
        let at = taken.and_then(|(place, spot)| Some((place, spot.offset, self.chunk(spot.chunk)?.at)));
        let Some((place, offset, chunk)) = at else { out_of_memory(len) };
        self.stats.secrets += 1;
        self.stats.in_use_bytes += len;
        // SAFETY: `Slabs` keeps `offset + len` within the chunk.
        (unsafe { chunk.add(offset) }, place)
    }

    fn give_back(&mut self, place: Place, len: usize) {
        self.stats.secrets -= 1;
        self.stats.in_use_bytes -= len;
        let Some(number) = self.slabs.give_back(place) else { return };
        let Some(chunk) = self.chunks.get_mut(number as usize).and_then(Option::take) else { return };
        chunk.subtract_from(&mut self.stats);
        // SAFETY: `Slabs` says that no slot of this chunk is in use.
        unsafe { chunk.unmap() }
    }

    fn chunk(&self, number: u32) -> Option<&Chunk> {
        self.chunks.get(number as usize)?.as_ref()
    }

    fn map_chunk(&mut self, len: usize) {
        let Some(chunk) = Chunk::map(Slabs::chunk_bytes(len)) else { out_of_memory(len) };
        chunk.add_to(&mut self.stats);
        let number = self.slabs.add_chunk(len) as usize;
        if number >= self.chunks.len() {
            self.chunks.resize_with(number + 1, || None);
        }
        if let Some(place) = self.chunks.get_mut(number) {
            *place = Some(chunk);
        }
    }
}

fn out_of_memory(len: usize) -> ! {
    handle_alloc_error(Layout::array::<u8>(len).unwrap_or(Layout::new::<u8>()))
}

/// A mapping of its own, all zeroes at first.
struct Chunk {
    at: NonNull<u8>,
    bytes: usize,
    locked: bool,
    dumpable: bool,
}

// SAFETY: the pointer is to memory that only the arena and its slots use; it belongs to no thread.
unsafe impl Send for Chunk {}

impl Chunk {
    fn map(bytes: usize) -> Option<Self> {
        // SAFETY: a new private mapping at an address that the kernel chooses touches nobody's memory.
        let at = unsafe {
            mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).ok()?
        };
        // SAFETY: the range is the mapping just made. A forked child sees zeroes there, which are valid bytes;
        // where an old kernel refuses, the child is one that executes another program at once.
        let dumpable = unsafe {
            let _ = madvise(at, bytes, Advice::LinuxWipeOnFork);
            madvise(at, bytes, Advice::LinuxDontDump).is_err()
        };
        // SAFETY: the range is the mapping just made. On fault: pages are locked as they are first used.
        let locked = unsafe { mlock_with(at, bytes, MlockFlags::ONFAULT).is_ok() };
        Some(Self { at: NonNull::new(at.cast())?, bytes, locked, dumpable })
    }

    /// # Safety
    /// No slot of this chunk is in use.
    unsafe fn unmap(self) {
        // SAFETY: the range is exactly what `map` mapped, and by the caller's promise nobody refers to it.
        // It can only fail where the kernel cannot split a mapping: then zeroed pages stay, and nothing else.
        let _ = unsafe { munmap(self.at.as_ptr().cast::<c_void>(), self.bytes) };
    }

    fn add_to(&self, stats: &mut Stats) {
        stats.mapped_bytes += self.bytes;
        stats.locked_bytes += if self.locked { self.bytes } else { 0 };
        stats.dumpable_bytes += if self.dumpable { self.bytes } else { 0 };
    }

    fn subtract_from(&self, stats: &mut Stats) {
        stats.mapped_bytes -= self.bytes;
        stats.locked_bytes -= if self.locked { self.bytes } else { 0 };
        stats.dumpable_bytes -= if self.dumpable { self.bytes } else { 0 };
    }
}
