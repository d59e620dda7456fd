//! One process's streams as its actor sees them.

use std::os::fd::OwnedFd;

use rsrun_core::{Error, Result, Streams};

use super::{DrainLimits, Drained, Launch, Request};

/// The streams of one process. See the module's drawing for the order of calls.
pub struct Stdio {}

impl Stdio {
    /// Checks the request, opens what it names and makes the pipes; the process's ends are in
    /// [`Streams`]. Waits up to 30 s for a reader of a fifo, and for a logger to be ready; dropping
    /// the future gives up and closes everything.
    ///
    /// `InvalidArgument` for a string that is no path or URI that we serve, `Denied` for a logger or
    /// file that the policy does not allow, `Timeout` where nobody reads.
    pub async fn prepare(request: &Request, launch: &Launch) -> Result<(Self, Streams)> {
        let _ = (request, launch);
        Err(Error::new(rsrun_core::ErrorKind::Internal, "not built yet"))
    }

    /// Takes the master of the terminal; a size that was set before is applied now.
    pub fn attach_console(&self, master: OwnedFd) -> Result<()> {
        drop(master);
        Ok(())
    }

    /// Begins to copy. After the core has the process's ends, so that their closing is seen.
    pub fn start_copy(&self) -> Result<()> {
        Ok(())
    }

    /// Lets the process see the end of stdin once the client has closed its end. Idempotent.
    pub fn close_stdin(&self) {}

    /// Sets the size of the terminal, or remembers it until there is one; without a terminal no effect.
    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        let _ = (width, height);
        Ok(())
    }

    /// The process has ended. A terminal is read until it is empty and then closed, even if another
    /// process still has it open; pipes end when their last writer closes them.
    pub fn exited(&self) {}

    /// Waits until all output has been handed on, within `limits`. Several callers may wait.
    pub async fn drain(&self, limits: DrainLimits) -> Drained {
        let _ = limits;
        Drained::Complete
    }

    /// Closes everything at once, whatever is still under way; a logger is told to end (SIGTERM, SIGKILL
    /// after 12 s). Returns when all descriptors are closed. Idempotent.
    pub async fn force_close(&self) {}

    /// Nothing is being copied any more (or never was).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }

    /// One line per stream for a state dump: what it waits for, since when, bytes copied and lost.
    #[must_use]
    pub fn describe(&self) -> String {
        String::new()
    }
}
