//! How much memory may one input take? Counted where it is asked for, so that a fuzzer and a test see the same.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What any input may have at once, and what it may have more for each of its bytes.
const BASE: usize = 16 << 20;
const PER_BYTE: usize = 400;

/// The system's allocator, with a count for each thread.
struct Counted;

#[global_allocator]
static HEAP: Counted = Counted;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // Gone while a thread ends; what is freed then is nobody's.
    let _ = NOW.try_with(|now| {
        now.set(now.get().saturating_add(change));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

#[allow(unsafe_code, reason = "an allocator's trait is unsafe")]
// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's layout, unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's layout, unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller's block and layout, unchanged.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's block and layout, unchanged.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Runs `act`, which may have so much memory at once as an input of `length` bytes may cost.
pub fn within(length: usize, act: impl FnOnce()) {
    let before = NOW.get();
    PEAK.set(before);
    act();
    let peak = (PEAK.get() - before).unsigned_abs();
    let allowed = BASE + PER_BYTE * length;
    assert!(
        peak <= allowed,
        "an input of {length} bytes took {peak} bytes of memory, {allowed} are allowed"
    );
}
