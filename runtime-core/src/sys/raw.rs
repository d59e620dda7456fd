//! System calls by no library, for code that has no thread-local storage: the C library's wrappers write `errno` there.

use std::arch::asm;
use std::sync::atomic::AtomicI32;

use libc::c_long;
use nix::errno::Errno;

/// An integer argument as the kernel wants it: sign-extended.
pub(super) const fn word(value: i32) -> usize {
    value as isize as usize
}

/// The answer of the kernel as it is: an errno is a negative number.
///
/// # Safety
/// The arguments are what the call of this number takes.
pub(super) unsafe fn call(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the registers of the architecture's convention; the rest is the caller's promise.
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

/// The same with the errno told apart.
///
/// # Safety
/// As [`call`].
pub(super) unsafe fn ask(number: c_long, arguments: [usize; 6]) -> nix::Result<usize> {
    // SAFETY: the caller's promise.
    let answer = unsafe { call(number, arguments) };
    match usize::try_from(answer) {
        Ok(answer) => Ok(answer),
        Err(_) => Err(Errno::from_raw(answer.unsigned_abs() as i32)),
    }
}

/// Who waits and who wakes are of this process.
pub(super) const PRIVATE: i32 = libc::FUTEX_PRIVATE_FLAG;

/// Sleeps while `place` holds `value` (futex(2)); may wake up without a reason.
pub(super) fn wait(place: &AtomicI32, value: i32, scope: i32) {
    let at = place.as_ptr().addr();
    let waiting = [at, word(libc::FUTEX_WAIT | scope), word(value), 0, 0, 0];
    // SAFETY: the word outlives the call, which only reads it; there is no time-out.
    let _ = unsafe { ask(libc::SYS_futex, waiting) };
}

/// Wakes who sleeps on `place`.
pub(super) fn wake(place: &AtomicI32, scope: i32) {
    let at = place.as_ptr().addr();
    let waking = [at, word(libc::FUTEX_WAKE | scope), word(i32::MAX), 0, 0, 0];
    // SAFETY: only numbers are passed, nothing is written.
    let _ = unsafe { ask(libc::SYS_futex, waking) };
}
