//! System calls, raw: the only unsafe code of the child.
//!
//! Each public function is one call with arguments that say what the kernel may touch: a `&CStr` is
//! NUL-terminated, a slice carries its length, a `&mut` is written whole. A failure is the errno and
//! the number of the call, which is all that the parent is told. Nothing here goes through the C
//! library, whose `errno`, cancellation points and credential broadcast need the threads that the
//! clone left behind.
#![allow(
    unsafe_code,
    reason = "this module and its children are where the child talks to the kernel"
)]

mod files;
mod identity;
mod messages;
mod mounts;
mod process;
mod signals;
mod xattrs;

pub use files::*;
pub use identity::*;
pub use messages::*;
pub use mounts::*;
pub use process::*;
pub use signals::*;
pub use xattrs::*;

use core::arch::asm;
use core::ffi::{CStr, c_long};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("rsrun-init knows the system call convention of x86_64 and aarch64 only");

/// Why a step failed: an errno and the call that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The errno, positive.
    pub errno: i32,
    /// Number of the call; `u32::MAX` where a check of our own said no.
    pub syscall: u32,
}

impl Failed {
    /// A refusal of our own.
    pub const fn check(errno: i32) -> Self {
        Self {
            errno,
            syscall: u32::MAX,
        }
    }
}

/// What a call or a step gives.
pub type Outcome<T> = Result<T, Failed>;

/// A descriptor that is ours to close.
#[derive(Debug)]
pub struct Fd(i32);

impl Fd {
    /// The number, for a call.
    pub const fn at(&self) -> i32 {
        self.0
    }

    /// A descriptor that a call just gave as a number.
    pub fn from_call(number: usize) -> Self {
        Self(i32::try_from(number).unwrap_or(-1))
    }

    /// One that came with the birth.
    const fn owning(number: i32) -> Self {
        Self(number)
    }

    /// Gives up closing it: the descriptor lives until execve closes it.
    pub const fn keep(self) -> i32 {
        let number = self.0;
        core::mem::forget(self);
        number
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: close takes a number and touches no memory; the number is ours, nobody else uses it.
        let _ = unsafe { call1(libc::SYS_close, word(self.0)) };
    }
}

/// An integer argument as the kernel wants it: sign-extended.
#[allow(clippy::cast_sign_loss, reason = "a register has no sign")]
pub const fn word(value: i32) -> usize {
    value as isize as usize
}

fn text(path: &CStr) -> usize {
    path.as_ptr().expose_provenance()
}

/// The text that `bytes` hold up to their first NUL; empty if there is none. (The library's own function
/// for it is not inlined: the object would need more than the mem functions.)
pub fn until_nul(bytes: &[u8]) -> &CStr {
    let end = bytes.iter().position(|byte| *byte == 0);
    let Some(text) = end.and_then(|end| bytes.get(..=end)) else {
        return c"";
    };
    // SAFETY: `text` ends with the first NUL of `bytes`, so it holds no other.
    unsafe { CStr::from_bytes_with_nul_unchecked(text) }
}

fn outcome(number: c_long, result: isize) -> Outcome<usize> {
    if (-4095..0).contains(&result) {
        return Err(Failed {
            errno: i32::try_from(result.wrapping_neg()).unwrap_or(libc::EIO),
            syscall: u32::try_from(number).unwrap_or(u32::MAX),
        });
    }
    Ok(result.cast_unsigned())
}

fn descriptor(result: Outcome<usize>) -> Outcome<Fd> {
    result.map(Fd::from_call)
}

/// The answer of the kernel as it is: an errno is a negative number. It calls nothing, so that it may be used before the C
/// library has begun.
///
/// # Safety
/// The arguments are what the call of this number expects; memory they point to is valid for as long
/// as the kernel uses it and is not written while Rust holds a shared borrow of it.
#[inline(always)]
pub unsafe fn call(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the registers of the architecture's system call convention; what the call itself may do
    //         is the caller's promise. The kernel clobbers only what is named here.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack, preserves_flags),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            in("x8") number as isize,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack, preserves_flags),
        );
    }
    result
}

/// # Safety
/// As for [`call`].
unsafe fn call6(number: c_long, args: [usize; 6]) -> Outcome<usize> {
    // SAFETY: the caller's promise.
    outcome(number, unsafe { call(number, args) })
}

/// # Safety
/// As for [`call6`].
unsafe fn call1(number: c_long, a: usize) -> Outcome<usize> {
    // SAFETY: the caller's promise.
    unsafe { call6(number, [a, 0, 0, 0, 0, 0]) }
}

/// # Safety
/// As for [`call6`].
unsafe fn call2(number: c_long, a: usize, b: usize) -> Outcome<usize> {
    // SAFETY: the caller's promise.
    unsafe { call6(number, [a, b, 0, 0, 0, 0]) }
}

/// # Safety
/// As for [`call6`].
unsafe fn call3(number: c_long, a: usize, b: usize, c: usize) -> Outcome<usize> {
    // SAFETY: the caller's promise.
    unsafe { call6(number, [a, b, c, 0, 0, 0]) }
}

/// # Safety
/// As for [`call6`].
unsafe fn call4(number: c_long, a: usize, b: usize, c: usize, d: usize) -> Outcome<usize> {
    // SAFETY: the caller's promise.
    unsafe { call6(number, [a, b, c, d, 0, 0]) }
}

/// # Safety
/// As for [`call6`].
unsafe fn call5(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> Outcome<usize> {
    // SAFETY: the caller's promise.
    unsafe { call6(number, [a, b, c, d, e, 0]) }
}
