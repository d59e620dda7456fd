//! The cgroup of a container: version 2 only, and only ever by the descriptor of its directory.
//!
//! Nothing here derives a cgroup from a pid to write limits: `/proc/PID/cgroup` of a process that is
//! ending reads `/`, and limits would go to the root of the host. The descriptor from create (or from
//! the recorded path together with its inode) is what all later calls use.
//!
//! | file | question |
//! |---|---|
//! | `mount` | where is the hierarchy, which controllers has it |
//! | `path` | which cgroup does `cgroupsPath` name (pure) |
//! | `create` | how is it made, with which controllers |
//! | `resources` | which file gets which value (pure) |
//! | `apply` | in which order are they written, what if the kernel refuses |
//! | `devices` | which devices may be used (eBPF) |
//! | `events` | how is a change waited for |
//! | `freeze`, `kill`, `members`, `remove` | pause, kill, who is in it, rmdir |
//! | `owner` | who may manage it from inside |
//! | `stats` | what did it use |

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::error::{Context, Error, Result};

mod apply;
mod controllers;
mod create;
pub mod devices;
pub mod events;
mod file;
mod freeze;
mod kill;
mod members;
mod mount;
mod owner;
mod path;
mod remove;
pub mod resources;
pub mod stats;
mod walk;

pub use controllers::Controllers;
pub use events::{Events, MemoryEvents};
pub use mount::Mount;
pub use path::{Driver, check, is_systemd, resolve};
pub use remove::remove_if_empty;
pub use resources::{Changes, Value, writes};
pub use stats::Stats;

/// One cgroup, held by its directory.
#[derive(Debug)]
pub struct Cgroup {
    /// Below the mount, with its leading slash.
    path: String,
    /// As `/proc/PID/cgroup` prints it to us.
    full_path: String,
    inode: u64,
    dir: OwnedFd,
    controllers: Controllers,
}

impl Cgroup {
    /// Opens the cgroup that a record names. `NotFound` when it is gone, or another one was made at
    /// its place (`inode` differs).
    pub fn open(mount: &Mount, path: &str, inode: u64) -> Result<Self> {
        let dir = open_below(mount.dir(), path)
            .map_err(|errno| Error::os(errno, format!("open cgroup {path}")))?;
        let cgroup = Self::held(mount, path.to_owned(), dir)?;
        if cgroup.inode == inode {
            Ok(cgroup)
        } else {
            Err(Error::not_found(
                "cgroup",
                format!("cgroup {path} is another one than was recorded"),
            ))
        }
    }

    fn held(mount: &Mount, path: String, dir: OwnedFd) -> Result<Self> {
        let controllers = file::Buffer::default()
            .read(dir.as_fd(), "cgroup.controllers")?
            .map(Controllers::parse)
            .unwrap_or_default();
        Self::having(mount, path, dir, controllers)
    }

    /// The same where it is known which controllers it has.
    fn having(mount: &Mount, path: String, dir: OwnedFd, controllers: Controllers) -> Result<Self> {
        let found = nix::sys::stat::fstat(&dir).with(|| format!("fstat(cgroup {path})"))?;
        Ok(Self {
            full_path: format!("{}{path}", mount.root().trim_end_matches('/')),
            path,
            inode: found.st_ino,
            dir,
            controllers,
        })
    }

    /// Opens a cgroup below this one (exec's `--cgroup`). `InvalidSpec` for `..`, `NotFound` when
    /// there is none.
    pub fn open_sub(&self, sub: &str) -> Result<Self> {
        let parts = path::components(sub)?;
        let relative = if parts.is_empty() {
            ".".to_owned()
        } else {
            parts.join("/")
        };
        let dir = open_below(self.dir(), &relative)
            .map_err(|errno| Error::os(errno, format!("open cgroup {sub} below {}", self.path)))?;
        let found = nix::sys::stat::fstat(&dir).with(|| format!("fstat(cgroup {sub})"))?;
        let below = |top: &str| {
            parts
                .iter()
                .fold(top.to_owned(), |path, part| format!("{path}/{part}"))
        };
        Ok(Self {
            path: below(&self.path),
            full_path: below(&self.full_path),
            inode: found.st_ino,
            dir,
            controllers: self.controllers.clone(),
        })
    }

    /// Its directory: for `CLONE_INTO_CGROUP`.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Its path below the mount, with its leading slash: for the record.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its path as `/proc/PID/cgroup` prints it to this process.
    #[must_use]
    pub fn full_path(&self) -> &str {
        &self.full_path
    }

    /// The inode of its directory: for the record.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The controllers that it has.
    #[must_use]
    pub fn controllers(&self) -> &Controllers {
        &self.controllers
    }
}

/// Opens a directory below another: never above it, through a symbolic link or another mount.
fn open_below(dir: BorrowedFd<'_>, path: &str) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    let relative = path.trim_start_matches('/');
    loop {
        match openat2(dir, if relative.is_empty() { "." } else { relative }, how) {
            // EAGAIN: a rename elsewhere in the kernel's tree at this moment (openat2(2)).
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            result => return result,
        }
    }
}
