//! Calls that say who the process is and what it may do: ids, capabilities, filters, keys.

use core::ffi::CStr;
use core::ptr::from_ref;

use super::{Outcome, call2, call3, call4, call6, text, word};
use crate::step::FilterLine;

/// `prctl(2)` of an operation that takes numbers only.
pub fn prctl(operation: PrctlNumber, args: [u64; 4]) -> Outcome<usize> {
    let [b, c, d, e] = args.map(|arg| arg as usize);
    // SAFETY: the operations of `PrctlNumber` take numbers, so no memory is touched.
    unsafe { call6(libc::SYS_prctl, [word(operation as i32), b, c, d, e, 0]) }
}

/// `prctl(PR_SET_NAME)`: what ps(1) shows until execve; the kernel takes 15 bytes.
pub fn set_name(name: &CStr) -> Outcome<()> {
    let (operation, name) = (word(libc::PR_SET_NAME), name.as_ptr() as usize);
    // SAFETY: the pointer is to a NUL-terminated text, which the kernel reads up to its NUL.
    unsafe { call6(libc::SYS_prctl, [operation, name, 0, 0, 0, 0]) }.map(drop)
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
