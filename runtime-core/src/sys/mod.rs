//! System calls: the only module of the core with `unsafe`. Everything outside is safe Rust.
//!
//! Functions are named after their system call and return the bare errno; the caller adds what
//! was being done (`.with(|| ..)`), in the words in which strace would print the call.
#![allow(
    unsafe_code,
    reason = "system calls that nix does not wrap; each block has a SAFETY note"
)]
#![allow(
    clippy::disallowed_types,
    reason = "I7: here a number becomes somebody's, and is lent to the kernel"
)]

pub mod arena;
pub mod birth;
pub mod bpf;
pub mod code;
pub mod directory;
#[cfg(target_arch = "x86_64")]
mod early;
#[cfg(target_arch = "x86_64")]
mod exchange;
pub mod exe;
pub mod fds;
pub mod heap;
pub mod loop_device;
pub mod mount;
pub mod pidfd;
pub mod procfs;
pub mod program;
mod raw;
pub mod spawn;
pub mod terminal;

use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};

/// The result of a raw system call.
pub(crate) fn checked(result: libc::c_long) -> nix::Result<libc::c_long> {
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(result)
    }
}

/// The process's own limits of `resource`, (soft, hard).
pub fn rlimit(resource: u32) -> nix::Result<(u64, u64)> {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `old` is a valid rlimit that outlives the call; pid 0 is this process; no new limit.
    checked(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            std::ptr::null::<libc::rlimit>(),
            &raw mut old,
        )
    })?;
    Ok((old.rlim_cur, old.rlim_max))
}

/// Whether this thread may have the capability of this number; EINVAL for one that the kernel does not know.
pub fn is_in_bounding_set(capability: u32) -> nix::Result<bool> {
    // SAFETY: only numbers are passed.
    checked(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_CAPBSET_READ, capability, 0, 0, 0) })
        .map(|has| has == 1)
}

/// `prlimit(2)` on another process: both limits of `resource`.
pub fn set_rlimit_of(pid: i32, resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let new = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `new` is a valid rlimit that outlives the call; the kernel copies it.
    checked(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            &raw const new,
            std::ptr::null_mut::<libc::rlimit>(),
        )
    })
    .map(drop)
}

/// The soft limit of open files that this process was started with, if it was raised since.
static STARTED_WITH: OnceLock<u64> = OnceLock::new();

/// Raises the process's own soft limit of open files to the hard one: for an edge, before it has threads. What the
/// core executes gets the limit back that this process was started with ([`open_files_before`]): programs that
/// use select(2), or close every number up to the limit, count on it.
pub fn raise_open_files() -> nix::Result<()> {
    let (soft, hard) = rlimit(libc::RLIMIT_NOFILE)?;
    #[allow(
        clippy::disallowed_methods,
        reason = "I4: for an edge, which says that its limit is its own"
    )]
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        let _ = STARTED_WITH.set(soft);
    }
    Ok(())
}

/// The soft limit of open files from before [`raise_open_files`], if that changed it.
#[must_use]
pub fn open_files_before() -> Option<u64> {
    STARTED_WITH.get().copied()
}

/// `prlimit(2)` read of another process, (soft, hard).
pub fn rlimit_of(pid: i32, resource: u32) -> nix::Result<(u64, u64)> {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `old` is a valid rlimit that outlives the call; no new limit is given.
    checked(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            std::ptr::null::<libc::rlimit>(),
            &raw mut old,
        )
    })?;
    Ok((old.rlim_cur, old.rlim_max))
}

/// The CLONE_NEW* flag of the namespace that `fd` refers to; `ENOTTY` if it is no namespace.
pub fn namespace_kind(fd: std::os::fd::BorrowedFd<'_>) -> nix::Result<u64> {
    use std::os::fd::AsRawFd;
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request takes no argument; `fd` is open.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) }.into()).map(|kind| kind as u64)
}
