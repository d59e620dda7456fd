//! The parent's side of a launch: from a plan to a process that waits at the gate or runs.

pub mod adopt;
mod ahead;
mod birth;
pub mod conversation;
pub mod drive;
pub mod open;
mod placement;
pub mod report;
mod userns;

pub use ahead::{Ahead, Soon};
pub use drive::{Attendant, Launched, Setting, launch};
pub(crate) use userns::{maps_of_process, maps_of_userns, userns_with};
