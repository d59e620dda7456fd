//! Which extended attributes does a copy of a file keep?
//!
//! All that mean the same there: what users and root have noted (`user.*`, `trusted.*`), access lists, file
//! capabilities. The other `security.*` are a label or a signature of the original's place, and the kernel's to
//! give. What the other file system does not have (tmpfs: `user.*` before Linux 6.6), or this process may not
//! set, is left out.

use core::ffi::CStr;

use crate::raw::{self, Failed, Fd, Outcome};

/// Copies them from one open file to another (not from or to an O_PATH descriptor).
pub fn copy(from: &Fd, to: &Fd) -> Outcome<()> {
    match raw::flistxattr(from.at(), &mut []) {
        Ok(0) => Ok(()),
        Err(failed) if is_lacking(failed) => Ok(()),
        Ok(_) => copy_named(from, to),
        Err(failed) => Err(failed),
    }
}

// Apart, so that the buffers are in a frame only where there is something to copy. The sizes are the kernel's
// limits (XATTR_LIST_MAX, XATTR_SIZE_MAX).
#[inline(never)]
fn copy_named(from: &Fd, to: &Fd) -> Outcome<()> {
    let mut buffer = [0u8; 1 << 16];
    let len = raw::flistxattr(from.at(), &mut buffer)?;
    let mut names = buffer.get(..len).unwrap_or_default();
    while !names.is_empty() {
        let name = raw::until_nul(names);
        names = names
            .get(name.count_bytes().saturating_add(1)..)
            .unwrap_or_default();
        if is_kept(name) {
            copy_one(from, to, name)?;
        }
    }
    Ok(())
}

#[inline(never)]
fn copy_one(from: &Fd, to: &Fd, name: &CStr) -> Outcome<()> {
    let mut buffer = [0u8; 1 << 16];
    let value = match raw::fgetxattr(from.at(), name, &mut buffer) {
        Ok(len) => buffer.get(..len).unwrap_or_default(),
        Err(failed) if is_lacking(failed) => return Ok(()),
        Err(failed) => return Err(failed),
    };
    match raw::fsetxattr(to.at(), name, value) {
        Err(failed) if is_lacking(failed) => Ok(()),
        other => other,
    }
}

fn is_kept(name: &CStr) -> bool {
    let name = name.to_bytes();
    !name.starts_with(b"security.") || name == b"security.capability"
}

/// Not there (any more), not supported, not allowed, of an id that is not mapped.
fn is_lacking(failed: Failed) -> bool {
    matches!(
        failed.errno,
        libc::ENODATA | libc::EOPNOTSUPP | libc::EPERM | libc::EACCES | libc::EINVAL
    )
}
