//! How a program begins: in `main` as C has it, without what std does ahead of a `main` of Rust.
//!
//! For the words with which it tells of a stack that has overflowed, std reads `/proc/self/maps` and gives each thread a
//! stack for its signals: 0.1 ms of each execution where a processor is virtual. The rest of it is done here.

use std::panic::{UnwindSafe, catch_unwind};

use nix::errno::Errno;

/// The exit status of a program.
pub type Status = u8;

/// It did what it was told to.
pub const SUCCESS: Status = 0;
/// It did not.
pub const FAILURE: Status = 1;

/// Of a program that panicked, as std has it.
const PANICKED: Status = 101;

/// Defines the `main` that the C library calls: a program of `#![cfg_attr(not(test), no_main)]` that does what the function
/// `$main` does. In tests there is another one.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        #[cfg(not(test))]
        #[allow(
            unsafe_code,
            reason = "the C library calls it by this name, and there is no other"
        )]
        #[unsafe(no_mangle)]
        extern "C" fn main() -> ::core::ffi::c_int {
            $crate::sys::program::run($main)
        }
        #[cfg(test)]
        const _: fn() -> $crate::sys::program::Status = $main;
    };
}

/// To be called by `main` alone: nobody without CAP_SYS_PTRACE over the host looks into the program from here on.
/// Sees to the standard streams and to SIGPIPE, and ends the process with the status that `main` gives. A stream that the
/// caller has closed is `/dev/null`: what is opened next must not become one. Who writes to a pipe that nobody reads is
/// told so by the write.
pub fn run(main: impl FnOnce() -> Status + UnwindSafe) -> ! {
    let status = match occupy_streams() {
        Ok(()) => {
            // SAFETY: a disposition is set, no handler; there is no other thread yet.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
            hide();
            // The panic has been told already.
            catch_unwind(main).unwrap_or(PANICKED)
        }
        // There may be nowhere to tell it.
        Err(_) => FAILURE,
    };
    std::process::exit(i32::from(status))
}

/// A launch thread gives up capabilities before it clones, and has the memory of all. By the kernel's rules who has those it
/// keeps may then trace it, in a container that sees the host's processes; not where the memory is not dumpable
/// (PR_SET_DUMPABLE, prctl(2); ptrace(2), "Ptrace access mode checking"). A program that is executed is dumpable again, and
/// a child of a launch says so itself.
fn hide() {
    // SAFETY: only numbers are passed.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

fn occupy_streams() -> nix::Result<()> {
    for stream in libc::STDIN_FILENO..=libc::STDERR_FILENO {
        // SAFETY: only numbers are passed.
        let found = super::checked(unsafe { libc::fcntl(stream, libc::F_GETFD) }.into());
        if found != Err(Errno::EBADF) {
            continue;
        }
        // SAFETY: the path ends with a NUL. What is opened gets the lowest number that is free: this one, and is the
        // process's for as long as it lives.
        super::checked(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) }.into())?;
    }
    Ok(())
}
