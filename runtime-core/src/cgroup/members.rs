//! Which processes are in a cgroup, and in which one below it a process is.

use super::file::Buffer;
use super::mount::{below, unified_path};
use super::walk::walk;
use super::{Cgroup, Error};
use crate::error::{Context, Result};
use crate::process::ProcessHandle;
use crate::sys::procfs;

impl Cgroup {
    /// Host pids of all processes in it and below. Empty when the cgroup is gone.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut buffer = Buffer::default();
        let mut pids = Vec::new();
        walk(
            self.dir(),
            |dir| -> std::result::Result<(), Failed> {
                if let Some(content) = buffer.read(dir, "cgroup.procs").map_err(Failed::Read)? {
                    // A process that our pid namespace does not see is listed as 0.
                    pids.extend(
                        content
                            .lines()
                            .filter_map(|line| line.parse::<i32>().ok())
                            .filter(|pid| *pid > 0),
                    );
                }
                Ok(())
            },
            |_, _| Ok(()),
        )
        .map_err(|failed| failed.named(&self.path))?;
        // The kernel neither sorts them nor keeps them unique while some are being moved.
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// The cgroup that `process` is in now, which is this one or below it: where an exec is placed
    /// when the container has enabled controllers below (EBUSY). For placing only; limits always go
    /// to the cgroup that is held. `NotFound` when the process has ended.
    pub fn sub_of(&self, process: &ProcessHandle) -> Result<Self> {
        let read = procfs::read_all(&format!("{}/cgroup", process.pid()));
        // Only now is it known that the pid was this process's while we read.
        process.kill(0)?;
        let content = read.with(|| format!("read(/proc/{}/cgroup)", process.pid()))?;
        let sub = unified_path(&content)
            .and_then(|path| below(&self.full_path, path))
            .ok_or_else(|| {
                Error::not_found(
                    "cgroup",
                    format!("process {} is not in cgroup {}", process.pid(), self.path),
                )
            })?;
        self.open_sub(sub)
    }
}

/// Why a walk ended early.
pub(super) enum Failed {
    /// At a file.
    Read(Error),
    /// At a directory.
    Walk(nix::errno::Errno),
}

impl From<nix::errno::Errno> for Failed {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::Walk(errno)
    }
}

impl Failed {
    pub(super) fn named(self, path: &str) -> Error {
        match self {
            Self::Read(error) => error.during(format!("cgroup {path}")),
            Self::Walk(errno) => Error::os(errno, format!("list cgroup {path}")),
        }
    }
}
