//! How a container is paused and resumed.

use std::time::Duration;

use super::events::State;
use super::file::{self, Buffer};
use super::{Cgroup, Events};
use crate::error::{Error, ErrorKind, Result};

const FILE: &str = "cgroup.freeze";

impl Cgroup {
    /// Freezes everything in it and below, and waits until it is. `Timeout` after `within` (a process
    /// in uninterruptible sleep can't be frozen); it is thawed again then.
    pub fn freeze(&self, within: Duration) -> Result<()> {
        let mut events = Events::open(self)?;
        file::write_named(self.dir(), FILE, "1")?;
        let frozen = events.wait(within, |now| now.frozen);
        match frozen {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.thawed_after(Error::new(
                ErrorKind::Timeout,
                format!("cgroup {} was not frozen within {within:?}", self.path),
            ))),
            Err(error) => Err(self.thawed_after(error)),
        }
    }

    /// A cgroup left half frozen after an error would hang what comes next.
    fn thawed_after(&self, error: Error) -> Error {
        match file::write_named(self.dir(), FILE, "0") {
            Ok(()) => error,
            Err(second) => error.during(format!("({second})")),
        }
    }

    /// Thaws it, and waits until its processes run again. `Timeout` after `within`: a cgroup above
    /// it is frozen.
    pub fn thaw(&self, within: Duration) -> Result<()> {
        let mut events = Events::open(self)?;
        file::write_named(self.dir(), FILE, "0")?;
        if events.wait(within, |now| !now.frozen)? {
            Ok(())
        } else {
            Err(Error::new(
                ErrorKind::Timeout,
                format!("cgroup {} was not thawed within {within:?}", self.path),
            ))
        }
    }

    /// Whether all of it is frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        Ok(self.state()?.frozen)
    }

    /// Whether a process is in it or below that has not ended.
    pub fn is_populated(&self) -> Result<bool> {
        Ok(self.state()?.populated)
    }

    /// Both at once. `NotFound` when the cgroup is gone.
    pub fn state(&self) -> Result<State> {
        Events::open(self)?.now()
    }

    /// Whether freezing was asked for here; it may not have come to it yet.
    pub(super) fn is_freezing(&self) -> Result<bool> {
        let mut buffer = Buffer::default();
        Ok(buffer
            .read(self.dir(), FILE)?
            .is_some_and(|content| content.trim() == "1"))
    }
}
