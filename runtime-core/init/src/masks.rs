//! How paths of the container are hidden or made read-only.
//!
//! What covers a file is the host's /dev/null, taken by descriptor and checked: the container's own may
//! be a link to anything (CVE-2025-31133). What covers a directory is one empty tmpfs for all.

use core::ffi::CStr;

use crate::enter::Child;
use crate::paths;
use crate::raw::{self, Failed, Fd, MountAttr, Outcome};
use crate::step::Step;

/// The covers at hand.
#[derive(Debug, Default)]
pub struct Covers {
    /// The host's /dev/null, for all that is not a directory.
    null: Cover,
    /// An empty read-only tmpfs.
    empty: Cover,
}

/// A mount that covers.
#[derive(Debug, Default)]
enum Cover {
    /// Not made yet.
    #[default]
    Missing,
    /// Made and attached nowhere: the first path takes it.
    Detached(Fd),
    /// Attached in this mount namespace: later paths take clones, which a detached mount gives only
    /// from Linux 6.15 on.
    Attached(Fd),
}

/// Takes hold of the host's /dev/null while the process's root is still the host's. One detached clone
/// serves masks that come after `PivotRoot` as well.
pub fn prepare(child: &mut Child<'_>) -> Outcome<()> {
    let wanted = |step: &Step<_>| matches!(step, Step::MaskPath { .. });
    if !child.frozen.steps.iter().any(wanted) {
        return Ok(());
    }
    let null = raw::open_tree(libc::AT_FDCWD, c"/dev/null", libc::OPEN_TREE_CLONE)?;
    let inode = raw::statx(null.at(), c"")?;
    if inode.kind() != libc::S_IFCHR || inode.rdev != (1, 3) {
        return Err(Failed::check(libc::ENODEV));
    }
    raw::mount_setattr(null.at(), c"", libc::AT_EMPTY_PATH, &READ_ONLY)?;
    child.covers.null = Cover::Detached(null);
    Ok(())
}

const READ_ONLY: MountAttr = MountAttr {
    set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC,
    clear: 0,
    propagation: libc::MS_PRIVATE,
    userns_fd: 0,
};

/// Covers `path`; a missing one is nothing to cover.
pub fn cover(child: &mut Child<'_>, path: &CStr) -> Outcome<()> {
    let Some(target) = present(child.root, path)? else {
        return Ok(());
    };
    let covers = &mut child.covers;
    let cover = match raw::statx(target.at(), c"")?.kind() {
        libc::S_IFDIR => {
            if matches!(covers.empty, Cover::Missing) {
                covers.empty = Cover::Detached(empty_directory()?);
            }
            &mut covers.empty
        }
        _ => &mut covers.null,
    };
    cover.put_on(&target)
}

impl Cover {
    fn put_on(&mut self, target: &Fd) -> Outcome<()> {
        match core::mem::take(self) {
            Self::Missing => Err(Failed::check(libc::ENODEV)),
            Self::Detached(mount) => {
                raw::move_mount(mount.at(), target.at())?;
                *self = Self::Attached(mount);
                Ok(())
            }
            Self::Attached(mount) => {
                let flags = libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH.cast_unsigned();
                let clone = raw::open_tree(mount.at(), c"", flags)?;
                *self = Self::Attached(mount);
                raw::move_mount(clone.at(), target.at())
            }
        }
    }
}

fn empty_directory() -> Outcome<Fd> {
    let context = raw::fsopen(c"tmpfs")?;
    raw::fsconfig_text(context.at(), c"source", c"tmpfs")?;
    raw::fsconfig_text(context.at(), c"nr_blocks", c"1")?;
    raw::fsconfig_text(context.at(), c"nr_inodes", c"1")?;
    raw::fsconfig_text(context.at(), c"mode", c"0755")?;
    // The filesystem itself is read-only, not only this mount of it: a process of the container with
    // CAP_SYS_ADMIN finds nothing shared to write to.
    raw::fsconfig_flag(context.at(), c"ro")?;
    raw::fsconfig_create(context.at())?;
    raw::fsmount(context.at(), READ_ONLY.set | libc::MOUNT_ATTR_NODEV)
}

/// Makes what is at `path` read-only by a clone of it over itself; the clone gets the attribute before
/// anybody can reach it. A missing path is no error.
pub fn readonly(child: &Child<'_>, path: &CStr) -> Outcome<()> {
    let Some(target) = present(child.root, path)? else {
        return Ok(());
    };
    let flags = libc::OPEN_TREE_CLONE
        | libc::AT_EMPTY_PATH.cast_unsigned()
        | libc::AT_RECURSIVE.cast_unsigned();
    let clone = raw::open_tree(target.at(), c"", flags)?;
    let attributes = MountAttr {
        set: libc::MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    raw::mount_setattr(clone.at(), c"", libc::AT_EMPTY_PATH, &attributes)?;
    raw::move_mount(clone.at(), target.at())
}

fn present(root: i32, path: &CStr) -> Outcome<Option<Fd>> {
    match paths::resolve(root, path) {
        Ok(fd) => Ok(Some(fd)),
        Err(failed) if matches!(failed.errno, libc::ENOENT | libc::ENOTDIR) => Ok(None),
        Err(failed) => Err(failed),
    }
}
