//! What do all who copy for one process have to know: has it ended, and is it time to stop?

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::{read, write};
use rsrun_core::{Context, Result};
use tokio::sync::watch;

/// One per process, shared by its tasks and its file thread.
#[derive(Debug)]
pub struct Life {
    exited: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
    wake: OwnedFd,
}

impl Life {
    /// Of a process that lives.
    pub fn new() -> Result<Self> {
        Ok(Self {
            exited: watch::Sender::new(false),
            stopped: watch::Sender::new(false),
            wake: rsrun_core::sys::fds::eventfd().with(|| "eventfd")?,
        })
    }

    /// The process has ended.
    pub fn set_exited(&self) {
        self.exited.send_replace(true);
        self.rouse();
    }

    /// Nothing is to be copied any more.
    pub fn set_stopped(&self) {
        self.stopped.send_replace(true);
        self.rouse();
    }

    /// Whether the process has ended.
    pub fn is_exited(&self) -> bool {
        *self.exited.borrow()
    }

    /// Whether it is time to stop.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Waits until the process has ended.
    pub async fn exited(&self) {
        // Fails only when the sender is gone, and that is ours.
        let _ = self.exited.subscribe().wait_for(|exited| *exited).await;
    }

    /// Waits until it is time to stop.
    pub async fn stopped(&self) {
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Readable after each change, for a thread that polls.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Makes [`Life::wake`] unreadable until the next change.
    pub fn settle(&self) {
        let _ = read(&self.wake, &mut [0; 8]);
    }

    fn rouse(&self) {
        // Fails only when the counter is full, and then it is readable.
        let _ = write(&self.wake, &1_u64.to_ne_bytes());
    }
}
