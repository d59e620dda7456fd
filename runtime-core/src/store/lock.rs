//! The lock of a container: taken with flock(2), left when it is dropped.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits until nobody else has `file` locked.
    pub fn take(file: OwnedFd) -> nix::Result<Self> {
        let lock = Self(File::from(file));
        loop {
            match lock.0.lock() {
                Ok(()) => return Ok(lock),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
                }
            }
        }
    }
}

impl Drop for Lock {
    /// Not by closing alone: a process being born has a copy of the descriptor until its execve. Should it fail, the
    /// end of the last copy unlocks all the same.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
