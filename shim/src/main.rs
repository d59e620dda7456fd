//! containerd-shim-rsrun-v2: the process between containerd and the containers of a sandbox.
//!
//! | called as | lives | does |
//! |---|---|---|
//! | `… start` | milliseconds | finds or starts the serving process and prints where it listens |
//! | no action | until Shutdown | serves the Task API on an inherited listener |
//! | `… delete` | a moment | cleans up what a serving process left |
//! | `-info` | a moment | describes the runtime |

mod args;
mod bootstrap;
mod container;
mod convert;
mod event;
mod failure;
mod io;
mod journal;
mod mode;
mod moment;
mod mounts;
mod options;
mod sandbox;
mod socket;
mod spec;
mod status_code;
mod task;
mod wire;

use std::process::ExitCode;

use rsrun_core::sys::heap::UnforkedHeap;

/// Memory that the processes of containers do not inherit.
#[global_allocator]
static HEAP: UnforkedHeap = UnforkedHeap::new();

fn main() -> ExitCode {
    rsrun_core::sys::heap::keep_libc_to_one_arena();
    let outcome = args::parse(std::env::args().skip(1)).and_then(|args| {
        if args.version {
            mode::describe::version();
            return Ok(());
        }
        if args.info {
            return mode::describe::run();
        }
        if args.ctr_ns.is_empty() {
            return Err("shim namespace cannot be empty".to_owned());
        }
        match args.action.as_str() {
            "start" => mode::start::run(&args),
            "delete" => mode::delete::run(&args),
            _ => mode::serve::run(&args),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            // The only word on stderr: containerd shows all of it to the user.
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}
