//! containerd-shim-rsrun-v2.
#[allow(dead_code, unused_imports)]
mod io;

fn main() {}
