//! The launch thread: where a container's process is cloned from (design: "the launch thread").
//!
//! A process may be seen in a foreign pid namespace only once it is inside that container. So each
//! launch has a thread of its own, which gives up what a child must not inherit, on itself: other
//! descriptors, the host's namespaces, capabilities. Then it clones and ends. Nothing here changes
//! the process around it (I4): descriptor table and fs are unshared first, capabilities and
//! namespaces belong to the thread.
#![allow(
    clippy::disallowed_methods,
    reason = "the one place where what a process shares is changed, after this thread was given its own"
)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use rsrun_init::Frozen;

use super::checked;
use super::exe;
use super::pidfd::{pidfd_getfd, pidfd_open};

/// Enough for the interpreter (its deepest recursion is copy-up); only touched pages cost anything.
const STACK: usize = 512 << 10;

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

struct Portable<'a>(Birth<'a>);
// SAFETY: the frozen plan holds pointers only into its own arena, which outlives the thread (`bear` waits
// for its end); nobody writes there after freezing.
unsafe impl Send for Portable<'_> {}

/// A launch thread that waits for what it is to clone.
#[derive(Debug)]
pub struct LaunchThread {
    waits: Sender<Portable<'static>>,
    thread: JoinHandle<Result<i32, Stillborn>>,
    /// Where it may run.
    processors: Option<CpuSet>,
}

impl LaunchThread {
    /// Starts it. The namespaces that `ahead` tells (CLONE_NEW* flags) it makes at once, for the process to inherit: with
    /// its caller going on meanwhile, a network namespace is no longer waited for. Dropped, it ends and so do they. Then it
    /// waits awake for `awake`: who sleeps on a processor that has gone idle is woken in 0.1 to 0.2 ms where that is virtual.
    pub fn begin(
        ahead: impl FnOnce() -> u64 + Send + 'static,
        awake: Duration,
    ) -> Result<Self, Stillborn> {
        let (waits, told) = channel();
        let processors = sched_getaffinity(Pid::from_raw(0)).ok();
        let body = move || {
            block_signals().map_err(named("rt_sigprocmask"))?;
            exe::let_go();
            // What can't be made here is left to the clone, which tells why if it still can't be.
            let made = Some(ahead()).filter(|wanted| *wanted != 0 && unshare(*wanted).is_ok());
            let made = made.unwrap_or(0);
            if made & libc::CLONE_NEWNET as u64 != 0 {
                // So with the child's step for it, which mostly finds it done.
                let _ = rsrun_init::loopback_up();
            }
            match told_soon(&told, awake) {
                Ok(Portable(mut birth)) => {
                    birth.flags &= !made;
                    if let Some(processors) = processors {
                        // From where `apart` has put it it may go anywhere again.
                        let _ = sched_setaffinity(Pid::from_raw(0), &processors);
                    }
                    on_thread(&birth)
                }
                Err(_) => Err(failed(Errno::ECANCELED)),
            }
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
        let size = size_of::<CpuSet>();
        // SAFETY: the thread is not joined yet; CpuSet is a cpu_set_t, of this size, and outlives the call. Where it can't be
        // done it runs where it is.
        unsafe {
            libc::pthread_setaffinity_np(
                self.thread.as_pthread_t(),
                size,
                (&raw const others).cast(),
            );
        }
    }

    /// Clones the process; returns its pid in this process's pid namespace, and what `meanwhile` did beside it.
    pub fn bear<T>(
        self,
        birth: Birth<'_>,
        meanwhile: impl FnOnce() -> T,
    ) -> (Result<i32, Stillborn>, T) {
        let thread = Labour(Some(self.thread));
        // SAFETY: the lifetime is only extended: the thread alone has the value from here on, and this function does
        // not return or unwind before the thread, and so all use of it, has ended (`Labour`).
        let birth =
            unsafe { std::mem::transmute::<Portable<'_>, Portable<'static>>(Portable(birth)) };
        // Nobody hears it where it failed before; the end of the thread tells why.
        let unheard = self.waits.send(birth);
        let done = meanwhile();
        let born = thread.end();
        drop(unheard);
        (born, done)
    }
}

fn told_soon<T>(told: &Receiver<T>, awake: Duration) -> Result<T, RecvError> {
    let until = Instant::now() + awake;
    while Instant::now() < until {
        match told.try_recv() {
            Ok(birth) => return Ok(birth),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => std::thread::yield_now(),
        }
    }
    told.recv()
}

/// A launch thread that has been told what to clone. Dropped, it is waited for.
struct Labour(Option<JoinHandle<Result<i32, Stillborn>>>);

impl Labour {
    fn end(mut self) -> Result<i32, Stillborn> {
        let ended = self.0.take().and_then(|thread| thread.join().ok());
        ended.unwrap_or(Err(failed(Errno::EFAULT)))
    }
}

impl Drop for Labour {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

fn failed(errno: Errno) -> Stillborn {
    Stillborn {
        call: "clone(CLONE_THREAD)",
        errno,
    }
}

fn on_thread(birth: &Birth<'_>) -> Result<i32, Stillborn> {
    unshare(libc::CLONE_FS as u64).map_err(named("unshare(CLONE_FS)"))?;
    close_others(&birth.keep).map_err(named("close_range"))?;
    occupy_streams(birth).map_err(named("dup3"))?;
    for (fd, flags) in &birth.joins {
        // SAFETY: only numbers are passed; the namespaces of this thread alone change.
        checked(unsafe { libc::syscall(libc::SYS_setns, *fd, *flags) }).map_err(named("setns"))?;
    }
    if let Some(root) = birth.root {
        // SAFETY: only numbers and a NUL-terminated text are passed; CLONE_FS is unshared.
        unsafe {
            checked(libc::fchdir(root).into()).map_err(named("fchdir"))?;
            checked(libc::chroot(c".".as_ptr()).into()).map_err(named("chroot"))?;
        }
    }
    if let Some(cpus) = birth.affinity {
        let size = size_of_val(cpus);
        // SAFETY: the mask has `size` bytes and outlives the call; thread 0 is this one alone.
        checked(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, cpus.as_ptr()) })
            .map_err(named("sched_setaffinity"))?;
    }
    if let Some(mask) = birth.keep_capabilities {
        restrict_capabilities(mask).map_err(named("capset"))?;
    }
    clone3(birth).map_err(named("clone3"))
}

fn named(call: &'static str) -> impl Fn(Errno) -> Stillborn {
    move |errno| Stillborn { call, errno }
}

/// New namespaces, or with CLONE_FS a root and working directory, for this thread alone.
fn unshare(flags: u64) -> nix::Result<()> {
    // SAFETY: only flags are passed.
    checked(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

/// The child must not run a handler of ours before it has reset them: all signals wait.
fn block_signals() -> nix::Result<()> {
    let every = u64::MAX;
    // SAFETY: `every` is a kernel sigset of 8 bytes that outlives the call; only this thread's mask changes.
    checked(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const every,
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    })
    .map(drop)
}

/// A descriptor table of the thread's own that holds `keep` only.
fn close_others(keep: &[RawFd]) -> nix::Result<()> {
    let highest = keep.last().map_or(0, |fd| fd.unsigned_abs());
    if highest as usize > keep.len().saturating_add(FEW) && fetch_kept(keep)? {
        return Ok(());
    }
    // This call unshares, and copies nothing above the last one that is kept.
    close_range(highest.saturating_add(1), u32::MAX, true)?;
    let mut next = 0;
    for fd in keep {
        let fd = fd.unsigned_abs();
        if fd > next {
            close_range(next, fd - 1, false)?;
        }
        next = fd.saturating_add(1);
    }
    Ok(())
}

/// So many descriptors are copied and closed again as quickly as those of a launch are fetched.
const FEW: usize = 64;

/// The same where thousands are open, as in the shim of a large pod: they are not copied, those that are kept are fetched
/// from the process into an empty table. Says whether it could be.
fn fetch_kept(keep: &[RawFd]) -> nix::Result<bool> {
    let pid = nix::unistd::getpid().as_raw();
    // A seccomp profile may know nothing of it, and what follows can't be taken back.
    let answers = |first| pidfd_open(pid).and_then(|process| pidfd_getfd(process.as_fd(), first));
    match keep.first() {
        // It would be in the way of the first descriptor of the new table.
        Some(first) if *first > 0 && answers(*first).is_ok() => {}
        _ => return Ok(false),
    }
    close_range(0, u32::MAX, true)?;
    let process = pidfd_open(pid)?;
    for number in keep {
        let fetched = pidfd_getfd(process.as_fd(), *number)?;
        if fetched.as_raw_fd() == *number {
            let _kept = fetched.into_raw_fd();
        } else {
            // SAFETY: only numbers are passed; the table is this thread's own, and nothing is at `number` yet: those
            // that are fetched get the lowest that are free, and `keep` ascends.
            checked(unsafe { libc::dup3(fetched.as_raw_fd(), *number, libc::O_CLOEXEC) }.into())?;
        }
    }
    Ok(true)
}

fn close_range(first: u32, last: u32, unshared: bool) -> nix::Result<()> {
    let flags = if unshared {
        libc::CLOSE_RANGE_UNSHARE
    } else {
        0
    };
    // SAFETY: only numbers are passed; with the flag, or after a call that had it, the table is this thread's own, and
    // the descriptors closed in it stay open in the process's.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// 0, 1 and 2 must not be the numbers of what the child opens for itself: its streams go there later.
/// Until then they are copies of the wake socket, which it has anyway.
fn occupy_streams(birth: &Birth<'_>) -> nix::Result<()> {
    for number in (0..3).filter(|number| !birth.keep.contains(number)) {
        // SAFETY: only numbers are passed; the table is this thread's own, and `number` is closed in it.
        checked(unsafe { libc::dup3(birth.frozen.wake, number, libc::O_CLOEXEC) }.into())?;
    }
    Ok(())
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapSets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Effective and permitted of this thread := what it has of `mask`; inheritable := none.
fn restrict_capabilities(mask: u64) -> nix::Result<()> {
    let mut header = CapHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut data = [CapSets::default(); 2];
    // SAFETY: header and data have the layout of version 3 and outlive the calls; raw capset changes
    // this thread alone.
    unsafe {
        checked(libc::syscall(
            libc::SYS_capget,
            &raw mut header,
            data.as_mut_ptr(),
        ))?;
        for (half, mask) in data.iter_mut().zip([mask as u32, (mask >> 32) as u32]) {
            half.permitted &= mask;
            half.effective = half.permitted;
            half.inheritable = 0;
        }
        checked(libc::syscall(
            libc::SYS_capset,
            &raw mut header,
            data.as_ptr(),
        ))
        .map(drop)
    }
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn clone3(birth: &Birth<'_>) -> nix::Result<i32> {
    let mut args = CloneArgs {
        flags: birth.flags,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = birth.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a whole clone_args that outlives the call. Without CLONE_VM the child has copies
    // of this stack and of the arena at the same addresses, so `birth.frozen` is valid there; it calls
    // `enter`, which uses no libc, no heap and no lock, and never returns.
    unsafe {
        let pid = libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>());
        if pid == 0 {
            rsrun_init::enter(birth.frozen);
        }
        checked(pid).map(|pid| pid as i32)
    }
}
