//! The standard streams of one process: how do its bytes get from and to the places that a client
//! named (fifo, file, logging program, terminal)?
//!
//! An actor makes one [`Stdio`] per process and tells it what happens, in this order:
//!
//! ```text
//! prepare ──► streams go to the core ──► attach_console (terminal only) ──► start_copy
//!                                                                              │
//!      resize, close_stdin: any time after prepare                             ▼
//!                                         exited ──► drain (Delete) ──► force_close
//! ```
//!
//! Every method takes `&self`, none but `prepare`, `drain` and `force_close` waits, and dropping a
//! `Stdio` closes everything, so a create that fails or is given up leaves nothing behind.

mod console;
mod copy;
mod fifo;
mod file;
mod life;
mod logger;
mod meter;
pub mod policy;
mod prepare;
mod relay;
mod stdio;
#[cfg(test)]
mod tests;
pub mod uri;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use relay::watch;
pub use stdio::Stdio;

/// What a client asked for, as it stands in Create or Exec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Path of a fifo, or empty.
    pub stdin: String,
    /// Path of a fifo, URI, or empty. Its scheme decides for stderr as well.
    pub stdout: String,
    /// Path of a fifo, or empty; not looked at with a terminal, a file or a logger.
    pub stderr: String,
    /// The process gets a terminal: stdin and stdout are copied from and to its master.
    pub terminal: bool,
    /// The container's id for its init, the exec's id for an exec: `CONTAINER_ID` of a logger.
    pub process_id: String,
    /// containerd's namespace: `CONTAINER_NAMESPACE` of a logger.
    pub ctr_ns: String,
    /// Owner of the ends of pipes that the process gets.
    pub io_uid: u32,
    /// Group of these.
    pub io_gid: u32,
}

/// A logging program to be launched by the core on the host.
#[derive(Debug)]
pub struct Program {
    /// Absolute path.
    pub path: PathBuf,
    /// All arguments, the program's name first.
    pub args: Vec<OsString>,
    /// Its whole environment, `NAME=value`.
    pub env: Vec<OsString>,
    /// Becomes descriptors 3, 4, 5 … of the program; 0, 1 and 2 are `/dev/null`.
    pub fds: Vec<OwnedFd>,
}

/// A launched logging program. It is our child, and whoever reaps children reaps it too.
#[derive(Debug)]
pub struct Launched {
    /// For signals and to see its end.
    pub pidfd: OwnedFd,
}

/// Launches a logging program. May block for the time of a launch: it is called on a thread of its own.
pub type Launch = Arc<dyn Fn(Program) -> rsrun_core::Result<Launched> + Send + Sync>;

/// How long Delete waits for output that is still under way.
#[derive(Clone, Copy, Debug)]
pub struct DrainLimits {
    /// For a stream whose pipe a left-over process holds open without writing.
    pub quiet: Duration,
    /// For everything: a reader that is slow, or a left-over process that goes on writing.
    pub total: Duration,
}

impl Default for DrainLimits {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(2),
            total: Duration::from_secs(10),
        }
    }
}

/// How a drain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every byte that was written has been handed on, and every writer has closed.
    Complete,
    /// Time was up; what each unfinished stream waited for, in words for a log.
    Unfinished(Vec<String>),
}
