//! The global allocator that zeroes what it frees, over jemalloc.
//!
//! The binary declares it, and nobody else:
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: ZeroOnFree = ZeroOnFree::new();
//! ```
//! It covers what Rust allocates. SQLite allocates in C, which is why only sealed bytes reach it.
#![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout};
use std::{ptr, slice};

use tikv_jemallocator::Jemalloc;

/// Zeroes each allocation before `A` frees it; a reallocation leaves no old copy behind.
pub struct ZeroOnFree<A = Jemalloc>(A);

impl ZeroOnFree {
    /// Over jemalloc.
    #[must_use]
    pub const fn new() -> Self {
        Self(Jemalloc)
    }
}

impl Default for ZeroOnFree {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> ZeroOnFree<A> {
    /// Over another allocator.
    #[must_use]
    pub const fn over(allocator: A) -> Self {
        Self(allocator)
    }
}

// SAFETY: every call is passed on to `A` with the caller's own promises. `realloc` is composed of `alloc`,
// a copy of what both sizes hold, and `dealloc`; on failure the old allocation is untouched.
unsafe impl<A: GlobalAlloc> GlobalAlloc for ZeroOnFree<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: by the caller's promise the `layout.size()` bytes at `ptr` are its own and no longer used.
        // They may be uninitialised: they become bytes by the write, before the slice is made.
        unsafe {
            ptr.write_bytes(0, layout.size());
            zeroize::optimization_barrier(slice::from_raw_parts(ptr, layout.size()));
            self.0.dealloc(ptr, layout);
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: by the caller's promise `new_size`, rounded up to the alignment, does not overflow.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: `new_size` is not zero, by the caller's promise.
        let new = unsafe { self.0.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: both allocations have the bytes that are copied, and they are two; then the old one
            // is freed once, with its own layout.
            unsafe {
                ptr::copy_nonoverlapping(ptr, new, layout.size().min(new_size));
                self.dealloc(ptr, layout);
            }
        }
        new
    }
}
