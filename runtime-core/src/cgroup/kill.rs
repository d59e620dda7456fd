//! How all processes of a cgroup are sent a signal.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::file;
use super::{Cgroup, Events};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::pidfd::{pidfd_open, pidfd_send_signal};
use crate::sys::procfs;

/// After so many rounds in which new processes came up, the cgroup is frozen for one more.
const ROUNDS: usize = 16;

/// How long freezing for that may take.
const FREEZE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Kills everything in it and below (frozen or forking, the kernel misses none) and waits until
    /// nothing is left that has not ended. `Timeout` after `within`, with the names of those that stay
    /// (in uninterruptible sleep). A cgroup that is gone is an empty one.
    pub fn kill(&self, within: Duration) -> Result<()> {
        let mut events = match Events::open(self) {
            Ok(events) => events,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        match file::write(self.dir(), "cgroup.kill", "1") {
            Ok(()) => {}
            Err(Errno::ENODEV) => return Ok(()),
            Err(Errno::ENOENT) if events.now().is_err_and(|error| is_gone(&error)) => return Ok(()),
            Err(errno) => {
                return Err(Error::os(
                    errno,
                    format!("write \"1\" to cgroup.kill of {}", self.path),
                ));
            }
        }
        match events.wait(within, |now| !now.populated) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "processes of cgroup {} did not end within {within:?} of SIGKILL: {}",
                    self.path,
                    self.describe_members()
                ),
            )),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends `signal` to every process in it and below, also to those that come up meanwhile.
    /// SIGKILL goes through `cgroup.kill`, without waiting; 0 only asks, `NotFound` when there is none.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL {
            return self.kill_without_waiting();
        }
        let mut sent = BTreeMap::new();
        for _ in 0..ROUNDS {
            if self.signal_new(signal, &mut sent)? == 0 {
                return match sent.is_empty() {
                    true => Err(Error::not_found(
                        "process",
                        "no process in the container's cgroup",
                    )),
                    false => Ok(()),
                };
            }
        }
        // It forks faster than we list. Frozen, nothing comes up; a signal is delivered at the thaw.
        let was_freezing = self.is_freezing()?;
        self.freeze(FREEZE)?;
        let last = self.signal_new(signal, &mut sent);
        if !was_freezing {
            self.thaw(FREEZE)?;
        }
        last.map(drop)
    }

    fn kill_without_waiting(&self) -> Result<()> {
        if !self.is_populated()? {
            return Err(Error::not_found(
                "process",
                "no process in the container's cgroup",
            ));
        }
        file::write_named(self.dir(), "cgroup.kill", "1")
    }

    /// One round: signals those that were not yet, and says how many they were.
    ///
    /// A pid may come round between listing and pidfd_open. So the descriptors are opened from one
    /// listing, and only what a second one still has is signalled: if the signal reaches the process,
    /// it was alive at that second listing, so the number was its own and it was in the cgroup.
    fn signal_new(&self, signal: i32, sent: &mut BTreeMap<i32, OwnedFd>) -> Result<usize> {
        // A process that has ended may have given its number to one that has not been signalled.
        sent.retain(|_, pidfd| pidfd_send_signal(pidfd.as_fd(), 0).is_ok());
        let mut opened = Vec::new();
        for pid in self.pids()? {
            if sent.contains_key(&pid) {
                continue;
            }
            match pidfd_open(pid) {
                Ok(pidfd) => opened.push((pid, pidfd)),
                Err(Errno::ESRCH) => {}
                Err(errno) => return Err(Error::os(errno, format!("pidfd_open({pid})"))),
            }
        }
        if opened.is_empty() {
            return Ok(0);
        }
        let still = self.pids()?;
        let mut reached = 0;
        for (pid, pidfd) in opened {
            if still.binary_search(&pid).is_err() {
                continue;
            }
            match pidfd_send_signal(pidfd.as_fd(), signal) {
                Ok(()) => {
                    sent.insert(pid, pidfd);
                    reached += 1;
                }
                Err(Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(errno).with(|| format!("pidfd_send_signal({pid}, {signal})"));
                }
            }
        }
        Ok(reached)
    }

    /// Pid, name and state of up to eight processes, for messages.
    fn describe_members(&self) -> String {
        let pids = self.pids().unwrap_or_default();
        let mut names: Vec<_> = pids
            .iter()
            .take(8)
            .map(|pid| {
                let stat = procfs::read(&format!("{pid}/stat")).unwrap_or_default();
                let name = stat
                    .split_once('(')
                    .and_then(|(_, rest)| rest.rsplit_once(')'));
                match name {
                    Some((name, rest)) => {
                        format!(
                            "{pid} ({name}, {})",
                            rest.trim_start().chars().next().unwrap_or('?')
                        )
                    }
                    None => pid.to_string(),
                }
            })
            .collect();
        if pids.len() > names.len() {
            names.push(format!("and {} more", pids.len() - names.len()));
        }
        names.join(", ")
    }
}

pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound { .. })
}
