//! Calls on the process itself: its ids, capabilities, signals, limits, birth and end.

use core::ffi::{CStr, c_char};
use core::mem::{size_of, zeroed};
use core::ptr::from_ref;
use core::sync::atomic::AtomicI32;

use super::{Outcome, call1, call2, call3, call4, call6, text, word};
use crate::step::FilterLine;

/// Ends the process. Never returns.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: numbers only.
        let _ = unsafe { call1(libc::SYS_exit_group, word(code)) };
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

/// `prctl(2)` of an operation that takes numbers only.
pub fn prctl(operation: PrctlNumber, args: [u64; 4]) -> Outcome<usize> {
    let [b, c, d, e] = args.map(|arg| arg as usize);
    // SAFETY: the operations of `PrctlNumber` take numbers, so no memory is touched.
    unsafe { call6(libc::SYS_prctl, [word(operation as i32), b, c, d, e, 0]) }
}

/// Operations of prctl whose arguments are numbers.
#[allow(missing_docs, reason = "the names are the kernel's")]
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub enum PrctlNumber {
    SetDumpable = libc::PR_SET_DUMPABLE,
    GetDumpable = libc::PR_GET_DUMPABLE,
    SetKeepCaps = libc::PR_SET_KEEPCAPS,
    BoundingRead = libc::PR_CAPBSET_READ,
    BoundingDrop = libc::PR_CAPBSET_DROP,
    Ambient = libc::PR_CAP_AMBIENT,
    NoNewPrivileges = libc::PR_SET_NO_NEW_PRIVS,
    GetSecurebits = libc::PR_GET_SECUREBITS,
    SetSecurebits = libc::PR_SET_SECUREBITS,
    SetTimerslack = libc::PR_SET_TIMERSLACK,
    SetThpDisable = libc::PR_SET_THP_DISABLE,
    SetSeccomp = libc::PR_SET_SECCOMP,
}

/// `setresuid(2)` of all three ids.
pub fn setresuid(uid: u32) -> Outcome<()> {
    let uid = uid as usize;
    // SAFETY: numbers only.
    unsafe { call3(libc::SYS_setresuid, uid, uid, uid) }.map(drop)
}

/// `setresgid(2)` of all three ids.
pub fn setresgid(gid: u32) -> Outcome<()> {
    let gid = gid as usize;
    // SAFETY: numbers only.
    unsafe { call3(libc::SYS_setresgid, gid, gid, gid) }.map(drop)
}

/// `setgroups(2)`.
pub fn setgroups(groups: &[u32]) -> Outcome<()> {
    // SAFETY: the kernel reads as many 32-bit ids as it is told, from a slice that outlives the call.
    unsafe {
        call2(
            libc::SYS_setgroups,
            groups.len(),
            groups.as_ptr().expose_provenance(),
        )
    }
    .map(drop)
}

/// Capability sets of this thread, as [effective, permitted, inheritable].
pub fn capget() -> Outcome<[u64; 3]> {
    let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    let mut sets = [0u32; 6];
    let at = (&raw mut sets).expose_provenance();
    // SAFETY: `header` is one `__user_cap_header_struct`; `sets` has room for the two
    //         `__user_cap_data_struct` of version 3, which the kernel fills.
    unsafe { call2(libc::SYS_capget, from_ref(&header).expose_provenance(), at) }?;
    let [e0, p0, i0, e1, p1, i1] = sets.map(u64::from);
    Ok([e0 | (e1 << 32), p0 | (p1 << 32), i0 | (i1 << 32)])
}

/// Sets the capability sets of this thread, given as [effective, permitted, inheritable].
#[allow(
    clippy::cast_possible_truncation,
    reason = "each half is cut out on purpose"
)]
pub fn capset(sets: [u64; 3]) -> Outcome<()> {
    let [e, p, i] = sets;
    let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    let sets: [u32; 6] = [
        e as u32,
        p as u32,
        i as u32,
        (e >> 32) as u32,
        (p >> 32) as u32,
        (i >> 32) as u32,
    ];
    // SAFETY: `header` and `sets` are what version 3 wants (one header, two data structs); the kernel
    //         only reads them and they outlive the call.
    unsafe {
        call2(
            libc::SYS_capset,
            from_ref(&header).expose_provenance(),
            from_ref(&sets).expose_provenance(),
        )
    }
    .map(drop)
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// `seccomp(SECCOMP_SET_MODE_FILTER, flags, filter)`: with NEW_LISTENER the number of the listener.
pub fn seccomp_filter(filter: &[FilterLine], flags: u64) -> Outcome<usize> {
    #[repr(C)]
    struct Program {
        len: u16,
        lines: *const FilterLine,
    }
    let Ok(len) = u16::try_from(filter.len()) else {
        return Err(super::Failed::check(libc::E2BIG));
    };
    let program = Program {
        len,
        lines: filter.as_ptr(),
    };
    let at = (&raw const program).expose_provenance();
    let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
    // SAFETY: `program` is a `struct sock_fprog` over `len` lines, each laid out as `sock_filter`
    //         (`FilterLine` is repr(C)); the kernel copies them before it returns.
    unsafe { call3(libc::SYS_seccomp, mode, flags as usize, at) }
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

/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING, name)`: the keyring's serial.
pub fn join_session_keyring(name: &CStr) -> Outcome<usize> {
    let operation = libc::KEYCTL_JOIN_SESSION_KEYRING as usize;
    // SAFETY: `name` is NUL-terminated and outlives the call, which only reads it.
    unsafe { call2(libc::SYS_keyctl, operation, text(name)) }
}

/// `keyctl(KEYCTL_DESCRIBE)`: how long the description is; what fits is in `buffer`, with its NUL.
pub fn describe_key(key: usize, buffer: &mut [u8]) -> Outcome<usize> {
    let operation = libc::KEYCTL_DESCRIBE as usize;
    let (at, len) = (buffer.as_mut_ptr().expose_provenance(), buffer.len());
    // SAFETY: the kernel writes at most `len` bytes into `buffer`, borrowed for writing.
    unsafe { call4(libc::SYS_keyctl, operation, key, at, len) }
}

/// `keyctl(KEYCTL_SETPERM)`.
pub fn set_key_permissions(key: usize, permissions: u32) -> Outcome<()> {
    let operation = libc::KEYCTL_SETPERM as usize;
    // SAFETY: numbers only.
    unsafe { call3(libc::SYS_keyctl, operation, key, permissions as usize) }.map(drop)
}

/// `sendto` of `bytes` on a connected socket, without SIGPIPE.
pub fn send(socket: i32, bytes: &[u8]) -> Outcome<()> {
    loop {
        let (at, flags) = (bytes.as_ptr().expose_provenance(), word(libc::MSG_NOSIGNAL));
        // SAFETY: the kernel reads `bytes`, which outlive the call; there is no address.
        let sent = unsafe {
            call6(
                libc::SYS_sendto,
                [word(socket), at, bytes.len(), flags, 0, 0],
            )
        };
        match sent {
            Err(failed) if failed.errno == libc::EINTR => {}
            other => return other.map(drop),
        }
    }
}

/// `sendmsg` of one byte that carries the descriptor `passenger`.
pub fn send_with_fd(socket: i32, byte: u8, passenger: i32) -> Outcome<()> {
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        fd: i32,
        padding: i32,
    }
    // SAFETY: all bytes zero is a valid value of both (null pointers, zero lengths).
    let (mut message, mut control): (libc::msghdr, Control) = unsafe { (zeroed(), zeroed()) };
    control.header.cmsg_level = libc::SOL_SOCKET;
    control.header.cmsg_type = libc::SCM_RIGHTS;
    #[allow(
        clippy::useless_conversion,
        reason = "the field's type differs between C libraries"
    )]
    {
        // CMSG_LEN: the header and one int, without the padding.
        control.header.cmsg_len = size_of::<libc::cmsghdr>()
            .wrapping_add(size_of::<i32>())
            .try_into()
            .unwrap_or(0);
        message.msg_controllen = size_of::<Control>().try_into().unwrap_or(0);
    }
    control.fd = passenger;
    let payload = byte;
    let mut vector = libc::iovec {
        iov_base: (&raw const payload).cast_mut().cast(),
        iov_len: 1,
    };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    loop {
        let at = (&raw const message).expose_provenance();
        // SAFETY: `message` points to one vector over one readable byte and to one whole control
        //         message; all outlive the call, and the kernel only reads them.
        let sent = unsafe {
            call3(
                libc::SYS_sendmsg,
                word(socket),
                at,
                word(libc::MSG_NOSIGNAL),
            )
        };
        match sent {
            Err(failed) if failed.errno == libc::EINTR => {}
            other => return other.map(drop),
        }
    }
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

/// Number of signals.
pub const SIGNALS: i32 = 64;

/// `struct sigaction` as the kernel has it.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// `SIG_DFL` for `signal`.
pub fn default_action(signal: i32) -> Outcome<()> {
    let action = KernelAction {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    set_action(signal, &action)
}

/// A handler for `signal` that ends the process with `128 + signal`; for a fault of our own (a bad
/// address, a bad instruction) it lets the instruction fault again with the default action.
pub fn exit_action(signal: i32) -> Outcome<()> {
    let action = KernelAction {
        handler: (on_signal as extern "C" fn(i32, *const libc::siginfo_t, usize)) as *const ()
            as usize,
        flags: SA_RESTORER | u64::from(libc::SA_SIGINFO.cast_unsigned()),
        restorer: restorer_address(),
        mask: 0,
    };
    set_action(signal, &action)
}

fn set_action(signal: i32, action: &KernelAction) -> Outcome<()> {
    let at = from_ref(action).expose_provenance();
    // SAFETY: `action` is laid out as the kernel's struct and only read; the signal set has 8 bytes, as
    //         told; the handler is async-signal-safe and the restorer is the kernel's own return.
    unsafe { call4(libc::SYS_rt_sigaction, word(signal), at, 0, 8) }.map(drop)
}

/// Unblocks every signal.
pub fn unblock_signals() -> Outcome<()> {
    let none: u64 = 0;
    let at = from_ref(&none).expose_provenance();
    // SAFETY: one signal set of 8 bytes is read; the old one is not asked for.
    unsafe { call4(libc::SYS_rt_sigprocmask, word(libc::SIG_SETMASK), at, 0, 8) }.map(drop)
}

extern "C" fn on_signal(signal: i32, detail: *const libc::siginfo_t, _context: usize) {
    let fault = matches!(
        signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP
    );
    // SAFETY: with SA_SIGINFO the kernel passes a whole siginfo on this stack.
    if fault && unsafe { (*detail).si_code } > 0 && default_action(signal).is_ok() {
        return;
    }
    exit(128i32.wrapping_add(signal))
}

#[cfg(target_arch = "x86_64")]
const SA_RESTORER: u64 = 0x0400_0000;
#[cfg(not(target_arch = "x86_64"))]
const SA_RESTORER: u64 = 0;

#[cfg(target_arch = "x86_64")]
fn restorer_address() -> usize {
    restorer as *const () as usize
}

/// aarch64 returns from a signal through the vDSO.
#[cfg(not(target_arch = "x86_64"))]
fn restorer_address() -> usize {
    0
}

/// Where a handler returns to on x86_64: `rt_sigreturn` with the frame just as the kernel made it.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn restorer() {
    core::arch::naked_asm!("mov eax, {number}", "syscall", number = const libc::SYS_rt_sigreturn)
}
