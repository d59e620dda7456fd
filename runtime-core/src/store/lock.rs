//! The locks of the state: taken with flock(2), left when they are dropped.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::process::Cancel;

/// Between two looks at a lock that another has.
const PAUSE: Duration = Duration::from_millis(2);

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits until nobody else has `file` locked, at most until `deadline`: `None` then. By looking again and again:
    /// a thread that sleeps in flock(2) can't be given up. Whoever finds it locked has time.
    pub fn take_until(
        file: OwnedFd,
        deadline: Option<Instant>,
        cancel: &Cancel,
    ) -> Result<Option<Self>> {
        let held = Self(File::from(file));
        loop {
            match held.0.try_lock() {
                Ok(()) => return Ok(Some(held)),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Interrupted => continue,
                Err(TryLockError::Error(e)) => {
                    return Err(Error::os(errno_of(&e), "flock()"));
                }
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(None);
            }
            cancel.pause(PAUSE)?;
        }
    }

    /// Waits until nobody has `file` to himself.
    pub fn share(file: OwnedFd) -> nix::Result<Self> {
        let held = Self(File::from(file));
        loop {
            match held.0.lock_shared() {
                Ok(()) => return Ok(held),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(errno_of(&e)),
            }
        }
    }

    /// Makes a shared lock an exclusive one, if nobody else has it.
    pub fn take_if_alone(&self) -> bool {
        self.0.try_lock().is_ok()
    }

    /// Makes it a shared one again.
    pub fn share_again(&self) -> std::result::Result<(), TryLockError> {
        self.0.try_lock_shared()
    }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
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
