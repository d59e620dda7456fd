//! The launch thread: where a container's process is cloned from (design: "the launch thread").
//!
//! A process may be seen in a foreign pid namespace only once it is inside that container. So each
//! launch has a thread of its own, which gives up what a child must not inherit, on itself: other
//! descriptors, the host's namespaces, capabilities. Then it clones, tells the pid and sleeps, so that the child has the
//! processor, until its caller has the time to let it end on his own. Nothing here changes the
//! process around it (I4): descriptor table and fs are unshared first, capabilities and namespaces belong to
//! the thread.
#![allow(
    clippy::disallowed_methods,
    reason = "the one place where what a process shares is changed, after this thread was given its own"
)]

mod clone;
mod rseq;
mod shed;

use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use rsrun_init::Frozen;

use super::exe;
use clone::ChildStack;
use shed::{block_signals, on_thread, unshare};

/// Of a launch thread, which reads a config.json at most; only touched pages cost anything.
const STACK: usize = 512 << 10;

/// What a clone takes, at most, unless it is waited for. Who is awake until then keeps his processor for himself: the child
/// begins on the launch thread's, which sleeps.
const CLONING: Duration = Duration::from_millis(1);

/// How a process is born.
#[derive(Debug)]
pub struct Birth<'a> {
    /// Descriptors that the child has, sorted; all others are closed on the thread before anything else.
    pub keep: Vec<RawFd>,
    /// setns calls of the thread, in order: descriptor and CLONE_NEW* flags.
    pub joins: Vec<(RawFd, u64)>,
    /// Directory that becomes the thread's root after the joins.
    pub root: Option<RawFd>,
    /// CPUs of the thread, and so of the child until it sets its own; bit n of word n/64 for CPU n.
    pub affinity: Option<&'a [u64]>,
    /// The thread keeps only these capabilities.
    pub keep_capabilities: Option<u64>,
    /// CLONE_NEW* flags.
    pub flags: u64,
    /// The cgroup it is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// What it does.
    pub frozen: Frozen<'a>,
}

/// What failed on the launch thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stillborn {
    /// The system call, as strace names it.
    pub call: &'static str,
    /// Why.
    pub errno: Errno,
}

#[derive(Debug)]
struct Portable<'a>(Birth<'a>);
// SAFETY: the frozen plan holds pointers only into its own arena, which outlives the thread (`bear` waits
// for the outcome, after which it is not looked at); nobody writes there after freezing.
unsafe impl Send for Portable<'_> {}

/// What a launch thread is given: what to clone, and what it and its caller tell each other.
#[derive(Debug)]
struct Task {
    birth: Portable<'static>,
    teller: Teller,
}

/// A launch thread that waits for what it is to clone.
#[derive(Debug)]
pub struct LaunchThread {
    waits: Sender<Task>,
    thread: JoinHandle<Result<(), Stillborn>>,
    /// Where it may run.
    processors: Option<CpuSet>,
}

impl LaunchThread {
    /// Starts it. The namespaces `at_once` (CLONE_NEW* flags) and then those that `ahead` tells it makes for the process to
    /// inherit: with its caller going on meanwhile, a network namespace is no longer waited for. Dropped, it ends and so do
    /// they. Then it waits awake for `awake`: who sleeps on a processor that has gone idle is woken in 0.1 to 0.2 ms where
    /// that is virtual.
    pub fn begin(
        at_once: u64,
        ahead: impl FnOnce() -> u64 + Send + 'static,
        awake: Duration,
    ) -> Result<Self, Stillborn> {
        let (waits, tasks) = channel();
        let processors = sched_getaffinity(Pid::from_raw(0)).ok();
        let body = move || {
            block_signals().map_err(named("rt_sigprocmask"))?;
            // What can't be made here is left to the clone, which tells why if it still can't be.
            let make = |wanted: u64| match wanted {
                0 => 0,
                _ => unshare(wanted).map_or(0, |()| wanted),
            };
            let made = make(at_once) | make(ahead());
            // The child has a step for it, which mostly finds it done.
            let raise_loopback = || {
                if made & libc::CLONE_NEWNET as u64 != 0 {
                    let _ = rsrun_init::loopback_up();
                }
            };
            let is_waited_for = !awake.is_zero();
            if !is_waited_for {
                raise_loopback();
            }
            // It waits for the kernel: better now than when the plan is there.
            exe::let_go();
            rseq::leave();
            let Ok(Task {
                birth: Portable(mut birth),
                teller,
            }) = told_soon(&tasks, awake)
            else {
                return Err(failed(Errno::ECANCELED));
            };
            birth.flags &= !made;
            if let Some(processors) = processors {
                // From where `apart` has put it it may go anywhere again.
                let _ = sched_setaffinity(Pid::from_raw(0), &processors);
            }
            let processor = sched_getcpu().unwrap_or(NOWHERE);
            teller.0.processor.store(processor, Ordering::Relaxed);
            on_thread(&birth, &teller.0)?;
            if is_waited_for {
                // Beside the child's mounts.
                raise_loopback();
            }
            Ok(())
        };
        let thread = std::thread::Builder::new()
            .name("launch".into())
            .stack_size(STACK)
            .spawn(body);
        let thread = thread
            .map_err(|e| failed(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EAGAIN))))?;
        Ok(Self {
            waits,
            thread,
            processors,
        })
    }

    /// Has it run on another processor than its caller, until it clones: beside each other, on one, each waits until the
    /// other sleeps. There are machines on which the kernel leaves a new thread, and one that is woken, where its maker or
    /// waker is, though the next processor has nothing to do (two virtual processors that share no cache, seen on 6.18).
    pub fn apart(&self) {
        let (Some(mut others), Ok(own)) = (self.processors, sched_getcpu()) else {
            return;
        };
        let several = (0..CpuSet::count())
            .filter(|cpu| others.is_set(*cpu) == Ok(true))
            .nth(1);
        if several.is_none() || others.unset(own).is_err() {
            return;
        }
        restrict(&self.thread, &others);
    }

    /// Clones the process; returns its pid in this process's pid namespace, and what `meanwhile` did beside it. The thread
    /// sleeps until `Ending` is dropped, which waits for its end.
    pub fn bear<T>(
        self,
        birth: Birth<'_>,
        meanwhile: impl FnOnce() -> T,
    ) -> (Result<(i32, Ending), Stillborn>, T) {
        let told = match ChildStack::new() {
            Ok(stack) => Arc::new(Told::nothing(stack)),
            Err(errno) => return (Err(named("mmap")(errno)), meanwhile()),
        };
        let ending = Ending {
            told: Arc::clone(&told),
            thread: Some(self.thread),
        };
        // SAFETY: the lifetime is only extended: the thread alone has the value from here on, and this function does
        // not return or unwind before the thread has told the pid, or has ended (`Ending`). What it does with the value after
        // that is to free the lists that are its own.
        let birth =
            unsafe { std::mem::transmute::<Portable<'_>, Portable<'static>>(Portable(birth)) };
        let teller = Teller(told);
        // A task that is not taken is dropped, here or with the thread.
        drop(self.waits.send(Task { birth, teller }));
        let done = meanwhile();
        (ending.wait_for_birth(), done)
    }
}

/// What a launch thread and its caller tell each other. It lies in the heap, which the child does not have: the first who
/// writes to memory that is shared with a child gets a copy of its page, and where the other of them runs on another
/// processor that one is interrupted for it.
#[derive(Debug)]
struct Told {
    words: Words,
    /// Where the thread has cloned, which is where the child has begun; or [`NOWHERE`].
    processor: AtomicUsize,
    /// Where the child begins. Unmapped with the end of the thread.
    stack: ChildStack,
}

/// What `clone_onto` tells and hears.
#[repr(C)]
#[derive(Debug)]
struct Words {
    /// The pid; 0 before, and [`STILLBORN`] where there is none.
    pid: AtomicI32,
    /// 1 when the thread may end.
    released: AtomicI32,
}

const STILLBORN: i32 = -1;
const NOWHERE: usize = usize::MAX;

impl Told {
    fn nothing(stack: ChildStack) -> Self {
        let words = Words {
            pid: AtomicI32::new(0),
            released: AtomicI32::new(0),
        };
        Self {
            words,
            processor: AtomicUsize::new(NOWHERE),
            stack,
        }
    }
}

/// The launch thread's end. Dropped before there is a pid, it tells that there will be none.
#[derive(Debug)]
struct Teller(Arc<Told>);

impl Drop for Teller {
    fn drop(&mut self) {
        let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
        let pid = &self.0.words.pid;
        if pid.compare_exchange(0, STILLBORN, release, relaxed).is_ok() {
            wake(pid);
        }
    }
}

/// A launch thread that has been told what to clone, and sleeps when it has. Dropped, it goes to its caller's processor and
/// ends, and with it its descriptors: the end of the conversation would not be heard while it has the child's socket.
#[derive(Debug)]
pub struct Ending {
    told: Arc<Told>,
    thread: Option<JoinHandle<Result<(), Stillborn>>>,
}

impl Ending {
    fn wait_for_birth(mut self) -> Result<(i32, Self), Stillborn> {
        let awake = Instant::now() + CLONING;
        loop {
            let told = &self.told.words.pid;
            match told.load(Ordering::Acquire) {
                0 if Instant::now() < awake => std::thread::yield_now(),
                0 => wait(told),
                STILLBORN => {
                    let ended = self.thread.take().map(JoinHandle::join);
                    let cause = ended.and_then(Result::ok).and_then(Result::err);
                    return Err(cause.unwrap_or(failed(Errno::EFAULT)));
                }
                pid => return Ok((pid, self)),
            }
        }
    }
}

impl Ending {
    /// Where the child has begun to run.
    #[must_use]
    pub fn processor(&self) -> usize {
        self.told.processor.load(Ordering::Relaxed)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let mut here = CpuSet::new();
        if sched_getcpu().and_then(|own| here.set(own)).is_ok() {
            // It sleeps: this costs no more than the number, and its child is not disturbed.
            restrict(&thread, &here);
        }
        self.told.words.released.store(1, Ordering::Release);
        wake(&self.told.words.released);
        let _ = thread.join();
    }
}

/// Sleeps while `word` is 0 (futex(2)); may wake up without a reason.
fn wait(word: &AtomicI32) {
    let forever = std::ptr::null::<libc::timespec>();
    // SAFETY: the word outlives the call; the value is a number.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), WAIT, 0, forever) };
}

/// Wakes who sleeps on `word`.
fn wake(word: &AtomicI32) {
    // SAFETY: as above; nothing is written.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), WAKE, 1) };
}

const WAIT: i32 = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
const WAKE: i32 = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;

/// Has a thread run on these processors alone. Where it can't be done it runs where it is.
fn restrict<T>(thread: &JoinHandle<T>, processors: &CpuSet) {
    let (size, set) = (size_of::<CpuSet>(), (&raw const *processors).cast());
    // SAFETY: the thread is not joined yet; CpuSet is a cpu_set_t, of this size, and outlives the call.
    unsafe { libc::pthread_setaffinity_np(thread.as_pthread_t(), size, set) };
}

/// Keeps the calling thread off a processor until it is dropped.
#[derive(Debug)]
pub struct Elsewhere(CpuSet);

impl Elsewhere {
    /// Off `processor`, if there is another one. For who is about to be woken by a process that goes on running there: where the
    /// kernel takes the processor that has gone idle for one that can't be had, as it does if that is virtual, who is woken waits
    /// for his waker to sleep.
    #[must_use]
    pub fn than(processor: usize) -> Option<Self> {
        let all = sched_getaffinity(Pid::from_raw(0)).ok()?;
        let mut others = all;
        others.unset(processor).ok()?;
        // Refused where there is no other.
        sched_setaffinity(Pid::from_raw(0), &others).ok()?;
        Some(Self(all))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// What is told, if possible without having slept: for `awake` at most.
pub fn told_soon<T>(told: &Receiver<T>, awake: Duration) -> Result<T, RecvError> {
    let until = Instant::now() + awake;
    while Instant::now() < until {
        match told.try_recv() {
            Ok(what) => return Ok(what),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => std::thread::yield_now(),
        }
    }
    told.recv()
}

fn failed(errno: Errno) -> Stillborn {
    Stillborn {
        call: "clone(CLONE_THREAD)",
        errno,
    }
}

fn named(call: &'static str) -> impl Fn(Errno) -> Stillborn {
    move |errno| Stillborn { call, errno }
}
