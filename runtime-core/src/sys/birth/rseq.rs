//! Restartable sequences, which a launch thread does not use.
//!
//! glibc registers an area for each thread (rseq(2), Linux 4.18; glibc 2.35), to which the kernel writes whenever the
//! thread comes back to a processor. After a clone that is the first write to a page that the child shares: the kernel copies it
//! on the way, and interrupts the processor of every other thread of ours, while the child waits. The child has
//! inherited the area too.

use libc::c_long;

/// What glibc registers an area with: its size where the kernel knows no more than Linux 6.3 did, and the signature before
/// each abort handler.
const SIZE: usize = 32;
#[cfg(target_arch = "x86_64")]
const SIGNATURE: u32 = 0x5305_3053;
#[cfg(target_arch = "aarch64")]
const SIGNATURE: u32 = 0xd428_bc00;

const UNREGISTER: c_long = 1;

/// Takes this thread off. Where it is not on, or not as we know it, nothing happens. It must not be one that goes on
/// in code of others: glibc's own `sched_getcpu` alone looks there, and asks the kernel then.
pub(super) fn leave() {
    // SAFETY: it reads two registers of the linker's and the processor's making.
    let (offset, thread) = unsafe { (offset(), thread_pointer()) };
    if offset.is_null() {
        return;
    }
    // SAFETY: what glibc exports (sys/rseq.h), written before main.
    let area = thread.wrapping_add_signed(unsafe { offset.read() });
    // SAFETY: only numbers are passed, and an area that is not this thread's is refused.
    unsafe { libc::syscall(libc::SYS_rseq, area, SIZE, UNREGISTER, SIGNATURE) };
}

macro_rules! registers {
    ([$($offset:literal)*], [$($thread:literal)*]) => {
        /// Where the distance from a thread's pointer to its area is to be read; null with a C library that has none.
        #[unsafe(naked)]
        unsafe extern "C" fn offset() -> *const isize {
            std::arch::naked_asm!(".weak __rseq_offset", $($offset,)*)
        }

        /// The thread pointer.
        #[unsafe(naked)]
        unsafe extern "C" fn thread_pointer() -> usize {
            std::arch::naked_asm!($($thread,)*)
        }
    };
}

#[cfg(target_arch = "x86_64")]
registers! {
    ["mov rax, [rip + __rseq_offset@GOTPCREL]" "ret"],
    ["mov rax, fs:0" "ret"]
}

#[cfg(target_arch = "aarch64")]
registers! {
    ["adrp x0, :got:__rseq_offset" "ldr x0, [x0, :got_lo12:__rseq_offset]" "ret"],
    ["mrs x0, tpidr_el0" "ret"]
}
