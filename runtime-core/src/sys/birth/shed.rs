//! What a launch thread gives up before it clones, on itself alone.

use std::os::fd::{AsFd, AsRawFd, IntoRawFd, RawFd};

use super::clone::clone3;
use super::{Birth, Stillborn, Told, named};
use crate::sys::checked;
use crate::sys::pidfd::{pidfd_getfd, pidfd_open};

/// Returns when there is a child and the thread has been released.
pub(super) fn on_thread(birth: &Birth<'_>, told: &Told) -> Result<(), Stillborn> {
    unshare(libc::CLONE_FS as u64).map_err(named("unshare(CLONE_FS)"))?;
    close_others(&birth.keep).map_err(named("close_range"))?;
    occupy_streams(birth).map_err(named("dup3"))?;
    for (fd, flags) in &birth.joins {
        // SAFETY: only numbers are passed; the namespaces of this thread alone change.
        checked(unsafe { libc::syscall(libc::SYS_setns, *fd, *flags) }).map_err(named("setns"))?;
    }
    if let Some(root) = birth.root {
        // SAFETY: only numbers and a NUL-terminated text are passed; CLONE_FS is unshared.
        unsafe {
            checked(libc::fchdir(root).into()).map_err(named("fchdir"))?;
            checked(libc::chroot(c".".as_ptr()).into()).map_err(named("chroot"))?;
        }
    }
    if let Some(cpus) = birth.affinity {
        let size = size_of_val(cpus);
        // SAFETY: the mask has `size` bytes and outlives the call; thread 0 is this one alone.
        checked(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, cpus.as_ptr()) })
            .map_err(named("sched_setaffinity"))?;
    }
    if let Some(mask) = birth.keep_capabilities {
        restrict_capabilities(mask).map_err(named("capset"))?;
    }
    clone3(birth, told).map_err(named("clone3"))
}

/// New namespaces, or with CLONE_FS a root and working directory, for this thread alone.
pub(super) fn unshare(flags: u64) -> nix::Result<()> {
    // SAFETY: only flags are passed.
    checked(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

/// The child must not run a handler of ours before it has reset them: all signals wait.
pub(super) fn block_signals() -> nix::Result<()> {
    let every = u64::MAX;
    // SAFETY: `every` is a kernel sigset of 8 bytes that outlives the call; only this thread's mask changes.
    checked(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const every,
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    })
    .map(drop)
}

/// A descriptor table of the thread's own that holds `keep` only.
fn close_others(keep: &[RawFd]) -> nix::Result<()> {
    let highest = keep.last().map_or(0, |fd| fd.unsigned_abs());
    if highest as usize > keep.len().saturating_add(FEW) && fetch_kept(keep)? {
        return Ok(());
    }
    // This call unshares, and copies nothing above the last one that is kept.
    close_range(highest.saturating_add(1), u32::MAX, true)?;
    let mut next = 0;
    for fd in keep {
        let fd = fd.unsigned_abs();
        if fd > next {
            close_range(next, fd - 1, false)?;
        }
        next = fd.saturating_add(1);
    }
    Ok(())
}

/// So many descriptors are copied and closed again as quickly as those of a launch are fetched.
const FEW: usize = 64;

/// The same where thousands are open, as in the shim of a large pod: they are not copied, those that are kept are fetched
/// from the process into an empty table. Says whether it could be.
fn fetch_kept(keep: &[RawFd]) -> nix::Result<bool> {
    let pid = nix::unistd::getpid().as_raw();
    // A seccomp profile may know nothing of it, and what follows can't be taken back.
    let answers = |first| pidfd_open(pid).and_then(|process| pidfd_getfd(process.as_fd(), first));
    match keep.first() {
        // It would be in the way of the first descriptor of the new table.
        Some(first) if *first > 0 && answers(*first).is_ok() => {}
        _ => return Ok(false),
    }
    close_range(0, u32::MAX, true)?;
    let process = pidfd_open(pid)?;
    for number in keep {
        let fetched = pidfd_getfd(process.as_fd(), *number)?;
        if fetched.as_raw_fd() == *number {
            let _kept = fetched.into_raw_fd();
        } else {
            // SAFETY: only numbers are passed; the table is this thread's own, and nothing is at `number` yet: those
            // that are fetched get the lowest that are free, and `keep` ascends.
            checked(unsafe { libc::dup3(fetched.as_raw_fd(), *number, libc::O_CLOEXEC) }.into())?;
        }
    }
    Ok(true)
}

fn close_range(first: u32, last: u32, unshared: bool) -> nix::Result<()> {
    let flags = if unshared {
        libc::CLOSE_RANGE_UNSHARE
    } else {
        0
    };
    // SAFETY: only numbers are passed; with the flag, or after a call that had it, the table is this thread's own, and
    // the descriptors closed in it stay open in the process's.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// 0, 1 and 2 must not be the numbers of what the child opens for itself: its streams go there later.
/// Until then they are copies of the wake socket, which it has anyway.
fn occupy_streams(birth: &Birth<'_>) -> nix::Result<()> {
    for number in (0..3).filter(|number| !birth.keep.contains(number)) {
        // SAFETY: only numbers are passed; the table is this thread's own, and `number` is closed in it.
        checked(unsafe { libc::dup3(birth.frozen.wake, number, libc::O_CLOEXEC) }.into())?;
    }
    Ok(())
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapSets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Effective and permitted of this thread := what it has of `mask`; inheritable := none.
fn restrict_capabilities(mask: u64) -> nix::Result<()> {
    let mut header = CapHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut data = [CapSets::default(); 2];
    // SAFETY: header and data have the layout of version 3 and outlive the calls; raw capset changes
    // this thread alone.
    unsafe {
        checked(libc::syscall(
            libc::SYS_capget,
            &raw mut header,
            data.as_mut_ptr(),
        ))?;
        for (half, mask) in data.iter_mut().zip([mask as u32, (mask >> 32) as u32]) {
            half.permitted &= mask;
            half.effective = half.permitted;
            half.inheritable = 0;
        }
        checked(libc::syscall(
            libc::SYS_capset,
            &raw mut header,
            data.as_ptr(),
        ))
        .map(drop)
    }
}
