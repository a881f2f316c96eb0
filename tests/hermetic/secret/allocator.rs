//! The product's allocator, with a switch.
#![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, Ordering};

use bursar::secret::allocator::ZeroOnFree;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Switched = Switched;

static WIPING: AtomicBool = AtomicBool::new(true);
static WITH: ZeroOnFree = ZeroOnFree::new();
static WITHOUT: Jemalloc = Jemalloc;

pub(super) fn set_wiping(on: bool) {
    WIPING.store(on, Ordering::Relaxed);
}

struct Switched;

// SAFETY: both allocate from the same jemalloc, so that either may free what the other allocated.
unsafe impl GlobalAlloc for Switched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { WITH.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { if WIPING.load(Ordering::Relaxed) { WITH.dealloc(ptr, layout) } else { WITHOUT.dealloc(ptr, layout) } }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if WIPING.load(Ordering::Relaxed) {
            // SAFETY: the caller's promise.
            unsafe { WITH.realloc(ptr, layout, new_size) }
        } else {
            // SAFETY: the caller's promise.
            unsafe { WITHOUT.realloc(ptr, layout, new_size) }
        }
    }
}
