//! The heap that is not forked: a global allocator whose memory does not exist in a child.
//!
//! Every mapping is `MADV_DONTFORK`. A container's process, cloned from a shim that holds the specs
//! and environments of other containers, thus has none of them; clone3 copies no page tables of the
//! heap however large it is; and code that touches the heap after clone is an immediate SIGSEGV
//! instead of a dead-lock once in a million launches.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::Mutex;

use dlmalloc::{Allocator, Dlmalloc};

/// Has libc's own allocator serve all threads from one arena. It is used by little but the start of threads, for
/// each of which it would map 128 MB and give most of it back. For the beginning of `main`.
pub fn keep_libc_to_one_arena() {
    // SAFETY: only numbers are passed; the call takes the allocator's own lock.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Largest mapping, in bytes, whose pages are made with it: sixteen in one call instead of by sixteen page faults. The
/// heap grows by as much as that; what is larger was asked for as one piece, and may never be filled.
const READY_MADE: usize = 64 << 10;

/// Where dlmalloc gets its memory: private anonymous mappings that children do not inherit.
struct Unforked;

// SAFETY: each returned region is a fresh mapping of `size` bytes that nobody else uses until `free`.
unsafe impl Allocator for Unforked {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let failed = (std::ptr::null_mut(), 0, 0);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return failed;
        }
        // SAFETY: `base` is the mapping of `size` bytes just made; the advice changes only what fork copies.
        if unsafe { libc::madvise(base, size, libc::MADV_DONTFORK) } != 0 {
            // SAFETY: the mapping was just made and nobody knows of it.
            unsafe { libc::munmap(base, size) };
            return failed;
        }
        if size <= READY_MADE {
            // SAFETY: the mapping was just made and nobody uses it. Where it can't be done, which is no error, its pages
            // come one by one.
            unsafe { libc::madvise(base, size, libc::MADV_POPULATE_WRITE) };
        }
        (base.cast(), size, 0)
    }

    fn remap(&self, ptr: *mut u8, old: usize, new: usize, can_move: bool) -> *mut u8 {
        let flags = if can_move { libc::MREMAP_MAYMOVE } else { 0 };
        // SAFETY: `ptr` is a mapping of `old` bytes that dlmalloc owns; VM_DONTCOPY goes with the area.
        let base = unsafe { libc::mremap(ptr.cast(), old, new, flags) };
        if base == libc::MAP_FAILED {
            std::ptr::null_mut()
        } else {
            base.cast()
        }
    }

    fn free_part(&self, ptr: *mut u8, old: usize, new: usize) -> bool {
        // SAFETY: the bytes from `new` to `old` belong to a mapping that dlmalloc gives back.
        unsafe { libc::munmap(ptr.add(new).cast(), old - new) == 0 }
    }

    fn free(&self, ptr: *mut u8, size: usize) -> bool {
        // SAFETY: a whole mapping that dlmalloc gives back.
        unsafe { libc::munmap(ptr.cast(), size) == 0 }
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}

/// The allocator that every binary over the core installs:
/// `#[global_allocator] static HEAP: UnforkedHeap = UnforkedHeap::new();`
pub struct UnforkedHeap(Mutex<Dlmalloc<Unforked>>);

impl std::fmt::Debug for UnforkedHeap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnforkedHeap")
    }
}

impl UnforkedHeap {
    /// An empty heap.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Dlmalloc::new_with_allocator(Unforked)))
    }

    fn locked<T>(&self, act: impl FnOnce(&mut Dlmalloc<Unforked>) -> T) -> T {
        let mut heap = match self.0.lock() {
            Ok(heap) => heap,
            // dlmalloc does not unwind; a poisoned lock still guards a whole heap.
            Err(poisoned) => poisoned.into_inner(),
        };
        act(&mut heap)
    }

    /// Gives unused pages back to the kernel.
    pub fn trim(&self) {
        // SAFETY: the lock is held, so no other call is inside this dlmalloc.
        self.locked(|heap| unsafe { heap.trim(0) });
    }
}

impl Default for UnforkedHeap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: dlmalloc meets GlobalAlloc's contract; the lock makes its calls exclusive; futex locks
// allocate nothing.
unsafe impl GlobalAlloc for UnforkedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: size and alignment come from a valid Layout.
        self.locked(|heap| unsafe { heap.malloc(layout.size(), layout.align()) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: size and alignment come from a valid Layout.
        self.locked(|heap| unsafe { heap.calloc(layout.size(), layout.align()) })
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller got `ptr` from this allocator with this layout.
        self.locked(|heap| unsafe { heap.free(ptr, layout.size(), layout.align()) });
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller got `ptr` from this allocator with this layout; `new_size` is not 0.
        self.locked(|heap| unsafe { heap.realloc(ptr, layout.size(), layout.align(), new_size) })
    }
}
