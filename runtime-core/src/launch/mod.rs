//! The parent's side of a launch: from a plan to a process that waits at the gate or runs.

pub mod adopt;
pub mod conversation;
pub mod drive;
pub mod open;
pub mod report;

pub(crate) use drive::userns_with;
pub use drive::{Attendant, Launched, Setting, launch};
