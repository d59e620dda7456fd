//! How the container's root becomes the root of this process.
//!
//! The tree is attached at its own path, or over `/` of the new mount namespace, but the process's own root
//! stays the old one until `PivotRoot`: hooks of createContainer enter by it, and the host's /dev/null is
//! reached by it.

use core::ffi::CStr;

use crate::enter::Child;
use crate::leftovers;
use crate::masks;
use crate::raw::{self, Failed, MountAttr, OpenHow, Outcome};

/// Makes every mount of this namespace a slave, so that nothing done here travels to the host, and
/// attaches the tree.
pub fn attach(child: &mut Child<'_>, tree: i32, at: &CStr) -> Outcome<()> {
    child.in_chroot = make_slaves()?;
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

/// Makes slaves from the namespace's own root down; whether this process's root is below that one.
///
/// Where we run in a chroot, its `/` is a place in the namespace like any other. pivot_root would exchange what is
/// mounted there and leave the host's root as the namespace's: whoever enters the namespace, an exec or the
/// container itself by setns, would stand in it. And what is mounted outside of the chroot would stay shared.
fn make_slaves() -> Outcome<bool> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let own = raw::openat(libc::AT_FDCWD, c"/", flags)?;
    raw::enter_own_mount_namespace()?;
    if raw::place_of(own.at(), c"")? == raw::place_of(libc::AT_FDCWD, c"/")? {
        slaves_below_root()?;
        return Ok(false);
    }
    raw::fchdir(own.at())?;
    // What the kernel calls unreachable is no place below that root but lies under it: something was mounted over
    // `/` after we had come there.
    let mut path = [0u8; 4096];
    raw::getcwd(&mut path)?;
    let below = path.first() == Some(&b'/');
    if below {
        slaves_below_root()?;
        raw::chroot_here()?;
    } else {
        raw::chroot_here()?;
        slaves_below_root()?;
    }
    Ok(below)
}

fn slaves_below_root() -> Outcome<()> {
    let slave = MountAttr {
        propagation: libc::MS_SLAVE,
        ..MountAttr::default()
    };
    raw::mount_setattr(libc::AT_FDCWD, c"/", libc::AT_RECURSIVE, &slave)
}

/// From here on paths begin at the namespace's root: no path of the host is of use any more.
fn leave_chroot(child: &Child<'_>) -> Outcome<()> {
    match child.in_chroot {
        true => raw::enter_own_mount_namespace(),
        false => Ok(()),
    }
}

/// The present `/` is the container's root.
pub fn open(child: &mut Child<'_>) -> Outcome<()> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    child.root = raw::openat(libc::AT_FDCWD, c"/", flags)?.keep();
    Ok(())
}

/// The old root ends on top of the new one and is let go.
pub fn pivot(child: &Child<'_>) -> Outcome<()> {
    leave_chroot(child)?;
    raw::fchdir(child.root)?;
    raw::pivot_root_here()?;
    raw::detach(c".")?;
    enter_top(child)
}

/// Whoever enters the namespace comes to what is on top of its root: until that is the container's root, what is
/// there goes. More than one mount is, where the old root was covered.
fn enter_top(child: &Child<'_>) -> Outcome<()> {
    let own = raw::place_of(child.root, c"")?;
    for _ in 0..MOST_COVERS {
        raw::enter_own_mount_namespace()?;
        if raw::place_of(libc::AT_FDCWD, c"/")? == own {
            return Ok(());
        }
        raw::detach(c"/")?;
    }
    Err(Failed::check(libc::EBUSY))
}

/// More than can sensibly be mounted over a root.
const MOST_COVERS: u32 = 64;

/// Where pivot_root can't be had because `/` is an initramfs: the tree goes over `/`, stays there, and this
/// process moves into it. Whoever leaves by chroot and `..` comes to the top of `/`, which is the tree.
/// First of all, as the tree would go with the mount that it was attached below.
pub fn stay_below(child: &Child<'_>) -> Outcome<()> {
    leave_chroot(child)?;
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
