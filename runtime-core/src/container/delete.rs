//! Delete: processes, cgroup, mounts, hooks of the end, record. Also of what a crash has left.

use std::time::{Duration, Instant};

use super::hooks::Runner;
use super::{Container, Containers, Deleted, KILL_PATIENCE, Status};
use crate::cgroup::{Cgroup, Mount};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::process::{Cancel, ProcessHandle};
use crate::store::Entry;
use crate::store::lock::Lock;

/// How long a delete without force waits for who has the container's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How long who has the lock may take to come to its end, once the container is killed.
const TAKE_OVER: Duration = Duration::from_secs(2);

/// What an init takes to end, once killed, when nobody holds it up.
const MOMENT: Duration = Duration::from_millis(200);

impl Container {
    /// The lock. With force `None` where it is still another's, and must not be waited for.
    fn lock_to_delete(&self, force: bool, cancel: &Cancel) -> Result<Option<Lock>> {
        let _stage = cancel.stages().enter("the lock of its record");
        if force {
            return lock_by_force(&self.entry, || self.kill_all(), cancel);
        }
        let patience = Some(Instant::now() + LOCK_PATIENCE);
        match self.entry.lock_until(patience, cancel)? {
            None => Err(Error::new(
                ErrorKind::Timeout,
                "another operation on it is under way: it may wait for a hook",
            )),
            lock => Ok(lock),
        }
    }

    /// Without waiting for the end of its init.
    fn kill_all(&self) -> Result<()> {
        match &self.cgroup {
            Some(cgroup) => cgroup.kill(KILL_PATIENCE)?,
            // A create that was under way when the record was read may have made it since.
            None => kill_noted(&self.entry)?,
        }
        if let Some(init) = &self.init {
            let _ = init.kill(libc::SIGKILL);
        }
        Ok(())
    }

    /// Removes its cgroup and whatever lives there, and runs the poststop hooks. `WrongStatus` while it
    /// runs and `force` is false. The record is removed last (by [`Containers::delete`]): until then
    /// a second try finds everything.
    fn dismantle(&self, force: bool, cancel: &Cancel) -> Result<Deleted> {
        match self.status()? {
            Status::Running | Status::Paused if !force => {
                return Err(self.wrong_status(self.status()?, "stopped or created"));
            }
            Status::Creating if !force => {
                return Err(self.wrong_status(Status::Creating, "stopped or created"));
            }
            _ => {}
        }
        let stages = cancel.stages();
        let init = self.init.as_ref().filter(|init| !init.has_ended());
        // Mostly nothing is left where the init has ended.
        let cgroup = match &self.cgroup {
            Some(cgroup) if init.is_none() && cgroup.remove_if_empty()? => None,
            cgroup => cgroup.as_ref(),
        };
        if let Some(cgroup) = cgroup {
            let _stage = stages.enter("the end of every process in its cgroup");
            cgroup.kill(KILL_PATIENCE)?;
        }
        if let Some(init) = init {
            // NotFound: the end of its cgroup was its end too.
            let _ = init.kill(libc::SIGKILL);
            let _stage = stages.enter("the end of its init");
            self.wait_for_end(init)?;
        }
        if let Some(cgroup) = cgroup {
            let _stage = stages.enter("the removal of its cgroup");
            cgroup.remove(KILL_PATIENCE)?;
        }
        self.remove_stale_cgroup()?;
        self.poststop(cancel);
        Ok(Deleted {
            pid: self.pid(),
            exit: self.entry.exit(),
        })
    }

    /// The init of a pid namespace does not end while a dead process of it waits for its parent: an exec
    /// whose caller asks for this delete before it reaps. Nothing runs any more once the cgroup is
    /// empty, so no more than a moment is given to such an init.
    fn wait_for_end(&self, init: &ProcessHandle) -> Result<()> {
        let patience = match self.cgroup {
            Some(_) => MOMENT,
            None => KILL_PATIENCE,
        };
        let end = Some(std::time::Instant::now() + patience);
        match init.wait_ended(end, &Cancel::new()?) {
            Err(e) if *e.kind() == ErrorKind::Timeout && self.cgroup.is_some() => {
                log::debug!("container {}: its init still waits for the dead", self.id);
                Ok(())
            }
            result => result,
        }
    }

    /// A directory at the recorded path that is not known to be the container's own (another boot, or only
    /// intended): rmdir takes it only when nobody is in it.
    fn remove_stale_cgroup(&self) -> Result<()> {
        match (&self.cgroup, &self.record.cgroup) {
            (None, Some(facts)) => crate::cgroup::remove_if_empty(&Mount::find()?, &facts.path),
            _ => Ok(()),
        }
    }

    /// A failing poststop hook does not keep a container from being deleted (the specification says
    /// to log it and go on; an edge may look at the debug log).
    fn poststop(&self, cancel: &Cancel) {
        if self.record.init.is_none() {
            return;
        }
        let runner = Runner {
            children: &self.children,
            cancel,
            entry: &self.entry,
            record: &self.record,
            init: None,
            cgroup: None,
            host: &self.host,
        };
        for hook in &self.record.hooks.poststop {
            let one = std::slice::from_ref(hook);
            if let Err(e) = runner.run_all("poststop", one, &runner.on_host(), Status::Stopped) {
                log::debug!("container {}: {e}", self.id);
            }
        }
    }
}

impl Containers {
    /// Removes a container. `WrongStatus` while it runs and `force` is false.
    pub fn delete(&self, container: &Container, force: bool, cancel: &Cancel) -> Result<Deleted> {
        let doing = || format!("delete container {}", container.id);
        let locked = container.lock_to_delete(force, cancel);
        if container.entry.is_gone().with(doing)? {
            // Who had the lock has removed it.
            return match force {
                true => Ok(Deleted {
                    pid: container.pid(),
                    exit: None,
                }),
                false => Err(container.entry.not_found()),
            };
        }
        let lock = locked.with(doing)?;
        let again;
        let container = if container.record.init.is_some() {
            container
        } else {
            // What was read was a creation under way, and may have come to its end before the lock was had.
            again = self.get(&container.id).with(doing)?;
            &again
        };
        let deleted = container.dismantle(force, cancel).with(doing)?;
        self.store
            .remove(&container.id, &container.entry)
            .with(doing)?;
        drop(lock);
        Ok(deleted)
    }

    /// Removes whatever is left of `id`, however damaged: processes, cgroup, record. Succeeds when
    /// nothing is there.
    pub fn force_delete(&self, id: &ContainerId, cancel: &Cancel) -> Result<Deleted> {
        loop {
            let damaged = match self.get(id) {
                Ok(container) => return self.delete(&container, true, cancel),
                Err(e) if matches!(e.kind(), ErrorKind::Corrupt { .. }) => self
                    .delete_damaged(id, cancel)
                    .with(|| format!("delete container {id}")),
                Err(e) => Err(e),
            };
            match damaged {
                Ok(None) => {}
                Ok(Some(deleted)) => return Ok(deleted),
                Err(e) if matches!(e.kind(), ErrorKind::NotFound { .. }) => {
                    return Ok(Deleted { pid: 0, exit: None });
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Removes what has no record that can be read. `None` where it has one by now: a create was about to write it.
    fn delete_damaged(&self, id: &ContainerId, cancel: &Cancel) -> Result<Option<Deleted>> {
        let entry = self.store.entry(id)?;
        let locked = lock_by_force(&entry, || kill_noted(&entry), cancel);
        if entry.is_gone()? {
            return Err(entry.not_found());
        }
        let lock = locked?;
        if lock.is_some() && entry.record().is_ok() {
            return Ok(None);
        }
        let exit = entry.exit();
        if let Some(cgroup) = noted_cgroup(&entry) {
            cgroup.kill(KILL_PATIENCE)?;
            cgroup.remove(KILL_PATIENCE)?;
        }
        self.store.remove(id, &entry)?;
        Ok(Some(Deleted {
            pid: exit.map_or(0, |exit| exit.pid),
            exit,
        }))
    }
}

/// The lock of a container that is to go. Who has it and hangs, in a hook above all, loses the container's processes
/// to `kill`, and without them comes to its end. If it does not (`None`), the container is removed all the same; every
/// other operation finds it gone.
fn lock_by_force(
    entry: &Entry,
    kill: impl FnOnce() -> Result<()>,
    cancel: &Cancel,
) -> Result<Option<Lock>> {
    if let Some(lock) = entry.lock_until(Some(Instant::now() + MOMENT), cancel)? {
        return Ok(Some(lock));
    }
    kill()?;
    entry.lock_until(Some(Instant::now() + TAKE_OVER), cancel)
}

/// Kills whatever is in the cgroup that is noted beside the record.
fn kill_noted(entry: &Entry) -> Result<()> {
    noted_cgroup(entry).map_or(Ok(()), |cgroup| cgroup.kill(KILL_PATIENCE))
}

/// The cgroup that is noted beside the record, if it still is that one.
fn noted_cgroup(entry: &Entry) -> Option<Cgroup> {
    let (path, inode) = entry.cgroup_link()?;
    super::open_cgroup(&path, inode).ok()?
}
