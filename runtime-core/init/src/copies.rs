//! How a tmpfs starts with what it covers (`tmpcopyup`).
//!
//! What is copied belongs to the image, and who shares it may change it meanwhile: every step goes by
//! descriptor and follows no link. Owners, modes and modification times are kept, of files and directories
//! the extended attributes too; sockets are not.

use core::ffi::CStr;

use crate::paths;
use crate::raw::{self, Failed, Fd, Inode, Outcome};
use crate::xattrs;

/// Deeper trees are refused: each level takes stack and descriptors.
const DEEPEST: u32 = 64;

/// Copies what is in the directory `from` into the directory `to`, and the owner of the one to the
/// other.
pub fn copy_directory(from: &Fd, to: &Fd) -> Outcome<()> {
    let inode = raw::statx(from.at(), c"")?;
    copy_entries(from, to, DEEPEST)?;
    raw::chown(to.at(), inode.uid, inode.gid)?;
    xattrs::copy(&listable(from)?, &listable(to)?)
}

// "C" only because such a function can't unwind, which the compiler does not see of one that calls
// itself: the object would need the unwinder.
#[allow(improper_ctypes_definitions, reason = "nothing but Rust calls it")]
extern "C" fn copy_entries(from: &Fd, to: &Fd, depth: u32) -> Outcome<()> {
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(Failed::check(libc::ELOOP));
    };
    let listed = listable(from)?;
    let mut buffer = [0u8; 1024];
    loop {
        let len = raw::getdents(listed.at(), &mut buffer)?;
        let Some(mut entries) = buffer.get(..len).filter(|entries| !entries.is_empty()) else {
            return Ok(());
        };
        while let Some((name, rest)) = next_entry(entries) {
            entries = rest;
            if name != c"." && name != c".." {
                copy_entry(&listed, to, name, deeper)?;
            }
        }
    }
}

/// The directory opened anew: of an O_PATH descriptor neither entries nor attributes can be read.
fn listable(directory: &Fd) -> Outcome<Fd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    raw::openat(directory.at(), c".", flags)
}

/// The name of the first entry and the entries after it. `struct linux_dirent64` is: inode and offset
/// (8 bytes each), length of the entry (2), type (1), name with its NUL.
fn next_entry(entries: &[u8]) -> Option<(&CStr, &[u8])> {
    let length = u16::from_ne_bytes([*entries.get(16)?, *entries.get(17)?]);
    let name = entries.get(19..usize::from(length))?;
    Some((raw::until_nul(name), entries.get(usize::from(length)..)?))
}

fn copy_entry(from: &Fd, to: &Fd, name: &CStr, depth: u32) -> Outcome<()> {
    let inode = raw::statx(from.at(), name)?;
    match inode.kind() {
        libc::S_IFDIR => {
            raw::mkdirat(to.at(), name, 0o700)?;
            let inner = paths::child_of(from, name, libc::O_DIRECTORY)?;
            let copy = paths::child_of(to, name, libc::O_DIRECTORY)?;
            copy_entries(&inner, &copy, depth)?;
            finish(to, name, [&listable(&inner)?, &listable(&copy)?], &inode)
        }
        libc::S_IFREG => {
            let [source, copy] = copy_file(from, to, name)?;
            finish(to, name, [&source, &copy], &inode)
        }
        libc::S_IFLNK => copy_link(from, to, name, &inode),
        libc::S_IFCHR | libc::S_IFBLK | libc::S_IFIFO => {
            raw::mknodat(to.at(), name, inode.mode, inode.rdev)?;
            let node = paths::child_of(to, name, 0)?;
            raw::chown(node.at(), inode.uid, inode.gid)?;
            raw::utimensat(to.at(), name, inode.times)
        }
        _ => Ok(()),
    }
}

// Apart, so that its buffer is not in the frame of each level.
#[inline(never)]
fn copy_link(from: &Fd, to: &Fd, name: &CStr, inode: &Inode) -> Outcome<()> {
    let mut points_to = [0u8; 4096];
    let len = raw::readlinkat(from.at(), name, &mut points_to)?;
    if len >= points_to.len() {
        return Err(Failed::check(libc::ENAMETOOLONG));
    }
    raw::symlinkat(raw::until_nul(&points_to), to.at(), name)?;
    let link = paths::link_itself(to, name)?;
    raw::chown(link.at(), inode.uid, inode.gid)?;
    raw::utimensat(to.at(), name, inode.times)
}

/// Owner before mode and attributes: a change of owner takes set-user-id and file capabilities away.
fn finish(to: &Fd, name: &CStr, [source, copy]: [&Fd; 2], inode: &Inode) -> Outcome<()> {
    raw::chown(copy.at(), inode.uid, inode.gid)?;
    raw::fchmod(copy.at(), inode.mode & 0o7777)?;
    xattrs::copy(source, copy)?;
    raw::utimensat(to.at(), name, inode.times)
}

/// The file and its copy.
fn copy_file(from: &Fd, to: &Fd, name: &CStr) -> Outcome<[Fd; 2]> {
    // Without O_NONBLOCK a fifo that takes the file's place would hold this process.
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let source = raw::openat(from.at(), name, flags)?;
    if raw::statx(source.at(), c"")?.kind() != libc::S_IFREG {
        return Err(Failed::check(libc::ESTALE));
    }
    let copy = paths::new_file(to, name, 0o600)?;
    while raw::sendfile(copy.at(), source.at())? != 0 {}
    Ok([source, copy])
}
