//! How mounts come into the container: made detached, attached by descriptor onto a target that was
//! resolved below the root, and never where procfs would be lied about.

use core::ffi::CStr;

use crate::copies;
use crate::enter::Child;
use crate::paths;
use crate::procfs;
use crate::raw::{self, Failed, Fd, MountAttr, Outcome};
use crate::step::{InArena, MountAttributes, Param};
use crate::texts::Digits;

/// The fields of `Step::MountFilesystem`.
pub struct Filesystem<'a> {
    pub fstype: &'a CStr,
    pub source: &'a CStr,
    pub params: &'a [Param<InArena<'a>>],
    pub flags: u64,
    pub target: &'a CStr,
    pub copy_up: bool,
    pub after: MountAttributes,
    pub becomes_proc: bool,
}

/// Makes a filesystem and attaches it.
pub fn filesystem(child: &mut Child<'_>, wanted: &Filesystem<'_>) -> Outcome<()> {
    let kind = Kind::of(wanted.fstype);
    let existing = if kind.wants_no_link() {
        existing(paths::resolve_itself(child.root, wanted.target))?
    } else {
        existing(paths::resolve(child.root, wanted.target))?
    };
    // As runc: a tmpfs looks like the directory that it covers.
    let mode = match (&existing, kind) {
        (Some((_, mode)), Kind::Temporary) => Some(*mode & 0o7777),
        _ => None,
    };
    let target = match existing {
        Some((target, _)) => target,
        None => paths::directory(child.root, wanted.target)?,
    };
    refuse_inside_proc(child, &target, wanted.target, kind == Kind::Proc)?;
    let mount = make(wanted, mode)?;
    if wanted.copy_up {
        copies::copy_directory(&target, &mount)?;
        // Not before: nothing could have been copied into it.
        apply(
            &mount,
            attributes_to_set(wanted.flags & libc::MOUNT_ATTR_RDONLY),
        )?;
    }
    raw::move_mount(mount.at(), target.at())?;
    apply(&mount, wanted.after)?;
    match wanted.becomes_proc {
        true => procfs::share(child, mount),
        false => Ok(()),
    }
}

/// A directory that is there, and its mode.
fn existing(found: Outcome<Fd>) -> Outcome<Option<(Fd, u32)>> {
    match found {
        Ok(fd) => match raw::statx(fd.at(), c"")? {
            inode if inode.kind() == libc::S_IFDIR => Ok(Some((fd, inode.mode))),
            _ => Err(Failed::check(libc::ENOTDIR)),
        },
        Err(failed) if failed.errno == libc::ENOENT => Ok(None),
        Err(failed) => Err(failed),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Proc,
    Sys,
    Temporary,
    Other,
}

impl Kind {
    fn of(fstype: &CStr) -> Self {
        match fstype.to_bytes() {
            b"proc" => Self::Proc,
            b"sysfs" => Self::Sys,
            b"tmpfs" => Self::Temporary,
            _ => Self::Other,
        }
    }

    /// A link at /proc or /sys of the image would send these somewhere else, and what is written below
    /// them with it (CVE-2019-19921).
    const fn wants_no_link(self) -> bool {
        matches!(self, Self::Proc | Self::Sys)
    }
}

fn make(wanted: &Filesystem<'_>, mode: Option<u32>) -> Outcome<Fd> {
    let context = raw::fsopen(wanted.fstype)?;
    if !wanted.source.is_empty() {
        raw::fsconfig_text(context.at(), c"source", wanted.source)?;
    }
    if let Some(mode) = mode {
        // First, so that a mode that is asked for counts.
        raw::fsconfig_text(context.at(), c"mode", Digits::permissions(mode).text())?;
    }
    for param in wanted.params {
        match param {
            Param::Flag(key) => raw::fsconfig_flag(context.at(), key)?,
            Param::Text(key, value) => raw::fsconfig_text(context.at(), key, value)?,
        }
    }
    raw::fsconfig_create(context.at())?;
    let later = if wanted.copy_up {
        libc::MOUNT_ATTR_RDONLY
    } else {
        0
    };
    raw::fsmount(context.at(), wanted.flags & !later)
}

/// Attaches a tree that the parent made.
pub fn tree(child: &Child<'_>, tree: i32, path: &CStr) -> Outcome<()> {
    let top = raw::statx(tree, c"")?;
    let whole_proc = raw::filesystem(tree)? == PROC_SUPER_MAGIC && top.ino == PROC_ROOT_INO;
    let itself = if whole_proc || matches!(path.to_bytes(), b"/proc" | b"/sys") {
        existing(paths::resolve_itself(child.root, path))?
    } else {
        None
    };
    let target = match (itself, top.kind()) {
        (Some((target, _)), _) => target,
        (None, libc::S_IFDIR) => paths::directory(child.root, path)?,
        (None, _) => paths::file(child.root, path)?,
    };
    refuse_inside_proc(child, &target, path, whole_proc)?;
    raw::move_mount(tree, target.at())
}

/// Changes what is mounted at `target`.
pub fn change(child: &Child<'_>, target: &CStr, change: MountAttributes) -> Outcome<()> {
    apply(&paths::resolve(child.root, target)?, change)
}

fn attributes_to_set(set: u64) -> MountAttributes {
    MountAttributes {
        set,
        ..MountAttributes::default()
    }
}

fn apply(mount: &Fd, change: MountAttributes) -> Outcome<()> {
    if change == MountAttributes::default() {
        return Ok(());
    }
    let attributes = MountAttr {
        set: change.set,
        clear: change.clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    let below = if change.recursive {
        libc::AT_RECURSIVE
    } else {
        0
    };
    raw::mount_setattr(mount.at(), c"", libc::AT_EMPTY_PATH | below, &attributes)
}

pub const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// The root of every procfs (fs/proc: PROC_ROOT_INO).
pub const PROC_ROOT_INO: u64 = 1;

/// What lxcfs and its like may replace in /proc, and nothing else: a file of another that is mounted over
/// `/proc/self/attr/exec` would swallow the label that is written there (CVE-2019-16884).
const ALLOWED_IN_PROC: [&[u8]; 11] = [
    b"/proc/cpuinfo",
    b"/proc/diskstats",
    b"/proc/meminfo",
    b"/proc/stat",
    b"/proc/swaps",
    b"/proc/uptime",
    b"/proc/loadavg",
    b"/proc/slabinfo",
    b"/proc/net/dev",
    b"/proc/sys/kernel/ns_last_pid",
    b"/proc/sys/crypto/fips_enabled",
];

/// Asks the inode that was found, not the path that was asked for.
fn refuse_inside_proc(
    child: &Child<'_>,
    target: &Fd,
    path: &CStr,
    whole_proc: bool,
) -> Outcome<()> {
    let refused = Err(Failed::check(libc::EPERM));
    let inode = raw::statx(target.at(), c"")?;
    let root = raw::statx(child.root, c"")?;
    if (inode.dev, inode.ino) == (root.dev, root.ino) {
        // What is resolved later below the root descriptor would be beneath this mount, unseen.
        return Err(Failed::check(libc::EBUSY));
    }
    if raw::filesystem(target.at())? == PROC_SUPER_MAGIC {
        let allowed = if inode.ino == PROC_ROOT_INO {
            whole_proc
        } else {
            ALLOWED_IN_PROC.contains(&path.to_bytes())
        };
        return if allowed { Ok(()) } else { refused };
    }
    if whole_proc {
        return Ok(());
    }
    match raw::statx(child.root, c"proc") {
        Ok(proc) if (proc.dev, proc.ino) == (inode.dev, inode.ino) => refused,
        _ => Ok(()),
    }
}
