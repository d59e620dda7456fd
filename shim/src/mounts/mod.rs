//! The root filesystem of a container: mounting what Create lists, and unmounting it whatever happened meanwhile.
//!
//! | file | question |
//! |---|---|
//! | `options` | what do the words of an option list mean (pure) |
//! | `overlay` | how is an overlay mounted whose layers do not fit into one page |
//! | `idmap` | how do the files of a mount get the owners of a user namespace |
//! | `unmount` | what is mounted at and below a place, and how does it get away |

mod idmap;
pub mod options;
pub mod overlay;
#[cfg(test)]
mod tests;
mod unmount;

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use rsrun_core::sys::mount::{AT_RECURSIVE, OPEN_TREE_CLONE, mount_setattr, move_mount, open_tree};
use rsrun_core::sys::{loop_device, spawn};
use rsrun_core::{Context, Error, Result};

use options::Options;

pub use options::IdMap;
pub use unmount::{unmount_all, unmount_all_until, unmount_own};

/// One mount of a Create, as containerd's snapshotter describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Type of the filesystem, `bind` for a bind mount.
    pub kind: String,
    /// Device, directory, or word.
    pub source: String,
    /// Path below the root filesystem; empty for the root itself.
    pub target: String,
    /// Words as in fstab(5); those that are no flags are for the filesystem.
    pub options: Vec<String>,
}

/// Makes a user namespace with this mapping.
pub type MakeNamespace<'a> = &'a dyn Fn(&IdMap) -> Result<OwnedFd>;

/// Mounts all of them, in order, on `root`; on a failure none is left.
pub fn mount_all(mounts: &[Mount], root: &Path, make_namespace: MakeNamespace<'_>) -> Result<()> {
    match fs::DirBuilder::new().mode(0o711).create(root) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(io_error(&e, format!("mkdir({})", root.display())));
        }
        _ => {}
    }
    for one in mounts {
        if let Err(error) = mount_one(one, root, make_namespace) {
            let _ = unmount_all(root);
            return Err(error.during(format!(
                "mount {} {:?} on {}",
                one.kind,
                one.source,
                root.display()
            )));
        }
    }
    Ok(())
}

fn mount_one(one: &Mount, root: &Path, make_namespace: MakeNamespace<'_>) -> Result<()> {
    let options = Options::parse(&one.options)?;
    let target = target(root, &one.target)?;
    let place = PathBuf::from(format!("/proc/self/fd/{}", target.as_raw_fd()));
    match one.kind.split_once('.') {
        Some(("fuse3", kind)) => {
            return fuse("mount.fuse3", kind, one, &target_path(root, &one.target)?);
        }
        Some(("fuse", kind)) => {
            return fuse("mount.fuse", kind, one, &target_path(root, &one.target)?);
        }
        _ => {}
    }
    let mapping = options.id_map.as_ref().map(make_namespace).transpose()?;
    if options.flags.contains(MsFlags::MS_BIND) && !options.flags.contains(MsFlags::MS_REMOUNT) {
        bind(one, &options, &target, mapping.as_ref())?;
    } else if one.kind == "overlay" {
        overlay::mount(one, &options, &target, root, mapping.as_ref())?;
    } else {
        let device = if options.is_loop {
            Some(attach(&one.source, &options)?)
        } else {
            None
        };
        let source = device
            .as_ref()
            .map_or(one.source.as_str(), |device| device.path());
        let data = options.data.join(",");
        mount(
            Some(source),
            &place,
            Some(one.kind.as_str()),
            options.flags,
            Some(data.as_str()),
        )
        .with(|| {
            format!(
                "mount({source}, {}, {}, {:?}, {data:?})",
                root.display(),
                one.kind,
                options.flags
            )
        })?;
        if let Some(mapping) = mapping {
            let top = open_tree(self::target(root, &one.target)?.as_fd(), c"", 0)
                .with(|| "open_tree()")?;
            idmap::apply(&top, &mapping)?;
        }
    }
    if !options.propagation.is_empty() {
        // Never together with other flags; and on what is there now, not on what it covers.
        let place = target_path(root, &one.target)?;
        mount(
            None::<&str>,
            &place,
            None::<&str>,
            options.propagation,
            None::<&str>,
        )
        .with(|| format!("mount({}, {:?})", place.display(), options.propagation))?;
    }
    Ok(())
}

/// The place of a mount, as a descriptor: below the root filesystem it is resolved inside of it, whatever
/// links an image has there.
fn target(root: &Path, below: &str) -> Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC);
    let root_fd = openat2(AT_FDCWD, root, how).with(|| format!("openat2({})", root.display()))?;
    if below.trim_matches('/').is_empty() {
        return Ok(root_fd);
    }
    openat2(&root_fd, below, how.resolve(ResolveFlag::RESOLVE_IN_ROOT))
        .with(|| format!("openat2({below}, RESOLVE_IN_ROOT)"))
}

/// The same as a path, for programs and calls that take nothing else.
fn target_path(root: &Path, below: &str) -> Result<PathBuf> {
    let fd = target(root, below)?;
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map_err(|e| io_error(&e, "readlink(/proc/self/fd)".into()))
}

/// A bind mount appears with its attributes at once, instead of writable first and remounted then.
fn bind(one: &Mount, options: &Options, target: &OwnedFd, mapping: Option<&OwnedFd>) -> Result<()> {
    let source = text(&one.source)?;
    let depth = if options.flags.contains(MsFlags::MS_REC) {
        AT_RECURSIVE
    } else {
        0
    };
    let tree = open_tree(AT_FDCWD, &source, OPEN_TREE_CLONE | depth)
        .with(|| format!("open_tree({}, OPEN_TREE_CLONE)", one.source))?;
    if let Some(attributes) = options.attributes() {
        mount_setattr(tree.as_fd(), 0, &attributes)
            .with(|| format!("mount_setattr({})", one.source))?;
    }
    if let Some(mapping) = mapping {
        idmap::apply(&tree, mapping)?;
    }
    move_mount(tree.as_fd(), target.as_fd()).with(|| format!("move_mount({})", one.source))
}

/// A loop device that goes away by itself when it is unmounted.
fn attach(file: &str, options: &Options) -> Result<loop_device::LoopDevice> {
    let read_only = options.flags.contains(MsFlags::MS_RDONLY);
    loop_device::attach(Path::new(file), read_only, options.direct_io)
        .with(|| format!("loop device for {file}"))
}

/// Filesystems in user space are mounted by a program of the host; it ends when they are.
fn fuse(helper: &str, kind: &str, one: &Mount, target: &Path) -> Result<()> {
    let mut words = vec![
        helper.to_owned(),
        one.source.clone(),
        target.display().to_string(),
    ];
    for option in &one.options {
        words.extend(["-o".to_owned(), option.clone()]);
    }
    words.extend(["-t".to_owned(), kind.to_owned()]);
    let path = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(helper))
        .find(|p| p.exists());
    let path =
        path.ok_or_else(|| Error::unsupported(helper, format!("{helper} is not installed")))?;
    let argv = words
        .iter()
        .map(|word| text(word))
        .collect::<Result<Vec<_>>>()?;
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null");
    let null = null.map_err(|e| io_error(&e, "open(/dev/null)".into()))?;
    let fds = [(null.as_fd(), 0), (null.as_fd(), 1), (null.as_fd(), 2)];
    let envp = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    let program = spawn::Program {
        path: &text(&path.display().to_string())?,
        argv: &argv,
        envp: &envp,
        fds: &fds,
        own_group: true,
    };
    let pid = spawn::spawn(&program).with(|| format!("execve({})", path.display()))?;
    let pidfd = rsrun_core::sys::pidfd::pidfd_open(pid).with(|| format!("pidfd_open({pid})"))?;
    let mut ended = [nix::poll::PollFd::new(
        pidfd.as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    while let Err(Errno::EINTR) = nix::poll::poll(&mut ended, FUSE_READY) {}
    if unmount::is_mount_point(target)? {
        return Ok(());
    }
    let _ = rsrun_core::sys::pidfd::pidfd_send_signal(pidfd.as_fd(), nix::libc::SIGKILL);
    Err(Error::new(
        rsrun_core::ErrorKind::Kernel {
            errno: nix::libc::EIO,
        },
        format!("{helper} did not mount {}", one.source),
    ))
}

/// Milliseconds that a helper may take.
const FUSE_READY: u16 = 30_000;

fn text(text: &str) -> Result<CString> {
    CString::new(Path::new(text).as_os_str().as_bytes())
        .map_err(|_| Error::invalid(format!("{text:?} contains NUL")))
}

fn io_error(error: &std::io::Error, call: String) -> Error {
    Error::os(
        Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO)),
        call,
    )
}
