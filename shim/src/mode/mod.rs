//! The four ways in which this binary is called.

pub mod delete;
pub mod describe;
pub mod serve;
pub mod start;

/// Name of the binary, and of the process in lists.
pub const NAME: &str = "containerd-shim-rsrun-v2";

/// Name of the runtime, as clients ask for it.
pub const RUNTIME: &str = "io.containerd.rsrun.v2";
