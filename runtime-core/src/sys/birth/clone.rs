//! The clone itself, onto a stack of the child's own.

use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use rsrun_init::Frozen;

use super::Birth;
use super::thread::{Post, Words};
use crate::sys::checked;
use crate::sys::raw::PRIVATE;

/// Enough for the interpreter (its deepest recursion is copy-up); only touched pages cost anything.
const STACK: usize = 512 << 10;

/// `struct clone_args` of clone3(2) as Linux 5.7 has it.
#[repr(C)]
#[derive(Default)]
pub(super) struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Clones, tells the pid, and sleeps until the thread is released.
pub(super) fn clone3(birth: &Birth<'_>, post: &Post) -> nix::Result<()> {
    let mut args = CloneArgs {
        flags: birth.flags & !post.made.load(Ordering::Relaxed),
        exit_signal: libc::SIGCHLD as u64,
        stack: post.child_stack.load(Ordering::Relaxed) as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = birth.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // Here nobody writes beside the child.
    let frozen = birth.frozen;
    // SAFETY: `args` is a whole clone_args that outlives the call, and nothing else uses the stack that it names. Without
    // CLONE_VM the child has copies of this thread's stack and of the arena at the same addresses, so `frozen` is valid
    // there.
    let pid = unsafe {
        clone_onto(
            &raw const args,
            size_of::<CloneArgs>(),
            &raw const frozen,
            &raw const post.words,
        )
    };
    match pid {
        1.. => Ok(()),
        _ => Err(Errno::from_raw(pid.unsigned_abs() as i32)),
    }
}

macro_rules! clone_onto {
    ($($line:literal)*) => {
        /// clone3(2) onto another stack: from there the child does the steps of `frozen`. The thread tells the pid and sleeps
        /// until it is released (futex(2)), without a write to its own memory: that would be copied, and its child is waiting
        /// for its processor. Returns as the kernel does, an errno as a negative number.
        ///
        /// # Safety
        /// The arguments are such that the child has memory of its own, in which the stack of `args` and `frozen` are to be
        /// found.
        #[unsafe(naked)]
        unsafe extern "C" fn clone_onto(
            args: *const CloneArgs,
            size: usize,
            frozen: *const Frozen<'_>,
            words: *const Words,
        ) -> isize {
            std::arch::naked_asm!(
                $($line,)*
                clone3 = const libc::SYS_clone3,
                futex = const libc::SYS_futex,
                wake = const libc::FUTEX_WAKE | PRIVATE,
                wait = const libc::FUTEX_WAIT | PRIVATE,
                pid = const std::mem::offset_of!(Words, pid),
                released = const std::mem::offset_of!(Words, released),
                begin = sym begin,
            )
        }
    };
}

#[cfg(target_arch = "x86_64")]
clone_onto! {
    "push rbx"
    "push r12"
    "mov r12, rcx"
    "mov eax, {clone3}"
    "syscall"
    "test rax, rax"
    "jnz 2f"
    "xor ebp, ebp"
    "mov rdi, rdx"
    "call {begin}"
    "2:"
    "js 3f"
    "mov rbx, rax"
    "mov [r12 + {pid}], eax"
    "lea rdi, [r12 + {pid}]"
    "mov esi, {wake}"
    "mov edx, 1"
    "mov eax, {futex}"
    "syscall"
    "4:"
    "lea rdi, [r12 + {released}]"
    "mov esi, {wait}"
    "xor edx, edx"
    "xor r10d, r10d"
    "mov eax, {futex}"
    "syscall"
    "cmp dword ptr [r12 + {released}], 0"
    "je 4b"
    "mov rax, rbx"
    "3:"
    "pop r12"
    "pop rbx"
    "ret"
}

#[cfg(target_arch = "aarch64")]
clone_onto! {
    "mov x9, x3"
    "mov x8, {clone3}"
    "svc 0"
    "cbnz x0, 2f"
    "mov x29, xzr"
    "mov x0, x2"
    "bl {begin}"
    "2:"
    "tbnz x0, 63, 3f"
    "mov x10, x0"
    "add x11, x9, {pid}"
    "stlr w0, [x11]"
    "mov x0, x11"
    "mov x1, {wake}"
    "mov x2, 1"
    "mov x8, {futex}"
    "svc 0"
    "add x11, x9, {released}"
    "4:"
    "mov x0, x11"
    "mov x1, {wait}"
    "mov x2, xzr"
    "mov x3, xzr"
    "mov x8, {futex}"
    "svc 0"
    "ldar w12, [x11]"
    "cbz w12, 4b"
    "mov x0, x10"
    "3:"
    "ret"
}

/// Where a child begins. What it calls uses no libc, no heap and no lock, and never returns.
///
/// # Safety
/// `frozen` can be read, and nothing else does.
unsafe extern "C" fn begin(frozen: *const Frozen<'_>) -> ! {
    // SAFETY: as promised.
    rsrun_init::enter(unsafe { frozen.read() })
}

/// The stack of a child. What it shared with a thread of ours would be copied for whichever of them writes to it first, and
/// a thread that goes on meanwhile makes the child wait; of this one nothing is there yet.
#[derive(Debug)]
pub(super) struct ChildStack(NonNull<u8>);

/// Of pages, at most.
const GUARD: usize = 64 << 10;

impl ChildStack {
    pub(super) fn new() -> nix::Result<Self> {
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, which nobody else has; its lowest part is made inaccessible before it is used.
        unsafe {
            let memory = libc::mmap(std::ptr::null_mut(), GUARD + STACK, access, kind, -1, 0);
            if memory == libc::MAP_FAILED {
                return Err(Errno::last());
            }
            let stack = Self(NonNull::new(memory.cast()).ok_or(Errno::ENOMEM)?);
            checked(libc::mprotect(memory, GUARD, libc::PROT_NONE).into())?;
            Ok(stack)
        }
    }

    pub(super) fn bottom(&self) -> usize {
        self.0.as_ptr().addr() + GUARD
    }
}

// SAFETY: its address alone is used here.
unsafe impl Send for ChildStack {}
// SAFETY: as above.
unsafe impl Sync for ChildStack {}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and in this process nothing is in it.
        unsafe { libc::munmap(self.0.as_ptr().cast(), GUARD + STACK) };
    }
}
