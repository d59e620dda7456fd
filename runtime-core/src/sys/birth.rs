//! The launch thread: where a container's process is cloned from (design: "the launch thread").
//!
//! A process may be seen in a foreign pid namespace only once it is inside that container. So each
//! launch has a thread of its own, which gives up what a child must not inherit, on itself: other
//! descriptors, the host's namespaces, capabilities. Then it clones, tells the pid and sleeps, so that the child has the
//! processor, until its caller has the time to let it end on his own. Nothing here changes the
//! process around it (I4): descriptor table and fs are unshared first, capabilities and namespaces belong to
//! the thread. It is none of the C library's (`thread`).

mod clone;
mod shed;
mod thread;

use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use rsrun_init::{Frozen, Page};

use super::exe;
use super::raw::{PRIVATE, ask, wait, wake, word};
use clone::ChildStack;
use shed::{on_thread, unshare};
use thread::{Order, Post, STILLBORN, Thread};

/// What a clone takes, at most, unless it is waited for. Who is awake until then keeps his processor for himself: the child
/// begins on the launch thread's, which sleeps.
const CLONING: Duration = Duration::from_millis(1);

/// So long a thread stays awake that is told to, in nanoseconds: what Create still has to do, at most.
const AWAKE: u64 = 1_000_000;

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

/// A launch thread that waits for what it is to clone. Dropped, it ends, and with it the namespaces that it has made.
#[derive(Debug)]
pub struct LaunchThread(Thread);

/// When a launch thread will be told what to clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once: it runs on another processor than its caller, and stays awake.
    Now,
    /// Soon: it runs on another processor, and sleeps until `make`.
    Soon,
    /// Nobody knows.
    Sometime,
}

impl LaunchThread {
    /// Begins one that makes these namespaces (CLONE_NEW* flags) for the process to inherit: with its caller going on meanwhile,
    /// a network namespace is no longer waited for. What can't be made is left to the clone, which tells why if it still can't
    /// be.
    pub fn begin(namespaces: u64, when: When) -> Result<Self, Stillborn> {
        let order = match when {
            When::Now => Order::StayAwake,
            When::Soon | When::Sometime => Order::Sleep,
        };
        let is_waited_for = when != When::Sometime;
        let prepare = |post: &Post| {
            note_processors(post);
            post.is_waited_for.store(is_waited_for, Ordering::Relaxed);
            post.wanted.store(namespaces, Ordering::Relaxed);
            post.asked.store(namespaces, Ordering::Relaxed);
        };
        let thread = Thread::begin(order, prepare, live)?;
        if is_waited_for {
            apart(thread.post());
        }
        Ok(Self(thread))
    }

    /// It is not needed: it ends when it can. What it is at is not waited for, nor its memory had back: to make a network namespace
    /// may take long where others are being taken away.
    pub fn leave_alone(self) {
        self.0.leave_alone();
    }

    /// The namespaces (CLONE_NEW* flags) that it was told to make.
    #[must_use]
    pub fn makes(&self) -> u64 {
        self.0.post().asked.load(Ordering::Relaxed)
    }

    /// It makes these namespaces besides, and stays awake then: it is about to be told what to clone.
    pub fn make(&self, namespaces: u64) {
        let post = self.0.post();
        post.asked.fetch_or(namespaces, Ordering::Relaxed);
        post.wanted.fetch_or(namespaces, Ordering::Relaxed);
        post.tell(Order::Make);
    }

    /// Has it run on another processor than its caller, until it clones: beside each other, on one, each waits until the
    /// other sleeps. There are machines on which the kernel leaves a new thread, and one that is woken, where its maker or
    /// waker is, though the next processor has nothing to do (two virtual processors that share no cache, seen on 6.18).
    pub fn apart(&self) {
        apart(self.0.post());
    }

    /// Clones the process; returns its pid in this process's pid namespace, and what `meanwhile` did beside it. `page` is the one
    /// that it shares with us. The thread sleeps until `Ending` is dropped, which waits for its end.
    pub fn bear<'a, T>(
        self,
        birth: Birth<'_>,
        page: &'a Page,
        meanwhile: impl FnOnce() -> T,
    ) -> (Result<(i32, Ending<'a>), Stillborn>, T) {
        let stack = match ChildStack::new() {
            Ok(stack) => stack,
            Err(errno) => return (Err(named("mmap")(errno)), meanwhile()),
        };
        let lowest = stack.bottom();
        // It ends before `birth` does, also where `meanwhile` panics.
        let ending = Ending {
            thread: self.0,
            stack,
            page: PhantomData,
        };
        let post = ending.thread.post();
        post.child_stack.store(lowest, Ordering::Relaxed);
        // The thread does not look at it any more when it has told the pid, for which this function waits.
        let lent = (&raw const birth).cast_mut().cast();
        post.birth.store(lent, Ordering::Relaxed);
        post.page
            .store((&raw const *page).cast_mut(), Ordering::Relaxed);
        post.tell(Order::Clone);
        let done = meanwhile();
        (ending.wait_for_birth(), done)
    }
}

/// What a launch thread does in its life.
///
/// # Safety
/// `post` is there until the thread has ended.
unsafe extern "C" fn live(post: *const Post) {
    // SAFETY: as promised.
    let post = unsafe { &*post };
    name_itself();
    make_wanted(post);
    obey(post);
}

/// For who looks at the threads of this process.
fn name_itself() {
    let name = c"launch".as_ptr().addr();
    // SAFETY: the name ends with a NUL and outlives the call.
    let _ = unsafe { ask(libc::SYS_prctl, [word(libc::PR_SET_NAME), name, 0, 0, 0, 0]) };
}

const NETWORK: u64 = libc::CLONE_NEWNET as u64;

/// One call for each of both, since what can't be made must not keep the other from it.
fn make_wanted(post: &Post) {
    let wanted = post.wanted.swap(0, Ordering::Relaxed);
    let make = |flags: u64| {
        if flags != 0 && unshare(flags).is_ok() {
            post.made.fetch_or(flags, Ordering::Relaxed);
        }
    };
    make(wanted & !NETWORK);
    make(wanted & NETWORK);
}

fn obey(post: &Post) {
    let is_waited_for = post.is_waited_for.load(Ordering::Relaxed);
    let loopback_is_up = !is_waited_for && raise_loopback(post);
    // It waits for the kernel: better now than when the plan is there.
    exe::let_go();
    loop {
        match await_order(post) {
            Order::Make => {
                // First: what is wanted from here on is told anew.
                post.stay_awake_after(Order::Make);
                make_wanted(post);
            }
            Order::Clone => break,
            Order::Leave => return,
            Order::Sleep | Order::StayAwake => {}
        }
    }
    // SAFETY: who tells to clone has stored it before, and keeps it until the thread has ended.
    let page = unsafe { &*post.page.load(Ordering::Relaxed) };
    if loopback_is_up {
        page.raise_loopback(|| true);
    }
    clone(post);
    if is_waited_for && has_network(post) {
        // Beside the child's mounts. It has a step for it, which does it where this comes too late.
        page.raise_loopback(|| rsrun_init::loopback_up().is_ok());
    }
}

/// Says whether it is up in a network namespace that was made here.
fn raise_loopback(post: &Post) -> bool {
    has_network(post) && rsrun_init::loopback_up().is_ok()
}

fn has_network(post: &Post) -> bool {
    post.made.load(Ordering::Relaxed) & NETWORK != 0
}

/// What it is told next, if possible without having slept.
fn await_order(post: &Post) -> Order {
    let mut until = None;
    loop {
        match post.order() {
            Order::Sleep => post.sleep(Order::Sleep),
            Order::StayAwake => {
                let now = rsrun_init::monotonic_ns();
                if now < *until.get_or_insert(now.saturating_add(AWAKE)) {
                    give_way();
                } else {
                    post.sleep(Order::StayAwake);
                }
            }
            told => return told,
        }
    }
}

/// Returns when it has been released.
#[inline(never)]
fn clone(post: &Post) {
    // SAFETY: who tells to clone has stored it before, and keeps it until the pid is told.
    let birth = unsafe { &*post.birth.load(Ordering::Relaxed) };
    if birth.joins.iter().any(|(_, kind)| kind & NETWORK != 0) {
        // The one that is entered is somebody else's, as is its loopback.
        post.made.fetch_and(!NETWORK, Ordering::Relaxed);
    }
    // From where `apart` has put it it may go anywhere again.
    run_on(0, post);
    let processor = processor().unwrap_or(NOWHERE);
    post.processor.store(processor, Ordering::Relaxed);
    if let Err(cause) = on_thread(birth, post) {
        post.fail(cause);
    }
}

const NOWHERE: usize = usize::MAX;

/// See [`LaunchThread::apart`].
fn apart(post: &Post) {
    let Some(own) = processor() else {
        return;
    };
    let Some(word) = post.processors.get(own / 64) else {
        return;
    };
    let all = word.fetch_and(!(1 << (own % 64)), Ordering::Relaxed);
    // Refused where there is no other.
    run_on(post.tid.load(Ordering::Relaxed), post);
    word.store(all, Ordering::Relaxed);
}

/// Where the thread may run is where its maker may.
fn note_processors(post: &Post) {
    let (size, set) = (size_of_val(&post.processors), post.processors.as_ptr());
    let asking = [0, size, set.addr(), 0, 0, 0];
    // SAFETY: the kernel writes so many bytes at most, to atomics that nobody else knows of yet.
    let written = unsafe { ask(libc::SYS_sched_getaffinity, asking) };
    // More processors than there is room for are refused.
    post.processors_size
        .store(written.unwrap_or(0), Ordering::Relaxed);
}

/// Has the thread `tid`, or the calling one for 0, run on the processors of `post`. Where it can't be done it runs where it is.
fn run_on(tid: i32, post: &Post) {
    let size = post.processors_size.load(Ordering::Relaxed);
    if size > 0 {
        let setting = [word(tid), size, post.processors.as_ptr().addr(), 0, 0, 0];
        // SAFETY: the set has `size` bytes and outlives the call, which only reads it.
        let _ = unsafe { ask(libc::SYS_sched_setaffinity, setting) };
    }
}

/// The processor that the caller runs on.
fn processor() -> Option<usize> {
    let mut number = 0u32;
    let asking = [(&raw mut number).addr(), 0, 0, 0, 0, 0];
    // SAFETY: the kernel writes the number, and no node where none is asked for.
    unsafe { ask(libc::SYS_getcpu, asking) }.ok()?;
    Some(number as usize)
}

/// sched_yield(2).
fn give_way() {
    // SAFETY: it takes nothing.
    let _ = unsafe { ask(libc::SYS_sched_yield, [0; 6]) };
}

/// A launch thread that has been told what to clone, and sleeps when it has. Dropped, it goes to its caller's processor and
/// ends, and with it its descriptors: the end of the conversation would not be heard while it has the child's socket.
#[derive(Debug)]
pub struct Ending<'a> {
    thread: Thread,
    #[allow(dead_code, reason = "unmapped after the thread has ended")]
    stack: ChildStack,
    /// The thread writes to it until it has ended.
    page: PhantomData<&'a Page>,
}

impl Ending<'_> {
    fn wait_for_birth(self) -> Result<(i32, Self), Stillborn> {
        let awake = Instant::now() + CLONING;
        let pid = &self.thread.post().words.pid;
        loop {
            match pid.load(Ordering::Acquire) {
                0 if Instant::now() < awake => std::thread::yield_now(),
                0 => wait(pid, 0, PRIVATE),
                STILLBORN => return Err(self.thread.post().failure()),
                pid => return Ok((pid, self)),
            }
        }
    }

    /// Where the child has begun to run; a number that no processor has, if that is not known.
    #[must_use]
    pub fn processor(&self) -> usize {
        self.thread.post().processor.load(Ordering::Relaxed)
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let post = self.thread.post();
        let tid = post.tid.load(Ordering::Relaxed);
        let mut here = CpuSet::new();
        // Where there is a pid it sleeps: this costs no more than the number, and its child is not disturbed.
        if post.words.pid.load(Ordering::Acquire) > 0
            && sched_getcpu().and_then(|own| here.set(own)).is_ok()
        {
            let _ = sched_setaffinity(Pid::from_raw(tid), &here);
        }
        post.words.released.store(1, Ordering::Release);
        wake(&post.words.released);
    }
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

fn named(call: &'static str) -> impl Fn(Errno) -> Stillborn {
    move |errno| Stillborn { call, errno }
}
