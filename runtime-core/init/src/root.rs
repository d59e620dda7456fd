//! How the container's root becomes the root of this process.
//!
//! The tree is attached at its own path, or over `/` of the new mount namespace, but the process's own root
//! stays the old one until `PivotRoot`: hooks of createContainer enter by it, and the host's /dev/null is
//! reached by it.

use core::ffi::CStr;

use crate::enter::Child;
use crate::leftovers;
use crate::masks;
use crate::raw::{self, MountAttr, OpenHow, Outcome};

/// Makes every mount of this namespace a slave, so that nothing done here travels to the host, and
/// attaches the tree.
pub fn attach(child: &mut Child<'_>, tree: i32, at: &CStr) -> Outcome<()> {
    let slave = MountAttr {
        propagation: libc::MS_SLAVE,
        ..MountAttr::default()
    };
    raw::mount_setattr(libc::AT_FDCWD, c"/", libc::AT_RECURSIVE, &slave)?;
    masks::prepare(child)?;
    let how = OpenHow {
        flags: (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)
            .cast_unsigned()
            .into(),
        mode: 0,
        resolve: libc::RESOLVE_NO_SYMLINKS,
    };
    // The path is the host's, in a mount namespace that is ours alone: wherever it leads, the tree is
    // what the descriptor says. A user namespace may not get there.
    match raw::openat2(libc::AT_FDCWD, at, &how) {
        Ok(place) => raw::move_mount(tree, place.at())?,
        Err(_) => raw::move_mount_over_root(tree)?,
    }
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

/// Where pivot_root can't be had because `/` is an initramfs: the tree goes over `/`, stays there, and this
/// process moves into it. Whoever leaves by chroot and `..` comes to the top of `/`, which is the tree.
/// First of all, as the tree would go with the mount that it was attached below.
pub fn stay_below(child: &Child<'_>) -> Outcome<()> {
    match raw::move_mount_over_root(child.root) {
        // It is there already: a mount can't be moved onto itself.
        Err(failed) if failed.errno == libc::ELOOP => {}
        other => other?,
    }
    leftovers::detach_all(child)?;
    raw::fchdir(child.root)?;
    raw::chroot_here()?;
    raw::chdir(c"/")
}
