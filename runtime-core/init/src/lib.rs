//! The child of rsrun: what runs between clone3 and execve.
//!
//! [`enter()`] interprets the steps of a frozen plan. It owns no heap, takes no lock, never panics and
//! calls no C library: the process it runs in was cloned from one that has threads, so nothing that
//! such code would touch can be trusted to be whole. Every failure is two numbers in the shared page,
//! the step and the errno; the parent has the words.
#![no_std]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::integer_division,
    clippy::panic,
    clippy::string_slice,
    clippy::todo,
    clippy::unimplemented,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "a panic would run code of a parent that is not there"
)]

pub mod page;
pub mod step;

mod console;
mod copies;
mod credentials;
mod devices;
mod enter;
mod gate;
mod inherited;
mod leftovers;
mod masks;
mod mounts;
mod namespaces;
mod paths;
mod procfs;
mod program;
mod raw;
mod root;
mod seccomp;
mod signals;
mod texts;
mod wake;
mod xattrs;

pub use enter::enter;
pub use namespaces::loopback_up;
pub use page::Page;
pub use raw::{call, monotonic_ns, word};
pub use step::{Frozen, InArena, Stage, Step};
