//! The procfs of this process: made for it (or cloned for it). What it writes to or reopens through /proc goes through
//! this one alone, from the descriptor of its root. Attached nowhere, it has nothing over its files; where it is the one
//! that the container sees, whatever has been put over a file is met as EXDEV and is never entered (CVE-2025-52881).

use crate::enter::Child;
use crate::mounts::{PROC_ROOT_INO, PROC_SUPER_MAGIC};
use crate::paths::{flags, open_again};
use crate::raw::{self, Failed, Fd, MountAttr, OpenHow, Outcome};
use crate::step::Step;
use crate::texts::Digits;
use core::ffi::CStr;

/// Mounts it for the present pid namespace. The kernel gives one to those alone who have privileges over
/// that namespace: in a user namespace without a pid namespace of its own it is a clone of the present one.
pub fn open(child: &mut Child<'_>) -> Outcome<()> {
    let opened = match mounted() {
        Err(failed) if failed.errno == libc::EPERM => cloned().map_err(|_| failed),
        other => other,
    };
    child.proc = opened?.keep();
    Ok(())
}

fn mounted() -> Outcome<Fd> {
    let context = raw::fsopen(c"proc")?;
    raw::fsconfig_create(context.at())?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    raw::fsmount(context.at(), attributes)
}

/// Uses `mount`, which the container is to have. What of it is this process's is taken hold of now: later it may be covered,
/// by a path to be masked, a link of the image that leads there, or a hook.
pub fn share(child: &mut Child<'_>, mount: Fd) -> Outcome<()> {
    child.proc = mount.keep();
    let directory = libc::O_PATH | libc::O_DIRECTORY;
    child.descriptors = own(child, c"self/fd", directory)?.keep();
    let labels = |step: &Step<_>| matches!(step, Step::Label { .. });
    if child.frozen.steps.iter().any(labels) {
        child.attributes = own(child, c"self/attr", directory)?.keep();
    }
    Ok(())
}

/// Of the mount at /proc, if that is the root of a procfs. Mounts below it, which a user namespace may not
/// leave out, are never entered (`RESOLVE_NO_XDEV`): whatever covers a file of ours is met as EXDEV. Which pid
/// namespace it shows does not matter: `self` is this process there, or nothing.
fn cloned() -> Outcome<Fd> {
    let how = OpenHow {
        flags: flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC),
        mode: 0,
        resolve: libc::RESOLVE_NO_SYMLINKS,
    };
    let place = open_again(libc::AT_FDCWD, c"/proc", &how)?;
    let is_root = raw::statx(place.at(), c"")?.ino == PROC_ROOT_INO;
    if !is_root || raw::filesystem(place.at())? != PROC_SUPER_MAGIC {
        return Err(Failed::check(libc::EPERM));
    }
    let (empty, below) = (
        libc::AT_EMPTY_PATH.cast_unsigned(),
        libc::AT_RECURSIVE.cast_unsigned(),
    );
    let tree = raw::open_tree(place.at(), c"", libc::OPEN_TREE_CLONE | empty | below)?;
    let apart = MountAttr {
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    raw::mount_setattr(tree.at(), c"", flags, &apart)?;
    Ok(tree)
}

/// Writes a sysctl. No link and no mount is met on the way: `sys` has none of its own.
pub fn sysctl(child: &Child<'_>, path: &CStr, value: &CStr) -> Outcome<()> {
    let sys = below(
        child.proc,
        c"sys",
        libc::O_PATH | libc::O_DIRECTORY,
        libc::RESOLVE_NO_SYMLINKS,
    )?;
    let file = below(sys.at(), path, libc::O_WRONLY, libc::RESOLVE_NO_SYMLINKS)?;
    write_whole(&file, value.to_bytes())
}

/// Writes a label for the coming execve.
pub fn label(child: &Child<'_>, file: &CStr, value: &CStr) -> Outcome<()> {
    let write = |attributes: i32| {
        let file = below(attributes, file, libc::O_WRONLY, libc::RESOLVE_NO_SYMLINKS)?;
        write_whole(&file, value.to_bytes())
    };
    in_directory(child, child.attributes, c"self/attr", write)
}

/// A file of this process: `path` begins with `self`, which is the one link on the way.
pub fn own(child: &Child<'_>, path: &CStr, how: i32) -> Outcome<Fd> {
    below(child.proc, path, how, 0)
}

/// Opens anew what the descriptor `fd` is (an O_PATH one can't be written to).
pub fn reopen(child: &Child<'_>, fd: i32, how: i32) -> Outcome<Fd> {
    let Ok(number) = u32::try_from(fd) else {
        return Err(Failed::check(libc::EBADF));
    };
    // The magic link is what is wanted here, and this one is the kernel's own.
    let open = |table: i32| open_restarting(table, Digits::decimal(number).text(), how);
    in_directory(child, child.descriptors, c"self/fd", open)
}

/// Does `act` in a directory of this process: the one that is `held` already, or else what `path` is now.
fn in_directory<T>(
    child: &Child<'_>,
    held: i32,
    path: &CStr,
    act: impl FnOnce(i32) -> Outcome<T>,
) -> Outcome<T> {
    if held >= 0 {
        return act(held);
    }
    act(own(child, path, libc::O_PATH | libc::O_DIRECTORY)?.at())
}

/// A namespace of this process, such as `time_for_children`.
pub fn namespace(child: &Child<'_>, name: &CStr) -> Outcome<Fd> {
    let all = own(child, c"self/ns", libc::O_PATH | libc::O_DIRECTORY)?;
    open_restarting(all.at(), name, libc::O_RDONLY)
}

/// Writes all of `bytes` by one call, as files of procfs want it.
pub fn write_whole(file: &Fd, bytes: &[u8]) -> Outcome<()> {
    match raw::write(file.at(), bytes)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(Failed::check(libc::EIO)),
    }
}

fn below(dir: i32, path: &CStr, how: i32, resolve: u64) -> Outcome<Fd> {
    let how = OpenHow {
        flags: flags(how | libc::O_CLOEXEC),
        mode: 0,
        resolve: libc::RESOLVE_BENEATH
            | libc::RESOLVE_NO_MAGICLINKS
            | libc::RESOLVE_NO_XDEV
            | resolve,
    };
    open_again(dir, path, &how)
}

fn open_restarting(dir: i32, name: &CStr, how: i32) -> Outcome<Fd> {
    loop {
        match raw::openat(dir, name, how | libc::O_CLOEXEC) {
            Err(failed) if failed.errno == libc::EINTR => {}
            other => return other,
        }
    }
}
