//! containerd-shim-rsrun-v2.
fn main() {}
