//! A thread that the C library knows nothing of.
//!
//! It has no thread-local storage, and so neither `errno` nor a heap nor a panic: what runs on it makes its system calls by
//! itself (`sys::raw`). For that its beginning and its end cost its maker eight calls, of which none waits, and its child
//! inherits nothing of the C library. It takes no signal: a handler of ours would be lost there.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use nix::errno::Errno;
use rsrun_init::Page;

use super::clone::CloneArgs;
use super::{Birth, Stillborn, named};
use crate::sys::raw::{PRIVATE, ask, wait, wake, word};

/// What such a thread and its owner tell each other. All zeros at first. It lies in a page that no child has: the first
/// who writes to memory that is shared with a child gets a copy of its page, and where the other of them runs on another
/// processor that one is interrupted for it.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Post {
    /// Of the thread; 0 when it has ended.
    pub tid: AtomicI32,
    /// What it is to do next, an [`Order`].
    order: AtomicI32,
    /// The clone's.
    pub words: Words,
    /// Where it has cloned, which is where the child has begun.
    pub processor: AtomicUsize,
    /// The namespaces (CLONE_NEW* flags) that it is told to make, that it has been told to, and that it has made.
    pub wanted: AtomicU64,
    pub asked: AtomicU64,
    pub made: AtomicU64,
    /// Somebody waits for it now.
    pub is_waited_for: AtomicBool,
    /// What it clones, from `Order::Clone` until the pid is told.
    pub birth: AtomicPtr<Birth<'static>>,
    /// What it shares with its child: there until the thread has ended.
    pub page: AtomicPtr<Page>,
    /// The lowest address of the stack that the child begins on.
    pub child_stack: AtomicUsize,
    /// Why there is none, where the pid is told as [`STILLBORN`].
    failure: UnsafeCell<MaybeUninit<Stillborn>>,
    /// Where it and its owner may run, as sched_getaffinity(2) has written it, and how many bytes that are; none where it can't.
    pub processors: [AtomicU64; 16],
    pub processors_size: AtomicUsize,
}

// SAFETY: all is atomic but `failure`, which the thread writes before it tells the pid, and its owner reads after.
unsafe impl Sync for Post {}

/// What `clone_onto` tells and hears.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Words {
    /// The pid; 0 before, and [`STILLBORN`] where there is none.
    pub pid: AtomicI32,
    /// 1 when the thread may end.
    pub released: AtomicI32,
}

/// In the place of a pid.
pub(super) const STILLBORN: i32 = -1;

/// What a thread that waits is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Order {
    /// Nothing yet: it sleeps.
    Sleep = 0,
    /// Something soon: it waits awake for a while. Who sleeps on a processor that has gone idle is woken in 0.1 to 0.2 ms where
    /// that is virtual.
    StayAwake = 1,
    /// To make the namespaces of `Post::wanted`, and then to stay awake.
    Make = 2,
    /// To clone, and to end when it is released.
    Clone = 3,
    /// To end.
    Leave = 4,
}

impl Post {
    /// The thread is told `order`, whatever it was told before.
    pub(super) fn tell(&self, order: Order) {
        self.order.store(order as i32, Ordering::Release);
        wake(&self.order);
    }

    /// What it is told.
    pub(super) fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Sleep,
            1 => Order::StayAwake,
            2 => Order::Make,
            3 => Order::Clone,
            _ => Order::Leave,
        }
    }

    /// Sleeps until it is told something else than `order`; may return without that.
    pub(super) fn sleep(&self, order: Order) {
        wait(&self.order, order as i32, PRIVATE);
    }

    /// There will be no pid.
    pub(super) fn fail(&self, cause: Stillborn) {
        // SAFETY: nobody else writes there, and who reads it waits for what is told next.
        unsafe { (*self.failure.get()).write(cause) };
        self.words.pid.store(STILLBORN, Ordering::Release);
        wake(&self.words.pid);
    }

    /// Why there is none, when that has been told.
    pub(super) fn failure(&self) -> Stillborn {
        match self.words.pid.load(Ordering::Acquire) {
            // SAFETY: written before it was told, and not after.
            STILLBORN => unsafe { (*self.failure.get()).assume_init_read() },
            _ => named("clone3")(Errno::EFAULT),
        }
    }

    /// Stays awake instead of what it is told as `order`, unless that is something else by now.
    pub(super) fn stay_awake_after(&self, order: Order) {
        let (now, next) = (order as i32, Order::StayAwake as i32);
        let (both, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = self.order.compare_exchange(now, next, both, relaxed);
    }
}

/// A thread, or what it has left. Dropped, it is told to leave, and waited for.
#[derive(Debug)]
pub(super) struct Thread(NonNull<u8>);

// SAFETY: the address alone is kept, of memory that belongs to this value; what is shared with the thread is `Post`.
unsafe impl Send for Thread {}
// SAFETY: as above.
unsafe impl Sync for Thread {}

/// At its lowest end, which is never touched. Of pages, at most.
const GUARD: usize = 64 << 10;
/// Only touched pages cost anything.
const STACK: usize = 64 << 10;
/// Where `Post` lies.
const PAGE: usize = if cfg!(target_arch = "x86_64") {
    4 << 10
} else {
    64 << 10
};
const SIZE: usize = GUARD + STACK + PAGE;

const _: () = assert!(size_of::<Post>() <= PAGE);

impl Thread {
    /// Begins it, in `live`.
    pub(super) fn begin(
        order: Order,
        prepare: impl FnOnce(&Post),
        live: unsafe extern "C" fn(*const Post),
    ) -> Result<Self, Stillborn> {
        let thread = Self::with_memory()?;
        let post = thread.post();
        post.order.store(order as i32, Ordering::Relaxed);
        prepare(post);
        let tid = (&raw const post.tid).addr() as u64;
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM
            // To null: else it has its maker's.
            | libc::CLONE_SETTLS
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_CLEARTID;
        let args = CloneArgs {
            flags: flags as u64,
            child_tid: tid,
            parent_tid: tid,
            stack: (thread.0.as_ptr().addr() + GUARD) as u64,
            stack_size: STACK as u64,
            ..CloneArgs::default()
        };
        let before = mask_signals(u64::MAX).map_err(named("rt_sigprocmask"))?;
        // SAFETY: `args` is a whole clone_args that outlives the call. The thread has the stack to itself, and the memory of
        // it and of `post` until it has ended (`drop`).
        let tid = unsafe { begin_on(&raw const args, size_of::<CloneArgs>(), live, post) };
        let _ = mask_signals(before);
        match i32::try_from(tid) {
            Ok(1..) => Ok(thread),
            _ => Err(named("clone3(CLONE_THREAD)")(Errno::from_raw(
                tid.unsigned_abs() as i32,
            ))),
        }
    }

    fn with_memory() -> Result<Self, Stillborn> {
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let access = word(libc::PROT_READ | libc::PROT_WRITE);
        let mapping = [0, SIZE, access, word(kind), word(-1), 0];
        // SAFETY: a new mapping, which nobody else has; its parts are made what they are to be before it is used.
        unsafe {
            let memory = ask(libc::SYS_mmap, mapping).map_err(named("mmap"))?;
            let memory = std::ptr::with_exposed_provenance_mut(memory);
            let thread = NonNull::new(memory)
                .map(Self)
                .ok_or(named("mmap")(Errno::ENOMEM))?;
            let (guard, post) = (memory.addr(), thread.post_at().addr());
            ask(libc::SYS_mprotect, [guard, GUARD, 0, 0, 0, 0]).map_err(named("mprotect"))?;
            let unforked = [post, PAGE, word(libc::MADV_DONTFORK), 0, 0, 0];
            ask(libc::SYS_madvise, unforked).map_err(named("madvise"))?;
            Ok(thread)
        }
    }

    fn post_at(&self) -> *mut Post {
        // SAFETY: within the mapping.
        unsafe { self.0.as_ptr().add(GUARD + STACK).cast() }
    }

    pub(super) fn post(&self) -> &Post {
        // SAFETY: page-aligned memory of this size that is mapped until `drop`; zeros, as the kernel gives them, are a Post.
        unsafe { &*self.post_at() }
    }

    /// Tells it to leave, and does not wait for that. The memory stays: it may still be in it.
    pub(super) fn leave_alone(self) {
        self.post().tell(Order::Leave);
        std::mem::forget(self);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let post = self.post();
        post.tell(Order::Leave);
        loop {
            // The kernel writes it, and wakes.
            match post.tid.load(Ordering::Acquire) {
                0 => break,
                tid => wait(&post.tid, tid, 0),
            }
        }
        // SAFETY: the mapping is ours, and nobody is in it.
        let _ = unsafe { ask(libc::SYS_munmap, [self.0.as_ptr().addr(), SIZE, 0, 0, 0, 0]) };
    }
}

/// The calling thread's mask of blocked signals; returns what it was.
fn mask_signals(mask: u64) -> nix::Result<u64> {
    let mut before = 0u64;
    let (new, old) = ((&raw const mask).addr(), (&raw mut before).addr());
    let setting = [word(libc::SIG_SETMASK), new, old, size_of::<u64>(), 0, 0];
    // SAFETY: both are kernel sigsets of 8 bytes that outlive the call; only this thread's mask changes.
    unsafe { ask(libc::SYS_rt_sigprocmask, setting) }.map(|_| before)
}

macro_rules! begin_on {
    ($($line:literal)*) => {
        /// clone3(2) of a thread, which does `live` with `post` and ends. Returns as the kernel does, an errno as a negative
        /// number.
        ///
        /// # Safety
        /// The stack of `args` is for the thread alone, and with `post` there until it has ended.
        #[unsafe(naked)]
        unsafe extern "C" fn begin_on(
            args: *const CloneArgs,
            size: usize,
            live: unsafe extern "C" fn(*const Post),
            post: *const Post,
        ) -> isize {
            std::arch::naked_asm!($($line,)* clone3 = const libc::SYS_clone3, exit = const libc::SYS_exit)
        }
    };
}

#[cfg(target_arch = "x86_64")]
begin_on! {
    "mov r8, rcx"
    "mov eax, {clone3}"
    "syscall"
    "test rax, rax"
    "jnz 2f"
    "xor ebp, ebp"
    "mov rdi, r8"
    "call rdx"
    "xor edi, edi"
    "mov eax, {exit}"
    "syscall"
    "2:"
    "ret"
}

#[cfg(target_arch = "aarch64")]
begin_on! {
    "mov x8, {clone3}"
    "svc 0"
    "cbnz x0, 2f"
    "mov x29, xzr"
    "mov x0, x3"
    "blr x2"
    "mov x0, xzr"
    "mov x8, {exit}"
    "svc 0"
    "2:"
    "ret"
}
