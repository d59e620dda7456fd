//! The child of rsrun: what runs between clone3 and execve.
//!
//! [`enter`] interprets the steps of a frozen plan. It owns no heap, takes no lock, never panics and
//! calls no C library: the process it runs in was cloned from one that has threads, so nothing that
//! such code would touch can be trusted to be whole. Every failure is two numbers in the shared page,
//! the step and the errno; the parent has the words.
#![no_std]

pub mod page;
pub mod step;

pub use page::Page;
pub use step::{Frozen, InArena, Stage, Step};

/// Interprets `frozen`. (Body follows.)
pub fn enter(frozen: Frozen<'_>) -> ! {
    let _ = frozen;
    loop {}
}
