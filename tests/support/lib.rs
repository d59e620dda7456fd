//! Shared ground of the suites.

pub mod cli;
pub mod command;
pub mod containerd;
pub mod ground;
pub mod places;
pub mod proc;
pub mod spec;
pub mod suite;
pub mod terminal;
