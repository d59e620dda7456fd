//! The mount API by descriptors: fsopen(2), open_tree(2), move_mount(2), mount_setattr(2).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;

use super::checked;

/// `OPEN_TREE_CLONE`
pub const OPEN_TREE_CLONE: u32 = 1;
/// `AT_RECURSIVE`
pub const AT_RECURSIVE: u32 = 0x8000;
/// `MOUNT_ATTR_RDONLY`
pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_IDMAP`
pub const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

const AT_EMPTY_PATH: u32 = 0x1000;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MountAttr {
    /// Bits to set.
    pub attr_set: u64,
    /// Bits to clear.
    pub attr_clr: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE` or 0.
    pub propagation: u64,
    /// User namespace of an id-mapped mount.
    pub userns_fd: u64,
}

fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = checked(result)?;
    // SAFETY: the kernel just returned this descriptor to us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// `open_tree(dir, path, flags)` with close-on-exec. An empty path names `dir` itself.
pub fn open_tree(dir: BorrowedFd<'_>, path: &CStr, flags: u32) -> nix::Result<OwnedFd> {
    let flags = flags | OPEN_TREE_CLOEXEC | if path.is_empty() { AT_EMPTY_PATH } else { 0 };
    // SAFETY: `path` is NUL-terminated and outlives the call; `dir` is open.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// `mount_setattr` on the mount that `fd` refers to; `flags` is 0 or [`AT_RECURSIVE`].
pub fn mount_setattr(fd: BorrowedFd<'_>, flags: u32, attr: &MountAttr) -> nix::Result<()> {
    let size = size_of::<MountAttr>();
    // SAFETY: the empty path is NUL-terminated; `attr` is a whole struct of `size` bytes that the kernel copies.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags | AT_EMPTY_PATH,
            std::ptr::from_ref(attr),
            size,
        )
    })
    .map(drop)
}

/// Attaches the detached mount `mount` onto the place that `target` refers to.
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr();
    // SAFETY: both paths are NUL-terminated and empty; both descriptors are open.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            empty,
            target.as_raw_fd(),
            empty,
            flags,
        )
    })
    .map(drop)
}

/// `fsopen(fstype)` with close-on-exec.
pub fn fsopen(fstype: &CStr) -> nix::Result<OwnedFd> {
    // SAFETY: `fstype` is NUL-terminated and outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })
}

/// `fsconfig(FSCONFIG_SET_STRING)`.
pub fn fsconfig_text(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> nix::Result<()> {
    // SAFETY: both texts are NUL-terminated and outlive the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_SET_STRING,
            key.as_ptr(),
            value.as_ptr(),
            0,
        )
    })
    .map(drop)
}

/// `fsconfig(FSCONFIG_SET_FLAG)`.
pub fn fsconfig_flag(context: BorrowedFd<'_>, key: &CStr) -> nix::Result<()> {
    let none = std::ptr::null::<u8>();
    // SAFETY: `key` is NUL-terminated and outlives the call; a flag has no value.
    checked(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_SET_FLAG,
            key.as_ptr(),
            none,
            0,
        )
    })
    .map(drop)
}

/// `fsconfig(FSCONFIG_CMD_CREATE)`.
pub fn fsconfig_create(context: BorrowedFd<'_>) -> nix::Result<()> {
    let none = std::ptr::null::<u8>();
    // SAFETY: the command takes neither key nor value.
    checked(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            none,
            none,
            0,
        )
    })
    .map(drop)
}

/// `fsmount` with close-on-exec; `attributes` are `MOUNT_ATTR_*`.
pub fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> nix::Result<OwnedFd> {
    // SAFETY: only numbers are passed; `context` is open.
    owned(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes,
        )
    })
}

/// Which directory of its filesystem the root of the mount is that `fd` is on, as mountinfo has it: statmount(2), since
/// Linux 6.8 (ENOSYS before).
pub fn root_of_mount(fd: BorrowedFd<'_>) -> nix::Result<String> {
    const MNT_ID_UNIQUE: u32 = 0x4000;
    const MNT_ROOT: u64 = 0x8;
    const STATMOUNT: libc::c_long = 457;
    // Of struct statmount: where the offset of the text is, and where texts begin.
    const ROOT: usize = 104;
    const TEXTS: usize = 512;
    #[repr(C)]
    struct Request {
        size: u32,
        spare: u32,
        mount: u64,
        param: u64,
    }
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is NUL-terminated, `found` is a whole struct, and any bytes are a valid one.
    let found = unsafe {
        let flags = libc::AT_EMPTY_PATH;
        let call = libc::statx(
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            MNT_ID_UNIQUE,
            found.as_mut_ptr(),
        );
        checked(call.into())?;
        found.assume_init()
    };
    if found.stx_mask & MNT_ID_UNIQUE == 0 {
        return Err(Errno::ENOSYS);
    }
    let request = Request {
        size: size_of::<Request>() as u32,
        spare: 0,
        mount: found.stx_mnt_id,
        param: MNT_ROOT,
    };
    let mut answer = [0u8; TEXTS + 4096];
    // SAFETY: `request` and `answer` have the sizes that they are said to have and outlive the call.
    checked(unsafe {
        libc::syscall(
            STATMOUNT,
            std::ptr::from_ref(&request),
            answer.as_mut_ptr(),
            answer.len(),
            0,
        )
    })?;
    let number = |at: usize| {
        let bytes = answer.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_ne_bytes(*bytes)).ok()
    };
    let text = number(ROOT).and_then(|offset| answer.get(TEXTS..)?.get(offset..));
    let text = text.and_then(|text| CStr::from_bytes_until_nul(text).ok());
    let text = text.ok_or(Errno::EINVAL)?;
    Ok(text.to_string_lossy().into_owned())
}

/// The tmpfs of [`null_device`]. It is kept: letting a detached mount go makes the kernel wait until all processors
/// have passed a quiet state, which took milliseconds of every launch, and seconds on a busy machine.
static NULLS: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// `/dev/null` as a node of its own, on a tmpfs that is attached nowhere; its name is gone when this returns.
pub fn null_device() -> nix::Result<OwnedFd> {
    use nix::fcntl::{OFlag, openat};
    use nix::sys::stat::{Mode, SFlag, makedev, mknodat};
    use nix::unistd::{UnlinkatFlags, unlinkat};
    let mut kept = NULLS.lock().unwrap_or_else(PoisonError::into_inner);
    let tree = match &mut *kept {
        Some(tree) => tree,
        none => {
            let context = fsopen(c"tmpfs")?;
            fsconfig_create(context.as_fd())?;
            none.insert(fsmount(context.as_fd(), 0)?)
        }
    };
    let all = Mode::from_bits_truncate(0o666);
    match mknodat(&*tree, c"null", SFlag::S_IFCHR, all, makedev(1, 3)) {
        // Left by a call whose unlinkat failed.
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let opened = openat(
        &*tree,
        c"null",
        OFlag::O_RDWR | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    unlinkat(&*tree, c"null", UnlinkatFlags::NoRemoveDir)?;
    opened
}

/// What the kernel said about a filesystem context that failed (its message log), if anything.
pub fn fs_message(context: &impl AsFd) -> Option<String> {
    let mut buffer = [0u8; 512];
    let read = nix::unistd::read(context, &mut buffer).ok()?;
    let text = String::from_utf8_lossy(buffer.get(..read)?);
    let text = text.trim().trim_start_matches("e ").to_owned();
    (!text.is_empty()).then_some(text)
}
