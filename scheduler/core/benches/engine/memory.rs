//! An allocator that counts what is in use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Counting;

static IN_USE: AtomicU64 = AtomicU64::new(0);

/// Bytes that were asked for and not given back. What the allocator itself adds is not in it.
pub fn in_use() -> u64 {
    IN_USE.load(Ordering::Relaxed)
}

// SAFETY: everything is handed on to the system's allocator as it came; counting has no part in it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: `at` came from the system's `alloc` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}
