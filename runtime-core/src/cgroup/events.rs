//! How a change in a cgroup is waited for: `cgroup.events` and `memory.events`, held open and polled.
//!
//! The kernel wakes `poll(POLLPRI)` on such an open file when its content changes since it was last
//! read (kernfs_notify), so no inotify instance is needed: 128 of them are all a host has by default.
//! The wake of a change that comes within 10 ms of the last one is put off to the end of these 10 ms
//! (CGROUP_FILE_NOTIFY_MIN_INTV): [`Events::wait`] therefore looks itself for the first ones.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::Cgroup;
use super::file::{self, Buffer};
use crate::error::{Error, Result};

const FILE: &str = "cgroup.events";

/// First and longest time between two looks at the file while a wake may be put off.
const FIRST_LOOK: Duration = Duration::from_micros(100);
const LAST_LOOK: Duration = Duration::from_millis(10);

/// What `cgroup.events` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// A process that has not ended is in it or below.
    pub populated: bool,
    /// Every process in it and below is frozen.
    pub frozen: bool,
}

/// `cgroup.events`, held open. Poll it for `POLLPRI` (edge-triggered in epoll), then ask [`Events::now`].
#[derive(Debug)]
pub struct Events {
    file: OwnedFd,
    buffer: Buffer,
}

impl Events {
    /// Opens it. `NotFound` when the cgroup is gone.
    pub fn open(cgroup: &Cgroup) -> Result<Self> {
        Self::open_at(cgroup.dir())
    }

    pub(super) fn open_at(dir: BorrowedFd<'_>) -> Result<Self> {
        let file = file::open(dir, FILE, OFlag::O_RDONLY).map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENODEV => gone(),
            other => Error::os(other, format!("openat({FILE})")),
        })?;
        Ok(Self {
            file,
            buffer: Buffer::default(),
        })
    }

    /// Its present state. `NotFound` when the cgroup is gone.
    pub fn now(&mut self) -> Result<State> {
        let content = self
            .buffer
            .reread(self.file.as_fd(), FILE)?
            .ok_or_else(gone)?;
        let mut state = State::default();
        for (key, value) in counters(content) {
            match key {
                "populated" => state.populated = value != 0,
                "frozen" => state.frozen = value != 0,
                _ => {}
            }
        }
        Ok(state)
    }

    /// Waits until `wanted`, for no longer than `within`; whether it came to that.
    pub fn wait(&mut self, within: Duration, wanted: impl Fn(State) -> bool) -> Result<bool> {
        let end = Instant::now() + within;
        let mut look = FIRST_LOOK;
        let mut looked_for = Duration::ZERO;
        loop {
            if wanted(self.now()?) {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // Past two of the kernel's intervals a wake can't be pending any more.
            let pause = if looked_for < LAST_LOOK * 2 {
                look.min(left)
            } else {
                left
            };
            let mut poll = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
            match ppoll(&mut poll, Some(TimeSpec::from_duration(pause)), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::os(errno, format!("ppoll({FILE})"))),
            }
            looked_for += pause;
            look = (look * 2).min(LAST_LOOK);
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The counters of `memory.events`: hierarchical, so what happens in sub-cgroups counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryCounts {
    /// Reclaimed though below memory.low.
    pub low: u64,
    /// Throttled because above memory.high.
    pub high: u64,
    /// About to go above memory.max.
    pub max: u64,
    /// The limit was hit and reclaim did not help; the OOM killer may have come or not.
    pub oom: u64,
    /// Processes that the OOM killer ended: this is what an OOM event tells of.
    pub oom_kill: u64,
    /// Times that it ended all of a group (`memory.oom.group`).
    pub oom_group_kill: u64,
}

impl MemoryCounts {
    pub(super) fn parse(content: &str) -> Self {
        let mut counts = Self::default();
        for (key, value) in counters(content) {
            match key {
                "low" => counts.low = value,
                "high" => counts.high = value,
                "max" => counts.max = value,
                "oom" => counts.oom = value,
                "oom_kill" => counts.oom_kill = value,
                "oom_group_kill" => counts.oom_group_kill = value,
                _ => {}
            }
        }
        counts
    }
}

/// `memory.events`, held open. Poll it for `POLLPRI` (edge-triggered in epoll), then ask
/// [`MemoryEvents::now`]. At the exit of the init ask once more before that exit is told.
#[derive(Debug)]
pub struct MemoryEvents {
    file: OwnedFd,
    buffer: Buffer,
}

impl MemoryEvents {
    const FILE: &str = "memory.events";

    /// Opens it; `None` when the cgroup has no memory controller.
    pub fn open(cgroup: &Cgroup) -> Result<Option<Self>> {
        match file::open(cgroup.dir(), Self::FILE, OFlag::O_RDONLY) {
            Ok(file) => Ok(Some(Self {
                file,
                buffer: Buffer::default(),
            })),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
            Err(errno) => Err(Error::os(errno, format!("openat({})", Self::FILE))),
        }
    }

    /// Its present counters; `None` when the cgroup is gone.
    pub fn now(&mut self) -> Result<Option<MemoryCounts>> {
        Ok(self
            .buffer
            .reread(self.file.as_fd(), Self::FILE)?
            .map(MemoryCounts::parse))
    }
}

impl AsFd for MemoryEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `key number` lines.
pub(super) fn counters(content: &str) -> impl Iterator<Item = (&str, u64)> {
    content.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

pub(super) fn gone() -> Error {
    Error::not_found("cgroup", "the cgroup is gone")
}
