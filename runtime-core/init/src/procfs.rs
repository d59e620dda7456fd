//! The private procfs: made for this process, attached nowhere, so nobody can put anything over its
//! files (CVE-2025-52881); what the child writes to or reopens through /proc goes through it alone.

use core::ffi::CStr;

use crate::enter::Child;
use crate::paths::{flags, open_again};
use crate::raw::{self, Failed, Fd, OpenHow, Outcome};
use crate::texts::Digits;

/// Mounts it for the present pid namespace.
pub fn open(child: &mut Child<'_>) -> Outcome<()> {
    let context = raw::fsopen(c"proc")?;
    raw::fsconfig_create(context.at())?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    child.proc = raw::fsmount(context.at(), attributes)?.keep();
    Ok(())
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
    let attributes = own(child, c"self/attr", libc::O_PATH | libc::O_DIRECTORY)?;
    let file = below(
        attributes.at(),
        file,
        libc::O_WRONLY,
        libc::RESOLVE_NO_SYMLINKS,
    )?;
    write_whole(&file, value.to_bytes())
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
    let table = own(child, c"self/fd", libc::O_PATH | libc::O_DIRECTORY)?;
    // The magic link is what is wanted here, and this one is the kernel's own.
    open_restarting(table.at(), Digits::decimal(number).text(), how)
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
