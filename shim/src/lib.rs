//! The shim as a library, for its program and for what tests it from outside: the process between containerd and the containers of a sandbox.
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
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod io;
mod journal;
mod mode;
mod moment;
mod mounts;
mod options;
mod pending;
mod sandbox;
mod signals;
mod socket;
mod spec;
mod status_code;
mod task;
mod wire;

use rsrun_core::sys::heap::UnforkedHeap;
use rsrun_core::sys::program::{FAILURE, SUCCESS, Status};

/// What the program does. `heap` is its global allocator, which gives memory back when there is little to do;
/// `revision` names what it was built from.
pub fn main(heap: &'static UnforkedHeap, revision: &str) -> Status {
    let outcome = args::parse(std::env::args().skip(1)).and_then(|args| {
        if args.help {
            print!("{}", args::USAGE);
            return Ok(());
        }
        if args.version {
            mode::describe::version(revision);
            return Ok(());
        }
        if args.info {
            return mode::describe::run(revision);
        }
        if args.ctr_ns.is_empty() {
            return Err("shim namespace cannot be empty".to_owned());
        }
        match args.action.as_str() {
            "start" => mode::start::run(&args),
            "delete" => mode::delete::run(&args),
            _ => mode::serve::run(&args, heap),
        }
    });
    match outcome {
        Ok(()) => SUCCESS,
        Err(text) => {
            if log::max_level() == log::LevelFilter::Off {
                // The only word on stderr: containerd shows all of it to the user.
                eprintln!("{text}");
            } else {
                log::error!("{text}");
            }
            FAILURE
        }
    }
}
