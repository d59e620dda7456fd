//! Opens what a plan names: streams, namespaces, mount trees. All on the host, before the launch.
#![allow(
    clippy::disallowed_types,
    reason = "I7: the child has numbers; each is of a descriptor that is held until it is born"
)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use rsrun_init::step::{MountAttributes, Step};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::{FdName, FdSource, IdMaps, Plan};
use crate::process::ProcessHandle;
use crate::sys::fds::{duplicate_above, duplicate_of_inherited};
use crate::sys::mount::{
    AT_RECURSIVE, MOUNT_ATTR_IDMAP, MountAttr, OPEN_TREE_CLONE, mount_setattr, null_device,
    open_tree,
};
use crate::sys::namespace_kind;
use crate::sys::procfs;

/// Numbers that a program may be given (streams, logger pipes) are below this; what is merely held
/// for the launch is above, so that placing one never overwrites another.
const LOWEST_HELD: RawFd = 16;

/// Descriptors that come from the caller and not from a path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// Standard streams.
    pub streams: [Option<BorrowedFd<'a>>; 3],
    /// The container's init.
    pub init: Option<&'a ProcessHandle>,
    /// The fifo of the gate.
    pub gate: Option<BorrowedFd<'a>>,
}

/// A descriptor held for a launch.
#[derive(Debug)]
pub enum Held<'a> {
    /// Opened for it.
    Owned(OwnedFd),
    /// The caller's.
    Borrowed(BorrowedFd<'a>),
    /// One that the caller's caller left open at this number.
    Number(RawFd),
}

impl Held<'_> {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> RawFd {
        match self {
            Self::Owned(fd) => fd.as_raw_fd(),
            Self::Borrowed(fd) => fd.as_raw_fd(),
            Self::Number(number) => *number,
        }
    }
}

/// Opens every descriptor of `plan`, in order.
pub fn open_all<'a>(
    plan: &Plan,
    given: &Given<'a>,
    make_userns: &dyn Fn(&IdMaps) -> Result<OwnedFd>,
) -> Result<Vec<Held<'a>>> {
    let root = plan.steps.iter().find_map(|step| match step {
        Step::AttachRoot { tree, .. } => Some(*tree),
        _ => None,
    });
    let mut held = Vec::with_capacity(plan.fds.len());
    for (index, source) in plan.fds.iter().enumerate() {
        let is_root = root == Some(FdName(index));
        held.push(lifted(open_one(source, is_root, given, make_userns)?)?);
    }
    Ok(held)
}

fn lifted(held: Held<'_>) -> Result<Held<'_>> {
    match &held {
        Held::Owned(fd) if fd.as_raw_fd() < LOWEST_HELD => Ok(Held::Owned(
            duplicate_above(fd.as_fd(), LOWEST_HELD).with(|| "fcntl(F_DUPFD_CLOEXEC)")?,
        )),
        Held::Borrowed(fd) if fd.as_raw_fd() < LOWEST_HELD => Ok(Held::Owned(
            duplicate_above(*fd, LOWEST_HELD).with(|| "fcntl(F_DUPFD_CLOEXEC)")?,
        )),
        _ => Ok(held),
    }
}

fn open_one<'a>(
    source: &FdSource,
    is_root: bool,
    given: &Given<'a>,
    make_userns: &dyn Fn(&IdMaps) -> Result<OwnedFd>,
) -> Result<Held<'a>> {
    let missing = |what: &str| {
        Error::new(
            ErrorKind::Internal,
            format!("the plan names {what}, which was not given"),
        )
    };
    match source {
        FdSource::Stream(number) => match given.streams.get(usize::from(*number)) {
            Some(Some(stream)) => Ok(Held::Borrowed(*stream)),
            _ => null().map(Held::Owned),
        },
        FdSource::Inherited(number) => {
            duplicate_of_inherited(*number, LOWEST_HELD)
                .with(|| format!("inherited descriptor {number} (--preserve-fds)"))?;
            Ok(Held::Number(*number))
        }
        FdSource::Namespace { path, flag } => open_namespace(path, *flag).map(Held::Owned),
        FdSource::InitPidfd => given
            .init
            .map(|init| Held::Borrowed(init.as_fd()))
            .ok_or_else(|| missing("the init")),
        FdSource::InitRoot => {
            let init = given.init.ok_or_else(|| missing("the init"))?;
            let path = format!("{}/root", init.pid());
            procfs::open_link(&path)
                .map(Held::Owned)
                .with(|| format!("open(/proc/{path})"))
        }
        FdSource::Gate => given
            .gate
            .map(Held::Borrowed)
            .ok_or_else(|| missing("the gate")),
        FdSource::HostPath(path) => open_path(path, OFlag::O_PATH).map(Held::Owned),
        FdSource::Tree {
            path,
            recursive,
            changes,
            idmap,
            idmap_recursive,
        } => {
            let tree = clone_tree(path, *recursive, is_root)?;
            for change in changes {
                set_attributes(tree.as_fd(), change)
                    .with(|| format!("mount_setattr on the clone of {}", path.display()))?;
            }
            if let Some(maps) = idmap {
                idmap_tree(&tree, &make_userns(maps)?, *idmap_recursive)
                    .with(|| format!("id-mapped mount of {}", path.display()))?;
            }
            Ok(Held::Owned(tree))
        }
    }
}

fn open_path(path: &Path, flags: OFlag) -> Result<OwnedFd> {
    openat2(
        AT_FDCWD,
        path,
        OpenHow::new().flags(flags | OFlag::O_CLOEXEC),
    )
    .with(|| format!("open({})", path.display()))
}

fn open_namespace(path: &Path, flag: u64) -> Result<OwnedFd> {
    let namespace = open_path(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    match namespace_kind(namespace.as_fd()) {
        Ok(kind) if kind == flag => Ok(namespace),
        Ok(_) => Err(Error::invalid(format!(
            "{} is a namespace of another kind",
            path.display()
        ))),
        Err(_) => Err(Error::invalid(format!(
            "{} is not a namespace",
            path.display()
        ))),
    }
}

/// A detached clone. The root of a container is reached without any symbolic link, as runc demands:
/// a link could be exchanged between one look and the next.
fn clone_tree(path: &Path, recursive: bool, is_root: bool) -> Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | if recursive { AT_RECURSIVE } else { 0 };
    let named = |call: &str| format!("{call}({})", path.display());
    if is_root {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        let root = openat2(AT_FDCWD, path, how).map_err(|errno| match errno {
            Errno::ELOOP => Error::spec(
                "/root/path",
                format!("{} is or contains a symbolic link", path.display()),
            ),
            Errno::ENOENT | Errno::ENOTDIR => Error::spec(
                "/root/path",
                format!(
                    "rootfs {}: {}",
                    path.display(),
                    crate::error::errno_text(errno)
                ),
            ),
            other => Error::os(other, named("openat2")),
        })?;
        return open_tree(root.as_fd(), c"", flags).with(|| named("open_tree"));
    }
    let text = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid("a path contains NUL"))?;
    open_tree(AT_FDCWD, &text, flags).with(|| named("open_tree"))
}

/// A null device that is nobody's: a container's root could change mode and owner of the host's through its
/// descriptor. Without the right to make one there is no right to harm the host's either.
fn null() -> Result<OwnedFd> {
    match null_device() {
        Err(Errno::EPERM | Errno::EACCES) => open_path(Path::new("/dev/null"), OFlag::O_RDWR),
        made => made.with(|| "make a null device"),
    }
}

fn set_attributes(tree: BorrowedFd<'_>, change: &MountAttributes) -> nix::Result<()> {
    let attr = MountAttr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        ..MountAttr::default()
    };
    mount_setattr(tree, if change.recursive { AT_RECURSIVE } else { 0 }, &attr)
}

fn idmap_tree(tree: &OwnedFd, userns: &OwnedFd, recursive: bool) -> nix::Result<()> {
    let userns_fd = u64::from(userns.as_raw_fd().unsigned_abs());
    let attr = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        userns_fd,
        ..MountAttr::default()
    };
    mount_setattr(
        tree.as_fd(),
        if recursive { AT_RECURSIVE } else { 0 },
        &attr,
    )
}
