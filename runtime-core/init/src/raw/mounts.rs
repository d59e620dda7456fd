//! Calls on mounts and namespaces.

use core::ffi::CStr;
use core::mem::size_of;
use core::ptr::from_ref;

use super::{Fd, Outcome, call1, call2, call3, call5, descriptor, text, word};

/// `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_SHARED` and its like, or 0.
    pub propagation: u64,
    /// Id map; unused here.
    pub userns_fd: u64,
}

/// `mount_setattr(dir, path, flags, attr)`.
pub fn mount_setattr(dir: i32, path: &CStr, flags: i32, attr: &MountAttr) -> Outcome<()> {
    let at = from_ref(attr).expose_provenance();
    // SAFETY: `path` is NUL-terminated, `attr` is a whole struct of the size that is named; the kernel
    //         only reads them and both outlive the call.
    unsafe {
        call5(
            libc::SYS_mount_setattr,
            word(dir),
            text(path),
            word(flags),
            at,
            size_of::<MountAttr>(),
        )
    }
    .map(drop)
}

/// `open_tree(2)` with close-on-exec; `flags` are `OPEN_TREE_CLONE` and `AT_*`.
pub fn open_tree(dir: i32, path: &CStr, flags: u32) -> Outcome<Fd> {
    let flags = flags | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` is NUL-terminated and outlives the call, which only reads it.
    descriptor(unsafe { call3(libc::SYS_open_tree, word(dir), text(path), flags as usize) })
}

/// `move_mount` of the mount that `tree` is onto what the descriptor `target` is.
pub fn move_mount(tree: i32, target: i32) -> Outcome<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are static empty texts.
    unsafe {
        call5(
            libc::SYS_move_mount,
            word(tree),
            text(c""),
            word(target),
            text(c""),
            flags as usize,
        )
    }
    .map(drop)
}

/// `move_mount` of the mount that `tree` is over this process's `/`.
pub fn move_mount_over_root(tree: i32) -> Outcome<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH as usize;
    // SAFETY: both paths are static texts.
    unsafe {
        call5(
            libc::SYS_move_mount,
            word(tree),
            text(c""),
            word(libc::AT_FDCWD),
            text(c"/"),
            flags,
        )
    }
    .map(drop)
}

/// `fsopen(2)`.
pub fn fsopen(fstype: &CStr) -> Outcome<Fd> {
    let flags = libc::FSOPEN_CLOEXEC as usize;
    // SAFETY: `fstype` is NUL-terminated and outlives the call, which only reads it.
    descriptor(unsafe { call2(libc::SYS_fsopen, text(fstype), flags) })
}

/// `fsconfig(FSCONFIG_SET_FLAG)`.
pub fn fsconfig_flag(context: i32, key: &CStr) -> Outcome<()> {
    let command = libc::FSCONFIG_SET_FLAG as usize;
    // SAFETY: `key` is NUL-terminated and outlives the call, which only reads it.
    unsafe { call5(libc::SYS_fsconfig, word(context), command, text(key), 0, 0) }.map(drop)
}

/// `fsconfig(FSCONFIG_SET_STRING)`.
pub fn fsconfig_text(context: i32, key: &CStr, value: &CStr) -> Outcome<()> {
    let command = libc::FSCONFIG_SET_STRING as usize;
    // SAFETY: both texts are NUL-terminated and outlive the call, which only reads them.
    unsafe {
        call5(
            libc::SYS_fsconfig,
            word(context),
            command,
            text(key),
            text(value),
            0,
        )
    }
    .map(drop)
}

/// `fsconfig(FSCONFIG_CMD_CREATE)`.
pub fn fsconfig_create(context: i32) -> Outcome<()> {
    let command = libc::FSCONFIG_CMD_CREATE as usize;
    // SAFETY: numbers and null pointers only, as this command wants it.
    unsafe { call5(libc::SYS_fsconfig, word(context), command, 0, 0, 0) }.map(drop)
}

/// `fsmount(2)`; `attributes` are `MOUNT_ATTR_*`.
pub fn fsmount(context: i32, attributes: u64) -> Outcome<Fd> {
    let flags = libc::FSMOUNT_CLOEXEC as usize;
    // SAFETY: numbers only. The kernel takes the attributes as 32 bits and refuses unknown ones.
    descriptor(unsafe { call3(libc::SYS_fsmount, word(context), flags, attributes as usize) })
}

/// `pivot_root(".", ".")`.
pub fn pivot_root_here() -> Outcome<()> {
    // SAFETY: both paths are static texts.
    unsafe { call2(libc::SYS_pivot_root, text(c"."), text(c".")) }.map(drop)
}

/// `umount2(path, MNT_DETACH)`.
pub fn detach(path: &CStr) -> Outcome<()> {
    // SAFETY: `path` is NUL-terminated and outlives the call, which only reads it.
    unsafe { call2(libc::SYS_umount2, text(path), word(libc::MNT_DETACH)) }.map(drop)
}

/// `chroot(".")`.
pub fn chroot_here() -> Outcome<()> {
    // SAFETY: the path is a static text.
    unsafe { call1(libc::SYS_chroot, text(c".")) }.map(drop)
}

/// `setns(2)` with one CLONE_NEW* bit.
pub fn setns(fd: i32, flag: u64) -> Outcome<()> {
    // SAFETY: numbers only; what changes is the namespace of this process, which has one thread.
    unsafe { call2(libc::SYS_setns, word(fd), flag as usize) }.map(drop)
}

/// `setns` into the mount namespace that this process is in: its root and working directory become the
/// namespace's own root, or what is mounted on it.
pub fn enter_own_mount_namespace() -> Outcome<()> {
    // SAFETY: no argument.
    let own = unsafe { call1(libc::SYS_getpid, 0) }?;
    // SAFETY: numbers only.
    let own = descriptor(unsafe { call2(libc::SYS_pidfd_open, own, 0) })?;
    setns(own.at(), libc::CLONE_NEWNS.cast_unsigned().into())
}

/// Where a directory is: its mount and its inode. Two descriptors have the same place or are different directories.
pub fn place_of(dir: i32, name: &CStr) -> Outcome<(u64, u64)> {
    let raw = super::files::statx_of(dir, name, 0, libc::STATX_MNT_ID | libc::STATX_INO)?;
    Ok((raw.stx_mnt_id, raw.stx_ino))
}

/// `unshare(2)`.
pub fn unshare(flags: u64) -> Outcome<()> {
    // SAFETY: numbers only; what changes is this process, which has one thread.
    unsafe { call1(libc::SYS_unshare, flags as usize) }.map(drop)
}

/// `sethostname(2)`.
pub fn sethostname(name: &CStr) -> Outcome<()> {
    // SAFETY: the kernel reads as many bytes as the text has.
    unsafe { call2(libc::SYS_sethostname, text(name), name.count_bytes()) }.map(drop)
}

/// `setdomainname(2)`.
pub fn setdomainname(name: &CStr) -> Outcome<()> {
    // SAFETY: the kernel reads as many bytes as the text has.
    unsafe { call2(libc::SYS_setdomainname, text(name), name.count_bytes()) }.map(drop)
}
