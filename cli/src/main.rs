//! rsrun: a runc-compatible command line over the rsrun core.
#![cfg_attr(not(test), no_main)]

mod args;
mod cmd;
mod logging;
mod sealed;
mod signals;
mod terminal;

use rsrun_core::Context;
use rsrun_core::sys::heap::UnforkedHeap;
use rsrun_core::sys::program::{FAILURE, SUCCESS, Status};

/// A container's process must not have this heap (see the core's `sys::heap`).
#[global_allocator]
static HEAP: UnforkedHeap = UnforkedHeap::new();

rsrun_core::program!(run);

fn run() -> Status {
    rsrun_core::sys::heap::keep_libc_to_one_arena();
    if let Err(error) = sealed::ensure() {
        eprintln!("rsrun: {error}");
        return FAILURE;
    }
    // Its thread has something to do while the words are read.
    let soon = sealed::soon();
    let words: Vec<_> = std::env::args_os().collect();
    let args = match args::Args::read(&words) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let started = cmd::vet_inherited(&args.command)
        .and_then(|()| raise_open_files())
        .and_then(|()| logging::start(&args.global));
    if let Err(error) = started {
        eprintln!("rsrun: {error}");
        return FAILURE;
    }
    match cmd::run(&args, soon) {
        Ok(code) => code,
        Err(error) => {
            // The edge logs each error once, with what it belongs to already in its text.
            log::error!("{error}");
            if args.global.log.is_some() || !args.global.debug {
                eprintln!("rsrun: {error}");
            }
            // runc's exec tells "could not run it" from "it ended with 1" by 255.
            if matches!(args.command, args::Command::Exec(_)) {
                255
            } else {
                FAILURE
            }
        }
    }
}

/// A container of a thousand mounts needs as many descriptors until it stands.
fn raise_open_files() -> rsrun_core::Result<()> {
    rsrun_core::sys::raise_open_files().with(|| "setrlimit(RLIMIT_NOFILE)")
}

/// clap's own texts; like runc, help and version succeed and everything else is status 1.
fn usage(error: &clap::Error) -> Status {
    // Nothing can be done about a closed stdout.
    let _ = error.print();
    if error.use_stderr() { FAILURE } else { SUCCESS }
}
