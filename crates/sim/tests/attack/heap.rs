//! An allocator that counts the bytes that a thread has: each test has one of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a piece of work allocates.
#[derive(Debug)]
pub struct Meter(isize);

impl Meter {
    /// Begins to measure.
    pub fn new() -> Self {
        let live = LIVE.get();
        PEAK.set(live);
        Self(live)
    }

    /// Bytes allocated since, and not freed.
    pub fn live(&self) -> usize {
        usize::try_from(LIVE.get() - self.0).unwrap_or(0)
    }

    /// The most that there were at once.
    pub fn peak(&self) -> usize {
        usize::try_from(PEAK.get() - self.0).unwrap_or(0)
    }
}

fn count(before: usize, after: usize) {
    // A thread that ends frees more after its counters are gone.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + after as isize - before as isize);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it came, and every result comes from it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), size);
        // SAFETY: the caller keeps the contract of `realloc`, which is the same.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(at, layout) }
    }
}
