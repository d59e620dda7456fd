//! Processes by descriptor: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2), waitid(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::checked;

/// `pidfd_open(pid)`; always close-on-exec.
pub fn pidfd_open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: only numbers are passed.
    let fd = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel just returned this descriptor to us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// `pidfd_send_signal(pidfd, signal)`; 0 only asks.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no siginfo is given; `pidfd` is open.
    checked(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            none,
            0,
        )
    })
    .map(drop)
}

/// `pidfd_getfd(pidfd, number)`: a duplicate of another process's descriptor.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: only numbers are passed; `pidfd` is open.
    let fd =
        checked(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })?;
    // SAFETY: the kernel just returned this descriptor to us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its pid.
    pub pid: i32,
    /// `CLD_EXITED`, `CLD_KILLED` or `CLD_DUMPED`.
    pub reason: i32,
    /// Exit code or signal.
    pub status: i32,
}

/// The next child that has ended, without reaping it; `None` when there is none.
pub fn peek_ended() -> nix::Result<Option<Ended>> {
    wait(
        libc::P_ALL,
        0,
        libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
    )
}

/// Whether the child `pid` has ended and waits to be reaped.
pub fn has_ended(pid: i32) -> bool {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    matches!(wait(libc::P_PID, pid as libc::id_t, options), Ok(Some(_)))
}

/// Reaps the child `pid`; `None` when it has not ended.
pub fn reap(pid: i32) -> nix::Result<Option<Ended>> {
    wait(
        libc::P_PID,
        pid as libc::id_t,
        libc::WEXITED | libc::WNOHANG,
    )
}

fn wait(kind: libc::idtype_t, id: libc::id_t, options: i32) -> nix::Result<Option<Ended>> {
    // SAFETY: all-zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` is a valid siginfo_t that outlives the call.
        match checked(unsafe { libc::waitid(kind, id, &raw mut info, options) }.into()) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
    // SAFETY: after waitid these members of the union are the valid ones; all zero when nobody ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid != 0).then_some(Ended {
        pid,
        reason: info.si_code,
        status,
    }))
}
