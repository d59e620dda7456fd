//! containerd-shim-rsrun-v2: the program. What it does is in the library beside it.
#![cfg_attr(not(test), no_main)]

use rsrun_core::sys::heap::UnforkedHeap;
use rsrun_core::sys::program::Status;

/// Memory that the processes of containers do not inherit.
#[global_allocator]
static HEAP: UnforkedHeap = UnforkedHeap::new();

rsrun_core::program!(run);

fn run() -> Status {
    rsrun_core::sys::heap::keep_libc_to_one_arena();
    // The commit, if the build names it.
    rsrun_shim::main(&HEAP, option_env!("RSRUN_REVISION").unwrap_or("unknown"))
}
