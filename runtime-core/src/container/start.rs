//! Start: opens the gate and learns whether the program runs.
//!
//! The gate is a fifo. Who starts opens it for reading without waiting; the init, blocked in its own
//! open for writing, goes on, keeps the descriptor until execve closes it, or writes into it which
//! step failed. So the end of file asks the kernel's flag and data is a failure: the same for the
//! shim, which made the init, and for a command line that did not.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::hooks::Runner;
use super::{Container, KILL_PATIENCE, Status};
use crate::error::{Context, Error, ErrorKind, Result, errno_text};
use crate::process::{Cancel, Exit, ProcessHandle};
use crate::sys::procfs::Stat;

/// From the opening of the gate to execve.
const PATIENCE: Duration = Duration::from_secs(30);

impl Container {
    /// startContainer hooks, opens the gate, waits for execve, poststart hooks. An error means the
    /// program does not run (or a hook failed and the init was killed).
    pub fn start(&self, cancel: &Cancel) -> Result<()> {
        self.start_locked(cancel)
            .with(|| format!("start container {}", self.id))
    }

    fn start_locked(&self, cancel: &Cancel) -> Result<()> {
        let hooks = &self.record.hooks;
        let runs_already = self.runs_already.swap(false, Ordering::AcqRel);
        if runs_already && hooks.poststart.is_empty() {
            return Ok(());
        }
        let _lock = {
            let _stage = cancel.stages().enter("the lock of its record");
            match self.entry.lock_until(Some(Instant::now()), cancel)? {
                Some(lock) => lock,
                // A create has it for as long as its hooks take.
                None => {
                    self.need_created()?;
                    self.entry.lock(cancel)?
                }
            }
        };
        if !runs_already {
            self.need_created()?;
        }
        let Some(init) = &self.init else {
            return Err(super::finished());
        };
        let cgroup = self.cgroup.as_ref();
        let runner = Runner {
            children: &self.children,
            cancel,
            entry: &self.entry,
            record: &self.record,
            init: Some(init),
            cgroup,
            host: &self.host,
        };
        let gone_through = match runs_already {
            true => Ok(()),
            false => runner
                .run_all(
                    "startContainer",
                    &hooks.start_container,
                    &runner.inside()?,
                    Status::Created,
                )
                .and_then(|()| self.open_gate(init, cancel)),
        };
        let started = gone_through.and_then(|()| {
            runner.run_all(
                "poststart",
                &hooks.poststart,
                &runner.on_host(),
                Status::Running,
            )
        });
        if started.is_err() {
            // Half a start is none: neither hook nor gate can be tried again.
            let _ = init.kill(libc::SIGKILL);
            let _ = init.wait_ended(Some(Instant::now() + KILL_PATIENCE), &Cancel::new()?);
        }
        started
    }

    fn need_created(&self) -> Result<()> {
        match self.status()? {
            Status::Created => Ok(()),
            found => Err(self.wrong_status(found, "created")),
        }
    }

    fn open_gate(&self, init: &ProcessHandle, cancel: &Cancel) -> Result<()> {
        let launching = self.children.launching();
        let gate = self.entry.open_gate()?;
        let deadline = Instant::now() + PATIENCE;
        let _stage = cancel.stages().enter("the init's execve behind the gate");
        let ready = cancel
            .wait(
                &[
                    (gate.as_fd(), PollFlags::POLLIN),
                    (init.as_fd(), PollFlags::POLLIN),
                ],
                Some(deadline),
            )
            .with(|| "wait for execve behind the gate")?;
        // The end of file of somebody who was there: nothing of it is seen before the init has come through.
        let passed = ready.first().is_some_and(|gate| !gate.is_empty());
        self.entry.remove_fifo()?;
        let verdict = match read_failure(&gate)? {
            Some((step, errno)) => Err(self.failed_step(step, errno)),
            None if passed && self.has_executed(init)? => Ok(()),
            None => Err(self.ended_behind_gate()),
        };
        drop(launching);
        verdict
    }

    fn has_executed(&self, init: &ProcessHandle) -> Result<bool> {
        if let Some(Exit { executed, .. }) = self.children.seen(init.pid()) {
            return Ok(executed);
        }
        match Stat::of(init.pid()) {
            Ok(stat) => Ok(stat.has_executed()),
            // Reaped between the two looks (by the shim's reaper, which keeps exits while a launch is in
            // flight), or by whoever is the parent of a container that the command line created.
            Err(Errno::ENOENT | Errno::ESRCH) => Ok(self
                .children
                .seen(init.pid())
                .is_none_or(|exit| exit.executed)),
            Err(errno) => Err(Error::os(errno, format!("read(/proc/{}/stat)", init.pid()))),
        }
    }

    fn failed_step(&self, step: u32, errno: i32) -> Error {
        let words = self
            .record
            .steps_after_gate
            .get(&step)
            .cloned()
            .unwrap_or_else(|| format!("step {step}"));
        let text = errno_text(Errno::from_raw(errno));
        let is_execute = self.record.steps_after_gate.keys().next_back() == Some(&step);
        let text = if is_execute {
            format!("exec {}: {text}", self.record.program)
        } else {
            format!("{words}: {text}")
        };
        Error::new(ErrorKind::Init { step: words, errno }, text)
    }

    fn ended_behind_gate(&self) -> Error {
        let text = "the init ended before it executed its program";
        Error::new(
            ErrorKind::Init {
                step: "behind the gate".into(),
                errno: 0,
            },
            text,
        )
    }
}

/// What the init wrote into the fifo: {step, errno}, native byte order. `None` at its end.
fn read_failure(gate: &OwnedFd) -> Result<Option<(u32, i32)>> {
    let mut message = [0u8; 8];
    match nix::unistd::read(gate, &mut message) {
        Ok(8) => {
            let [a, b, c, d, e, f, g, h] = message;
            Ok(Some((
                u32::from_ne_bytes([a, b, c, d]),
                i32::from_ne_bytes([e, f, g, h]),
            )))
        }
        Ok(_) | Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(Error::os(errno, "read(exec.fifo)")),
    }
}
