//! Small things about descriptors: eventfd(2), memfd_create(2), duplicates above a number, reading to the end.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::checked;

/// A duplicate with a number of at least `lowest`, close-on-exec.
pub fn duplicate_above(fd: BorrowedFd<'_>, lowest: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: only numbers are passed; `fd` is open.
    let copy =
        checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) }.into())?;
    // SAFETY: the kernel just returned this descriptor to us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}

/// A duplicate of the descriptor numbered `number` that this process was executed with. `EBADF` if it is not open, or
/// is one that was opened since: those close at execve (I7).
pub fn duplicate_of_inherited(number: RawFd, lowest: RawFd) -> nix::Result<OwnedFd> {
    if !is_inherited(number) {
        return Err(Errno::EBADF);
    }
    // SAFETY: only numbers are passed; a number that is not open gives EBADF.
    let copy = checked(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, lowest) }.into())?;
    // SAFETY: the kernel just returned this descriptor to us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}

/// Whether this process was executed with a descriptor of this number, and has it still.
#[must_use]
pub fn is_inherited(number: RawFd) -> bool {
    // SAFETY: only numbers are passed; a number that is not open gives EBADF.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// An eventfd, non-blocking, close-on-exec.
pub fn eventfd() -> nix::Result<OwnedFd> {
    // SAFETY: only numbers are passed.
    let fd = checked(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }.into())?;
    // SAFETY: the kernel just returned this descriptor to us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// An anonymous file in memory, close-on-exec.
pub fn memfd(name: &CStr) -> nix::Result<OwnedFd> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let fd = checked(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) }.into())?;
    // SAFETY: the kernel just returned this descriptor to us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A descriptor that this process was started with, taken into ownership: the listener that
/// `start` left at a fixed number.
///
/// The caller must be the only one that takes `number`, once, before anything else is opened; a
/// number that is not open gives `EBADF`.
pub fn adopt(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: only numbers are passed.
    checked(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: the descriptor is open, and by this function's contract nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes ownership of a descriptor that recvmsg just delivered as SCM_RIGHTS.
pub(crate) fn received(number: RawFd) -> OwnedFd {
    // SAFETY: the kernel just installed this descriptor for us; the control message is its only mention.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Appends all of a file from where it stands to its end.
pub fn read_all(file: impl AsFd, content: &mut Vec<u8>) -> nix::Result<()> {
    let mut buffer = [0u8; 16 << 10];
    loop {
        match nix::unistd::read(&file, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => content.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
