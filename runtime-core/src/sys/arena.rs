//! Memory of a launch that the child may read: the arena of the frozen plan and the shared page.
//!
//! Both lie outside the heap, which a child does not have. The arena is private (the child sees a
//! copy), the page is shared (the parent sees what the child writes).

use std::cell::Cell;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::NonNull;

use nix::errno::Errno;
use rsrun_init::Page;
use rsrun_init::step::TextList;

/// Address space reserved for one plan; pages are taken only where something is written. A
/// config.json is at most 16 MiB, and nothing in a plan is longer than its source many times over.
const RESERVED: usize = 96 << 20;

/// A bump allocator over one private mapping. Nothing in it is dropped; all goes with the arena.
#[derive(Debug)]
pub struct Arena {
    base: NonNull<u8>,
    used: Cell<usize>,
}

impl Arena {
    /// An empty arena.
    pub fn new() -> nix::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
        Ok(Self {
            base: map(RESERVED, flags)?,
            used: Cell::new(0),
        })
    }

    /// A copy of `items` in the arena. `ENOMEM` when it is full.
    pub fn slice<T: Copy>(&self, items: &[T]) -> nix::Result<&[T]> {
        let align = align_of::<T>();
        let start = self.used.get().next_multiple_of(align);
        let end = size_of_val(items)
            .checked_add(start)
            .filter(|end| *end <= RESERVED)
            .ok_or(Errno::ENOMEM)?;
        self.used.set(end);
        // SAFETY: [start, end) lies inside the mapping, is aligned for T (the base is page-aligned), and
        // was never handed out before, so the copy overlaps nothing and the slice aliases nothing mutable.
        unsafe {
            let place = self.base.as_ptr().add(start).cast::<T>();
            std::ptr::copy_nonoverlapping(items.as_ptr(), place, items.len());
            Ok(std::slice::from_raw_parts(place, items.len()))
        }
    }

    /// A copy of `text`.
    pub fn text(&self, text: &CStr) -> nix::Result<&CStr> {
        let bytes = self.slice(text.to_bytes_with_nul())?;
        CStr::from_bytes_with_nul(bytes).map_err(|_| Errno::EINVAL)
    }

    /// A copy of `texts`, with the array of pointers that execve wants.
    pub fn texts<T: AsRef<CStr>>(&self, texts: &[T]) -> nix::Result<TextList<'_>> {
        let mut items = Vec::with_capacity(texts.len());
        for text in texts {
            items.push(self.text(text.as_ref())?);
        }
        let mut pointers: Vec<_> = items.iter().map(|text| text.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Ok(TextList {
            items: self.slice(&items)?,
            pointers: self.slice(&pointers)?,
        })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and every reference into it has ended with the borrow of `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), RESERVED) };
    }
}

/// The page in which a child leaves its facts.
#[derive(Debug)]
pub struct SharedPage {
    page: NonNull<Page>,
    _owned: PhantomData<Page>,
}

// SAFETY: the page holds atomics only; references to it may be used from any thread.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// A page with nothing in it yet.
    pub fn new() -> nix::Result<Self> {
        const { assert!(size_of::<Page>() <= 4096) };
        let page = map(4096, libc::MAP_SHARED)?.cast::<Page>();
        let shared = Self {
            page,
            _owned: PhantomData,
        };
        shared
            .syscall
            .store(u32::MAX, std::sync::atomic::Ordering::Relaxed);
        shared
            .listener
            .store(-1, std::sync::atomic::Ordering::Relaxed);
        shared
            .program
            .store(u32::MAX, std::sync::atomic::Ordering::Relaxed);
        Ok(shared)
    }
}

impl std::ops::Deref for SharedPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        // SAFETY: the mapping is page-aligned, zeroed (a valid Page: atomics of 0) and lives as long as `self`;
        // other processes write it through atomics only.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no reference outlives `self`.
        unsafe { libc::munmap(self.page.as_ptr().cast(), 4096) };
    }
}

fn map(size: usize, flags: i32) -> nix::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            protection,
            flags | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    NonNull::new(base.cast()).ok_or(Errno::ENOMEM)
}
