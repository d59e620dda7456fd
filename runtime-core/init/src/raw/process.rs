//! Calls on the process itself: its limits, schedule, birth and end.

use core::ffi::{CStr, c_char};
use core::ptr::from_ref;
use core::sync::atomic::AtomicI32;

use super::{Outcome, call1, call2, call3, call4, text, word};

/// Ends the process. Never returns: where a filter forbids the call, by an illegal instruction, as nothing else is left.
pub fn exit(code: i32) -> ! {
    // SAFETY: numbers only.
    let _ = unsafe { call1(libc::SYS_exit_group, word(code)) };
    // SAFETY: an instruction of which the kernel makes SIGILL; it touches nothing.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("ud2", options(noreturn, nostack))
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("udf #0", options(noreturn, nostack))
    }
}

/// `execve(2)`; returns only the failure.
pub fn execve(
    path: &CStr,
    argv: &[*const c_char],
    env: &[*const c_char],
) -> Outcome<core::convert::Infallible> {
    if !ends_with_null(argv) || !ends_with_null(env) {
        return Err(super::Failed::check(libc::EFAULT));
    }
    // SAFETY: `path` is NUL-terminated; both arrays end with a null pointer (checked) and their other
    //         entries point to NUL-terminated texts of the arena (`TextList`'s promise); the kernel
    //         only reads them, and a bad pointer is EFAULT.
    let result = unsafe {
        call3(
            libc::SYS_execve,
            text(path),
            argv.as_ptr().expose_provenance(),
            env.as_ptr().expose_provenance(),
        )
    };
    match result {
        Err(failed) => Err(failed),
        Ok(_) => Err(super::Failed::check(libc::EIO)),
    }
}

fn ends_with_null(list: &[*const c_char]) -> bool {
    list.last().is_some_and(|last| last.is_null())
}

/// CLOCK_MONOTONIC in nanoseconds; 0 if it can't be had.
pub fn monotonic_ns() -> u64 {
    let mut now: [u64; 2] = [0, 0];
    let at = (&raw mut now).expose_provenance();
    // SAFETY: `now` is one `struct timespec`, two 64-bit words, which the kernel fills.
    match unsafe { call2(libc::SYS_clock_gettime, word(libc::CLOCK_MONOTONIC), at) } {
        Ok(_) => {
            let [seconds, nanos] = now;
            seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos)
        }
        Err(_) => 0,
    }
}

/// Sleeps for a millisecond, or less if a signal comes.
pub fn nap() {
    let request: [u64; 2] = [0, 1_000_000];
    // SAFETY: `request` is one `struct timespec`, which the kernel reads; the remainder is not asked.
    let _ = unsafe {
        call2(
            libc::SYS_nanosleep,
            from_ref(&request).expose_provenance(),
            0,
        )
    };
}

/// `kill(getpid(), signal)`.
pub fn signal_self(signal: i32) {
    // SAFETY: numbers only.
    let Ok(pid) = (unsafe { call1(libc::SYS_getpid, 0) }) else {
        return;
    };
    // SAFETY: numbers only.
    let _ = unsafe { call2(libc::SYS_kill, pid, word(signal)) };
}

/// `prlimit64(0, resource, limit)`.
pub fn setrlimit(resource: u32, soft: u64, hard: u64) -> Outcome<()> {
    let limit: [u64; 2] = [soft, hard];
    let at = from_ref(&limit).expose_provenance();
    // SAFETY: `limit` is one `struct rlimit64`, which the kernel reads; the old one is not asked for.
    unsafe { call4(libc::SYS_prlimit64, 0, resource as usize, at, 0) }.map(drop)
}

/// `umask(2)`.
pub fn umask(mask: u32) {
    // SAFETY: numbers only.
    let _ = unsafe { call1(libc::SYS_umask, mask as usize) };
}

/// `personality(2)`.
pub fn personality(persona: u64) -> Outcome<()> {
    // SAFETY: numbers only.
    unsafe { call1(libc::SYS_personality, persona as usize) }.map(drop)
}

/// `setpriority(PRIO_PROCESS, 0, nice)`.
pub fn setpriority(nice: i32) -> Outcome<()> {
    // SAFETY: numbers only.
    unsafe { call3(libc::SYS_setpriority, 0, 0, word(nice)) }.map(drop)
}

/// Nice value of this process.
pub fn getpriority() -> Outcome<i32> {
    // SAFETY: numbers only.
    let raw = unsafe { call2(libc::SYS_getpriority, 0, 0) }?;
    // The system call answers 20 - nice, so that no answer looks like an errno.
    Ok(20i32.wrapping_sub(i32::try_from(raw).unwrap_or(20)))
}

/// `ioprio_set(IOPRIO_WHO_PROCESS, 0, value)`.
pub fn ioprio_set(value: u32) -> Outcome<()> {
    // SAFETY: numbers only; 1 is IOPRIO_WHO_PROCESS.
    unsafe { call3(libc::SYS_ioprio_set, 1, 0, value as usize) }.map(drop)
}

/// `struct sched_attr`, first version (48 bytes).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names are the kernel's")]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// `sched_setattr(0, attr, 0)`.
pub fn sched_setattr(attr: &SchedAttr) -> Outcome<()> {
    // SAFETY: `attr` is a whole struct whose `size` field the kernel honours; it is only read.
    unsafe {
        call3(
            libc::SYS_sched_setattr,
            0,
            from_ref(attr).expose_provenance(),
            0,
        )
    }
    .map(drop)
}

/// `sched_setaffinity(0, mask)`.
pub fn sched_setaffinity(mask: &[u64]) -> Outcome<()> {
    // SAFETY: the kernel reads as many bytes as the slice has.
    unsafe {
        call3(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(mask),
            mask.as_ptr().expose_provenance(),
        )
    }
    .map(drop)
}

/// `set_mempolicy(mode, nodes)`.
pub fn set_mempolicy(mode: u32, nodes: &[u64]) -> Outcome<()> {
    // The kernel takes one off the number of bits that it is told.
    let (at, bits) = match nodes.len() {
        0 => (0, 0),
        words => (
            nodes.as_ptr().expose_provenance(),
            words.saturating_mul(64).saturating_add(1),
        ),
    };
    // SAFETY: the kernel reads `bits - 1` bits, which is the whole slice.
    unsafe { call3(libc::SYS_set_mempolicy, mode as usize, at, bits) }.map(drop)
}

/// `setsid(2)`.
pub fn setsid() -> Outcome<()> {
    // SAFETY: no arguments.
    unsafe { call1(libc::SYS_setsid, 0) }.map(drop)
}

/// What [`clone_sibling`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The caller.
    Old,
    /// The new process.
    New,
}

/// `clone3(CLONE_PARENT | CLONE_PARENT_SETTID)`: a copy of this process whose parent is this one's
/// parent; its pid, as this process sees it, is in `pid` before it runs.
pub fn clone_sibling(pid: &AtomicI32) -> Outcome<Side> {
    let flags = libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID;
    // `struct clone_args` as CLONE_ARGS_SIZE_VER0: flags, pidfd, child_tid, parent_tid, exit_signal,
    // stack, stack_size, tls. With CLONE_PARENT the exit signal is inherited and must be 0 here.
    let parent_tid = pid.as_ptr().expose_provenance() as u64;
    let args: [u64; 8] = [
        u64::from(flags.cast_unsigned()),
        0,
        0,
        parent_tid,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: without CLONE_VM the new process runs on its own copy of this stack, so returning twice
    //         is sound; `args` is a whole version 0 struct; `pid` lies in a shared mapping that lives as
    //         long as the page, and an atomic may be written behind a shared reference.
    let made = unsafe {
        call2(
            libc::SYS_clone3,
            from_ref(&args).expose_provenance(),
            size_of_val(&args),
        )
    }?;
    Ok(if made == 0 { Side::New } else { Side::Old })
}
