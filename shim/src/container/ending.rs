//! The end of an init: what has to happen before anybody is told of it, and in which order.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;
use rsrun_core::cgroup::MemoryEvents;
use rsrun_core::container::Scope;
use rsrun_core::{Container, Exit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Owner;
use super::policy::Init;
use crate::convert;
use crate::event::What;

impl Owner {
    /// The init was reaped. Told after a Start that is still under way.
    pub fn init_exited(self: &Rc<Self>, exit: Exit) {
        let before = self.state();
        if before == Init::Starting {
            self.facts.borrow_mut().early_exit = Some(exit);
            return;
        }
        self.set_state(Init::Ending);
        self.ending.notify_waiters();
        let owner = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let _noted = owner.operations.begin("end of init");
            owner
                .stop_the_rest(matches!(before, Init::Pausing | Init::Paused))
                .await;
            owner.tell_exit(exit).await;
        });
    }

    /// No process of the container outlives its init: in a pid namespace of its own the kernel sees to it.
    async fn stop_the_rest(&self, frozen: bool) {
        let shared = self
            .core()
            .is_ok_and(|core| !core.has_private_pid_namespace());
        if frozen {
            // A frozen cgroup would keep what is left from dying and from being removed.
            self.note(self.on_core("thaw", thaw).await);
        }
        if shared {
            let killed = self
                .on_core("kill the rest", |core| {
                    core.kill(Signal::SIGKILL as i32, Scope::All)
                })
                .await;
            self.note(killed.or_else(|failure| match failure.code {
                ttrpc::Code::NOT_FOUND => Ok(()),
                _ => Err(failure),
            }));
        }
        while self.live_execs.get() > 0 {
            self.exec_gone.notified().await;
        }
    }

    /// Reads the last counters (an out-of-memory kill is told before the exit that it explains), records the exit
    /// on disk, and only then tells containerd and those who wait.
    async fn tell_exit(self: &Rc<Self>, exit: Exit) {
        let last = self
            .on_core("record exit", move |core| {
                let stats = core.stats();
                core.record_exit(&exit)?;
                Ok(stats)
            })
            .await;
        match last {
            Ok(Ok(stats)) => {
                self.oom_kills_are(stats.memory_events.map_or(0, |counts| counts.oom_kill));
                self.facts.borrow_mut().last_stats = Some(stats);
            }
            Ok(Err(error)) => log::debug!("container {}: last counters: {error}", self.id),
            Err(failure) => self.note(Err(failure)),
        }
        self.set_state(Init::Stopped);
        self.publish(What::Exited(convert::ended(self.id.as_str(), &exit)));
        self.exit.send_replace(Some(exit));
        if let Some(stdio) = self.facts.borrow().stdio.clone() {
            stdio.exited();
        }
    }

    /// Tells of out-of-memory kills as they come. Polls the open file: an inotify instance for each shim would
    /// run out at 128 shims.
    pub fn watch_memory(self: &Rc<Self>) {
        let events = self
            .core()
            .ok()
            .and_then(|core| MemoryEvents::open(core.cgroup()?).ok()?);
        let Some(events) = events else { return };
        let owner = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if let Err(error) = owner.follow_memory(events).await {
                log::debug!("container {}: memory.events: {error}", owner.id);
            }
        });
    }

    async fn follow_memory(&self, mut events: MemoryEvents) -> std::io::Result<()> {
        // A duplicate shares what has been seen of the file with the original, which reads it.
        let woken = watched(events.as_fd().try_clone_to_owned()?)?;
        let mut exit = self.exit.subscribe();
        loop {
            tokio::select! {
                // From here on tell_exit does the counting: nothing may be told after the exit.
                _ = exit.wait_for(Option::is_some) => return Ok(()),
                ready = woken.ready(Interest::PRIORITY) => ready?.clear_ready(),
            }
            match events.now() {
                Ok(Some(counts)) if self.exit.borrow().is_none() => {
                    self.oom_kills_are(counts.oom_kill)
                }
                _ => return Ok(()),
            }
        }
    }

    /// Publishes an out-of-memory event if the counter has grown.
    pub fn oom_kills_are(&self, count: u64) {
        let before = self.facts.borrow().oom_kills;
        if count > before {
            self.facts.borrow_mut().oom_kills = count;
            self.publish(What::OutOfMemory);
        }
    }

    fn note(&self, outcome: crate::failure::Result<()>) {
        if let Err(failure) = outcome {
            log::warn!("container {}: {failure}", self.id);
        }
    }
}

/// Its init has ended, so the container's own resume would refuse.
fn thaw(container: &Container) -> rsrun_core::Result<()> {
    match container.cgroup() {
        Some(cgroup) => cgroup.thaw(THAWED),
        None => Ok(()),
    }
}

/// A file of the kernel that is polled for its changes.
#[expect(
    deprecated,
    reason = "the constructor that replaces it is unsafe for the sake of types that are not an OwnedFd"
)]
fn watched(file: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(file, Interest::PRIORITY)
}

/// How long the kernel may take to thaw a cgroup.
const THAWED: Duration = Duration::from_secs(2);
