//! Calls on extended attributes of an open file.

use core::ffi::CStr;

use super::{Outcome, call3, call4, call5, text, word};

/// `flistxattr(2)`: how many bytes of `names` hold names, each with its NUL; with an empty buffer how many it
/// takes.
pub fn flistxattr(fd: i32, names: &mut [u8]) -> Outcome<usize> {
    let (at, len) = (names.as_mut_ptr().expose_provenance(), names.len());
    // SAFETY: the kernel writes at most `len` bytes into `names`, borrowed for writing; none if it is empty.
    unsafe { call3(libc::SYS_flistxattr, word(fd), at, len) }
}

/// `fgetxattr(2)`: how many bytes of `value` hold it; with an empty buffer how many it takes.
pub fn fgetxattr(fd: i32, name: &CStr, value: &mut [u8]) -> Outcome<usize> {
    let (at, len) = (value.as_mut_ptr().expose_provenance(), value.len());
    // SAFETY: `name` is NUL-terminated and outlives the call, which only reads it; the kernel writes at most
    //         `len` bytes into `value`, borrowed for writing.
    unsafe { call4(libc::SYS_fgetxattr, word(fd), text(name), at, len) }
}

/// `fsetxattr(fd, name, value, 0)`.
pub fn fsetxattr(fd: i32, name: &CStr, value: &[u8]) -> Outcome<()> {
    let (at, len) = (value.as_ptr().expose_provenance(), value.len());
    // SAFETY: `name` is NUL-terminated; the kernel reads it and the `len` bytes of `value`, which outlive the
    //         call.
    unsafe { call5(libc::SYS_fsetxattr, word(fd), text(name), at, len, 0) }.map(drop)
}
