//! Goes through a cgroup and all below it, however deep, with one descriptor at a time.
//!
//! A container with a writable cgroup may nest thousands of levels: neither recursion (the stack) nor
//! a descriptor for each level would do, so the walk climbs by `..`. That is safe here: directories of
//! cgroup v2 can't be renamed, and the walk never climbs above where it began.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use crate::sys::directory::entries;

/// Calls `enter` for `top` and each cgroup below it, and `leave` with parent and name of each one
/// below it once all of its own were left: `rmdir` there removes depth-first.
pub fn walk<E: From<Errno>>(
    top: BorrowedFd<'_>,
    mut enter: impl FnMut(BorrowedFd<'_>) -> Result<(), E>,
    mut leave: impl FnMut(BorrowedFd<'_>, &CString) -> Result<(), E>,
) -> Result<(), E> {
    enter(top)?;
    let mut path: Vec<CString> = Vec::new();
    let mut unseen: Vec<Vec<CString>> = vec![children(top)?];
    let mut current: OwnedFd = open_dir(top, c".")?;
    while let Some(names) = unseen.last_mut() {
        if let Some(name) = names.pop() {
            match open_dir(current.as_fd(), &name) {
                Ok(child) => {
                    enter(child.as_fd())?;
                    unseen.push(children(child.as_fd())?);
                    path.push(name);
                    current = child;
                }
                // Removed since it was listed.
                Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(errno) => return Err(errno.into()),
            }
        } else {
            unseen.pop();
            if let Some(name) = path.pop() {
                current = open_dir(current.as_fd(), c"..")?;
                leave(current.as_fd(), &name)?;
            }
        }
    }
    Ok(())
}

fn open_dir(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(dir, name, flags, Mode::empty())
}

/// The names of the cgroups right below `dir`. A cgroup has some sixty files, so listing takes long;
/// the link count of its directory tells without whether there is any below (kernfs: 2 + how many).
fn children(dir: BorrowedFd<'_>) -> nix::Result<Vec<CString>> {
    if fstat(dir)?.st_nlink <= 2 {
        return Ok(Vec::new());
    }
    let entries = match entries(dir) {
        Ok(entries) => entries,
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let below = entries.into_iter().filter(|entry| entry.is_directory);
    Ok(below.map(|entry| entry.name).collect())
}
