//! User namespaces for an edge: those whose owners the files of an id-mapped root filesystem get.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::Containers;
use crate::error::Result;
use crate::launch::{Setting, userns_with};
use crate::plan::IdMaps;
use crate::process::Cancel;

/// The process that it is taken from lives for some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

impl Containers {
    /// A user namespace with these maps, for `mount_setattr(MOUNT_ATTR_IDMAP)`.
    pub fn user_namespace(&self, maps: &IdMaps, cancel: &Cancel) -> Result<OwnedFd> {
        let setting = Setting {
            children: &self.children,
            cancel,
            deadline: Instant::now() + PATIENCE,
            cgroup: None,
            ahead: None,
        };
        userns_with(maps, setting)
    }
}
