//! Processes of containers: handles by pidfd, and the exits of this process's children.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::stage::Stages;
use crate::sys::pidfd::{Ended, has_ended, peek_ended, pidfd_open, pidfd_send_signal, reap};
use crate::sys::procfs::Stat;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// Host pid.
    pub pid: i32,
    /// Exit code, or 128 + signal.
    pub code: u32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether it had executed a program (`PF_FORKNOEXEC` was cleared).
    pub executed: bool,
    /// When it was reaped.
    pub at: SystemTime,
}

/// The exits of this process's children. One for each process of ours; whoever hears SIGCHLD calls
/// [`Children::reap`]. While a launch is in flight, exits are also kept for who claims them.
#[derive(Debug, Default)]
pub struct Children {
    /// Held for reading from clone3 until the pidfd is open, for writing while reaping: a pid can't
    /// come round again in between.
    births: RwLock<()>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    in_flight: usize,
    exits: HashMap<i32, Exit>,
}

/// While one lives, exits that nobody knows yet are kept. Dropped when the pid has been registered.
#[derive(Debug)]
pub struct Launching(Arc<Children>);

impl Drop for Launching {
    fn drop(&mut self) {
        let mut kept = self.0.kept();
        kept.in_flight -= 1;
        if kept.in_flight == 0 {
            kept.exits = HashMap::new();
        }
    }
}

impl Children {
    /// Reaps every child that has ended and returns the exits, in order. Never blocks on a child.
    pub fn reap(&self) -> Vec<Exit> {
        let mut exits = Vec::new();
        loop {
            let no_birth = self
                .births
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            // Peeking first, since PF_FORKNOEXEC can only be read before the reaping.
            let Ok(Some(ended)) = peek_ended() else {
                return exits;
            };
            let exit = self.reap_one(ended.pid);
            drop(no_birth);
            exits.extend(exit);
        }
    }

    /// The exit of `pid`, if it was reaped while a launch was in flight and not claimed yet.
    pub fn claim(&self, pid: i32) -> Option<Exit> {
        self.kept().exits.remove(&pid)
    }

    /// Announces a launch.
    pub fn launching(self: &Arc<Self>) -> Launching {
        self.kept().in_flight += 1;
        Launching(Arc::clone(self))
    }

    /// The exit of the child `pid` of a launch in flight, reaping it here if nobody has yet; `None`
    /// while it lives.
    pub fn collect(&self, pid: i32) -> Option<Exit> {
        let _no_birth = self
            .births
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(exit) = self.claim(pid) {
            return Some(exit);
        }
        let exit = has_ended(pid).then(|| self.reap_one(pid)).flatten()?;
        self.claim(pid);
        Some(exit)
    }

    /// Keeps children from being reaped, so that a pid just cloned still names the same process.
    pub(crate) fn birth(&self) -> RwLockReadGuard<'_, ()> {
        self.births
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A process was born with `pid`; called under [`Children::birth`]. An exit that is kept for this pid is that
    /// of an earlier process, an orphan that nobody claims: pids come round, and while launches overlap all
    /// that ended stays kept.
    pub(crate) fn born(&self, pid: i32) {
        self.kept().exits.remove(&pid);
    }

    /// The exit of `pid`, if it has been reaped already while a launch is in flight; left for who
    /// claims it. "Not yet" only holds under [`Children::birth`].
    pub(crate) fn seen(&self, pid: i32) -> Option<Exit> {
        self.kept().exits.get(&pid).copied()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn reap_one(&self, pid: i32) -> Option<Exit> {
        let executed = Stat::of(pid).is_ok_and(|stat| stat.has_executed());
        let exit = exit_of(reap(pid).ok().flatten()?, executed);
        let mut kept = self.kept();
        if kept.in_flight > 0 {
            kept.exits.insert(pid, exit);
        }
        Some(exit)
    }
}

fn exit_of(ended: Ended, executed: bool) -> Exit {
    let by_signal = ended.reason != libc::CLD_EXITED;
    let status = ended.status.unsigned_abs();
    Exit {
        pid: ended.pid,
        code: if by_signal {
            status.saturating_add(128)
        } else {
            status
        },
        signal: by_signal.then_some(ended.status),
        executed,
        at: SystemTime::now(),
    }
}

/// Gives up an operation that is waiting on another thread: an eventfd that wakes its polls.
/// Clones are the same operation; it also says what it is at.
#[derive(Clone, Debug)]
pub struct Cancel {
    event: Arc<OwnedFd>,
    stages: Stages,
}

impl Cancel {
    /// A new one, not triggered.
    pub fn new() -> Result<Self> {
        Ok(Self {
            event: Arc::new(crate::sys::fds::eventfd().with(|| "eventfd()")?),
            stages: Stages::default(),
        })
    }

    /// One that is triggered while `event` is readable, as a signalfd is whose signals nobody reads; in no other way.
    #[must_use]
    pub fn when_readable(event: OwnedFd) -> Self {
        Self {
            event: Arc::new(event),
            stages: Stages::default(),
        }
    }

    /// For one more operation: given up together with this one, at stages of its own.
    #[must_use]
    pub fn for_another(&self) -> Self {
        Self {
            event: Arc::clone(&self.event),
            stages: Stages::default(),
        }
    }

    /// What the operation is at.
    #[must_use]
    pub fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Makes every wait that was given this one return `ErrorKind::Cancelled`.
    pub fn trigger(&self) {
        // An eventfd takes any number of ones; only a counter near 2^64 would refuse.
        let _ = nix::unistd::write(self.event.as_ref(), &1u64.to_ne_bytes());
    }

    /// Whether it was triggered.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        let mut fds = [PollFd::new(self.event.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
    }

    /// Waits for `pause`, unless this is triggered meanwhile.
    pub fn pause(&self, pause: Duration) -> Result<()> {
        match self.wait(&[], Some(Instant::now() + pause)) {
            Err(e) if *e.kind() == ErrorKind::Timeout => Ok(()),
            woken => woken.map(drop),
        }
    }

    /// Waits until one of `fds` is ready, `deadline` passes (`Timeout`) or this is triggered.
    /// Gives what each is ready for; a descriptor asked for nothing still reports hang-up and error.
    pub fn wait(
        &self,
        fds: &[(BorrowedFd<'_>, PollFlags)],
        deadline: Option<Instant>,
    ) -> Result<Vec<PollFlags>> {
        let mut polled: Vec<_> = fds
            .iter()
            .map(|(fd, flags)| PollFd::new(*fd, *flags))
            .collect();
        polled.push(PollFd::new(self.event.as_fd(), PollFlags::POLLIN));
        loop {
            match poll(&mut polled, time_left(deadline)) {
                Ok(0) => return Err(Error::new(ErrorKind::Timeout, "timed out")),
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::os(errno, "poll()")),
            }
        }
        let ready: Vec<_> = polled
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()))
            .collect();
        match ready.split_last() {
            Some((cancelled, _)) if !cancelled.is_empty() => Err(Error::new(
                ErrorKind::Cancelled,
                "the operation was given up",
            )),
            Some((_, ready)) => Ok(ready.to_vec()),
            None => Ok(Vec::new()),
        }
    }
}

fn time_left(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else {
        return PollTimeout::NONE;
    };
    // Rounded up, so that a wait never ends just before its deadline and spins.
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

/// A process by pid and pidfd: signals can't reach a stranger that got the number later.
#[derive(Debug)]
pub struct ProcessHandle {
    pid: i32,
    pidfd: OwnedFd,
}

impl ProcessHandle {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    /// The process `pid` that started at `start_time`; `None` when it is gone or the number belongs to
    /// another by now.
    pub(crate) fn open(pid: i32, start_time: u64) -> Result<Option<Self>> {
        let pidfd = match pidfd_open(pid) {
            Ok(pidfd) => pidfd,
            Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
            Err(errno) => return Err(Error::os(errno, format!("pidfd_open({pid})"))),
        };
        // Compared after opening: if it matches, the pidfd is the one that was meant.
        match Stat::of(pid) {
            Ok(stat) if stat.start_time == start_time => Ok(Some(Self { pid, pidfd })),
            Ok(_) | Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
            Err(errno) => Err(Error::os(errno, format!("read(/proc/{pid}/stat)"))),
        }
    }

    /// Host pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends `signal` (0 only asks). `NotFound` "process already finished" when it has ended.
    pub fn kill(&self, signal: i32) -> Result<()> {
        match pidfd_send_signal(self.pidfd.as_fd(), signal) {
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => Err(Error::not_found("process", "process already finished")),
            Err(errno) => Err(Error::os(
                errno,
                format!("pidfd_send_signal({}, {signal})", self.pid),
            )),
        }
    }

    /// Whether it has ended, reaped or not.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
    }

    /// Whether it has ended, or has begun to: from then on nothing can join it.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.has_ended() || Stat::of(self.pid).is_ok_and(|stat| stat.is_exiting())
    }

    /// Waits until it has ended.
    pub fn wait_ended(&self, deadline: Option<Instant>, cancel: &Cancel) -> Result<()> {
        cancel
            .wait(&[(self.pidfd.as_fd(), PollFlags::POLLIN)], deadline)
            .map(drop)
            .with(|| format!("wait for the end of process {}", self.pid))
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
