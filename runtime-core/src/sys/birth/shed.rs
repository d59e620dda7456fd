//! What a launch thread gives up before it clones, on itself alone.

use std::os::fd::RawFd;

use nix::errno::Errno;

use super::clone::clone3;
use super::thread::Post;
use super::{Birth, Stillborn, named};
use crate::sys::raw::{ask, word};

/// Returns when there is a child and the thread has been released.
pub(super) fn on_thread(birth: &Birth<'_>, post: &Post) -> Result<(), Stillborn> {
    unshare(libc::CLONE_FS as u64).map_err(named("unshare(CLONE_FS)"))?;
    close_others(&birth.keep).map_err(named("close_range"))?;
    occupy_streams(birth).map_err(named("dup3"))?;
    for (fd, flags) in &birth.joins {
        // SAFETY: only numbers are passed; the namespaces of this thread alone change.
        unsafe { ask(libc::SYS_setns, [word(*fd), *flags as usize, 0, 0, 0, 0]) }
            .map_err(named("setns"))?;
    }
    if let Some(root) = birth.root {
        // SAFETY: only numbers and a NUL-terminated text are passed; CLONE_FS is unshared.
        unsafe {
            ask(libc::SYS_fchdir, [word(root), 0, 0, 0, 0, 0]).map_err(named("fchdir"))?;
            ask(libc::SYS_chroot, [c".".as_ptr().addr(), 0, 0, 0, 0, 0])
                .map_err(named("chroot"))?;
        }
    }
    if let Some(cpus) = birth.affinity {
        let setting = [0, size_of_val(cpus), cpus.as_ptr().addr(), 0, 0, 0];
        // SAFETY: the mask has this size and outlives the call; thread 0 is this one alone.
        unsafe { ask(libc::SYS_sched_setaffinity, setting) }.map_err(named("sched_setaffinity"))?;
    }
    if let Some(mask) = birth.keep_capabilities {
        restrict_capabilities(mask).map_err(named("capset"))?;
    }
    clone3(birth, post).map_err(named("clone3"))
}

/// New namespaces, or with CLONE_FS a root and working directory, for this thread alone.
pub(super) fn unshare(flags: u64) -> nix::Result<()> {
    // SAFETY: only flags are passed.
    unsafe { ask(libc::SYS_unshare, [flags as usize, 0, 0, 0, 0, 0]) }.map(drop)
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
    // A seccomp profile may know nothing of it, and what follows can't be taken back.
    let answers = |first| {
        let process = open_process()?;
        let found = fetch(process, first);
        close(process);
        found.map(close)
    };
    match keep.first() {
        // It would be in the way of the first descriptor of the new table.
        Some(first) if *first > 0 && answers(*first).is_ok() => {}
        _ => return Ok(false),
    }
    close_range(0, u32::MAX, true)?;
    let process = open_process()?;
    for number in keep {
        let fetched = fetch(process, *number)?;
        if fetched != *number {
            // Nothing is at `number` yet: those that are fetched get the lowest that are free, and `keep` ascends.
            duplicate(fetched, *number)?;
            close(fetched);
        }
    }
    close(process);
    Ok(true)
}

/// A pidfd of this process.
fn open_process() -> nix::Result<RawFd> {
    // SAFETY: nothing is passed.
    let pid = unsafe { ask(libc::SYS_getpid, [0; 6]) }?;
    // SAFETY: only numbers are passed.
    descriptor(unsafe { ask(libc::SYS_pidfd_open, [pid, 0, 0, 0, 0, 0]) })
}

/// A duplicate of what `process` has as `number`, close-on-exec.
fn fetch(process: RawFd, number: RawFd) -> nix::Result<RawFd> {
    let fetching = [word(process), word(number), 0, 0, 0, 0];
    // SAFETY: only numbers are passed.
    descriptor(unsafe { ask(libc::SYS_pidfd_getfd, fetching) })
}

fn descriptor(answer: nix::Result<usize>) -> nix::Result<RawFd> {
    RawFd::try_from(answer?).map_err(|_| Errno::EBADF)
}

/// Of one that was opened on this thread, for itself.
fn close(number: RawFd) {
    // SAFETY: only a number is passed, of this thread's own.
    let _ = unsafe { ask(libc::SYS_close, [word(number), 0, 0, 0, 0, 0]) };
}

/// In the table that is this thread's own.
fn duplicate(number: RawFd, onto: RawFd) -> nix::Result<()> {
    let duplicating = [word(number), word(onto), word(libc::O_CLOEXEC), 0, 0, 0];
    // SAFETY: only numbers are passed; `onto` is closed in this thread's table.
    unsafe { ask(libc::SYS_dup3, duplicating) }.map(drop)
}

fn close_range(first: u32, last: u32, unshared: bool) -> nix::Result<()> {
    let flags = if unshared {
        libc::CLOSE_RANGE_UNSHARE as usize
    } else {
        0
    };
    let closing = [first as usize, last as usize, flags, 0, 0, 0];
    // SAFETY: only numbers are passed; with the flag, or after a call that had it, the table is this thread's own, and
    // the descriptors closed in it stay open in the process's.
    unsafe { ask(libc::SYS_close_range, closing) }.map(drop)
}

/// 0, 1 and 2 must not be the numbers of what the child opens for itself: its streams go there later.
/// Until then they are copies of the wake socket, which it has anyway.
fn occupy_streams(birth: &Birth<'_>) -> nix::Result<()> {
    (0..3)
        .filter(|number| !birth.keep.contains(number))
        .try_for_each(|number| duplicate(birth.frozen.wake, number))
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
    let both = [
        (&raw mut header).expose_provenance(),
        data.as_mut_ptr().expose_provenance(),
        0,
        0,
        0,
        0,
    ];
    // SAFETY: header and data have the layout of version 3 and outlive the call; they are of this thread alone.
    unsafe { ask(libc::SYS_capget, both) }?;
    for (half, mask) in data.iter_mut().zip([mask as u32, (mask >> 32) as u32]) {
        half.permitted &= mask;
        half.effective = half.permitted;
        half.inheritable = 0;
    }
    let both = [
        (&raw mut header).expose_provenance(),
        data.as_mut_ptr().expose_provenance(),
        0,
        0,
        0,
        0,
    ];
    // SAFETY: as above; raw capset changes this thread alone.
    unsafe { ask(libc::SYS_capset, both) }.map(drop)
}
