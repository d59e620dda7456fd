//! System calls by no library, for code that has no thread-local storage: the C library's wrappers write `errno` there.

use std::sync::atomic::AtomicI32;

use libc::c_long;
use nix::errno::Errno;
pub(super) use rsrun_init::{call, word};

/// [`call`] with the errno told apart.
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

/// Of a futex whose waiters and wakers are all of this process.
pub(super) const PRIVATE: i32 = libc::FUTEX_PRIVATE_FLAG;

/// Sleeps while `place` holds `value` (futex(2)); may wake up without a reason.
pub(super) fn wait(place: &AtomicI32, value: i32, scope: i32) {
    let at = place.as_ptr().addr();
    let waiting = [at, word(libc::FUTEX_WAIT | scope), word(value), 0, 0, 0];
    // SAFETY: the word outlives the call, which only reads it; there is no time-out.
    let _ = unsafe { ask(libc::SYS_futex, waiting) };
}

/// Wakes who in this process sleeps on `place`.
pub(super) fn wake(place: &AtomicI32) {
    let at = place.as_ptr().addr();
    let waking = [
        at,
        word(libc::FUTEX_WAKE | PRIVATE),
        word(i32::MAX),
        0,
        0,
        0,
    ];
    // SAFETY: only numbers are passed, nothing is written.
    let _ = unsafe { ask(libc::SYS_futex, waking) };
}
