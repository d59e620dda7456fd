//! How a cgroup and all that its processes made below it is removed.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::kill::is_gone;
use super::walk::walk;
use super::{Cgroup, Events, Mount, open_below};
use crate::error::{Context, Error, ErrorKind, Result};

/// Between tries when neither a process nor a cgroup below explains EBUSY (one just being made).
const PAUSE: Duration = Duration::from_millis(1);

impl Cgroup {
    /// Removes it, those below it first. Waits for processes that are ending, for no longer than
    /// `within`; it kills none. A cgroup that is gone already is removed; one that another was made
    /// in place of is left alone.
    pub fn remove(&self, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        loop {
            match self.remove_once()? {
                Removed::Gone => return Ok(()),
                Removed::Busy => {}
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("cgroup {} is still busy after {within:?}", self.path),
                ));
            }
            match self.wait_for_change(left) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
    }

    /// Removes it if neither processes nor cgroups are below it; whether it is gone.
    pub fn remove_if_empty(&self) -> Result<bool> {
        Ok(matches!(self.rmdir()?, Removed::Gone))
    }

    fn wait_for_change(&self, within: Duration) -> Result<()> {
        let mut events = Events::open(self)?;
        if events.now()?.populated {
            events.wait(within, |now| !now.populated).map(drop)
        } else {
            std::thread::sleep(PAUSE.min(within));
            Ok(())
        }
    }

    fn remove_once(&self) -> Result<Removed> {
        // The common case has nothing below.
        if let Removed::Gone = self.rmdir()? {
            return Ok(Removed::Gone);
        }
        let busy = walk(
            self.dir(),
            |_| Ok::<(), Errno>(()),
            |parent, name| match unlinkat(parent, name.as_c_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT | Errno::EBUSY) => Ok(()),
                Err(errno) => Err(errno),
            },
        );
        match busy {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => self.rmdir(),
            Err(errno) => Err(Error::os(
                errno,
                format!("rmdir below cgroup {}", self.path),
            )),
        }
    }

    fn rmdir(&self) -> Result<Removed> {
        let name = self
            .path
            .rsplit_once('/')
            .map_or(self.path.as_str(), |(_, name)| name);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let parent = match openat(self.dir(), "..", flags, Mode::empty()) {
            Ok(parent) => parent,
            Err(Errno::ENOENT) => return Ok(Removed::Gone),
            Err(errno) => {
                return Err(Error::os(
                    errno,
                    format!("open the parent of cgroup {}", self.path),
                ));
            }
        };
        match fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) if found.st_ino == self.inode => {}
            Ok(_) | Err(Errno::ENOENT) => return Ok(Removed::Gone),
            Err(errno) => return Err(Error::os(errno, format!("stat cgroup {}", self.path))),
        }
        match unlinkat(parent.as_fd(), name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(Removed::Gone),
            Err(Errno::EBUSY) => Ok(Removed::Busy),
            Err(errno) => Err(errno).with(|| format!("rmdir cgroup {}", self.path)),
        }
    }
}

enum Removed {
    Gone,
    Busy,
}

/// Removes the cgroup at `path` if it has neither processes nor cgroups below it; anything else stays.
pub fn remove_if_empty(mount: &Mount, path: &str) -> Result<()> {
    let Ok(_there) = open_below(mount.dir(), path) else {
        return Ok(());
    };
    let relative = path.trim_start_matches('/');
    match nix::unistd::unlinkat(mount.dir(), relative, nix::unistd::UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT | Errno::EBUSY | Errno::ENOTEMPTY) => Ok(()),
        Err(errno) => Err(Error::os(errno, format!("rmdir(cgroup {path})"))),
    }
}
