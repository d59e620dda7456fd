//! The locks of the state: taken with flock(2), left when they are dropped.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits until nobody else has `file` locked.
    pub fn take(file: OwnedFd) -> nix::Result<Self> {
        Self::wait(file, File::lock)
    }

    /// Waits until nobody has `file` to himself.
    pub fn share(file: OwnedFd) -> nix::Result<Self> {
        Self::wait(file, File::lock_shared)
    }

    /// Makes a shared lock an exclusive one, if nobody else has it.
    pub fn take_if_alone(&self) -> bool {
        self.0.try_lock().is_ok()
    }

    /// Makes it a shared one again.
    pub fn share_again(&self) -> Result<(), TryLockError> {
        self.0.try_lock_shared()
    }

    fn wait(file: OwnedFd, lock: impl Fn(&File) -> io::Result<()>) -> nix::Result<Self> {
        let held = Self(File::from(file));
        loop {
            match lock(&held.0) {
                Ok(()) => return Ok(held),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
                }
            }
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Lock {
    /// Not by closing alone: a process being born has a copy of the descriptor until its execve. Should it fail, the
    /// end of the last copy unlocks all the same.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
