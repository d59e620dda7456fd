//! How the container's root becomes the root of this process.
//!
//! The tree is attached over `/` of the new mount namespace, but the process's own root stays the old
//! one beneath it until `PivotRoot`: hooks of createContainer enter by it, and the host's /dev/null is
//! reached by it.

use crate::enter::Child;
use crate::leftovers;
use crate::masks;
use crate::raw::{self, MountAttr, Outcome};

/// Makes every mount of this namespace a slave, so that nothing done here travels to the host, and
/// attaches the tree.
pub fn attach(child: &mut Child<'_>, tree: i32) -> Outcome<()> {
    let slave = MountAttr {
        propagation: libc::MS_SLAVE,
        ..MountAttr::default()
    };
    raw::mount_setattr(libc::AT_FDCWD, c"/", libc::AT_RECURSIVE, &slave)?;
    masks::prepare(child)?;
    raw::move_mount_over_root(tree)?;
    child.root = tree;
    Ok(())
}

/// The present `/` is the container's root.
pub fn open(child: &mut Child<'_>) -> Outcome<()> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    child.root = raw::openat(libc::AT_FDCWD, c"/", flags)?.keep();
    Ok(())
}

/// The old root ends on top of the new one and is let go.
pub fn pivot(child: &Child<'_>) -> Outcome<()> {
    raw::fchdir(child.root)?;
    raw::pivot_root_here()?;
    raw::detach(c".")?;
    raw::chdir(c"/")
}

/// Where pivot_root can't be had because `/` is an initramfs: the tree over `/` stays there, and this
/// process moves into it. Whoever leaves by chroot and `..` comes to the top of `/`, which is the tree.
pub fn stay_below(child: &Child<'_>) -> Outcome<()> {
    leftovers::detach_all(child)?;
    raw::fchdir(child.root)?;
    raw::chroot_here()?;
    raw::chdir(c"/")
}
