//! What signals do to the child until execve.

use crate::raw::{self, Outcome};

/// Every signal unblocked; those that end a process by default end this one with `128 + n`, the others
/// have their default. As pid 1 of its namespace the child would not hear a signal without a handler.
pub fn reset() -> Outcome<()> {
    for signal in 1..=raw::SIGNALS {
        match signal {
            libc::SIGKILL | libc::SIGSTOP => {}
            libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH => {
                raw::default_action(signal)?;
            }
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => raw::default_action(signal)?,
            _ => raw::exit_action(signal)?,
        }
    }
    // Only now: a signal that waited would meet what the shim had set.
    raw::unblock_signals()
}
