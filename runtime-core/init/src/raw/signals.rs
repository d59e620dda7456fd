//! Calls that say what a signal does.

use core::ptr::from_ref;

use super::{Outcome, call4, exit, word};

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
