//! Shared ground of the suites.

pub mod by_hand;
pub mod cli;
pub mod command;
pub mod containerd;
pub mod containment;
pub mod events;
pub mod fifo;
pub mod footprint;
pub mod ground;
pub mod life;
pub mod pace;
pub mod places;
pub mod proc;
pub mod spec;
pub mod stepping;
pub mod suite;
pub mod task;
pub mod terminal;
pub mod ttrpc;
