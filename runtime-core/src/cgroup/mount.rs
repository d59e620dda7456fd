//! Where the cgroup v2 hierarchy is, as this process sees it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, stat};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use super::controllers::Controllers;
use super::file::Buffer;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::mount::root_of_mount;

/// Tried before any other mount point: unified, then hybrid.
const USUAL: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Inode of the initial cgroup namespace (PROC_CGROUP_INIT_INO) and of the root of the hierarchy.
const INITIAL_NAMESPACE: u64 = 0xEFFF_FFFB;
const ROOT: u64 = 1;

/// The cgroup v2 hierarchy: its root directory, held open.
#[derive(Debug)]
pub struct Mount {
    point: PathBuf,
    root: String,
    dir: OwnedFd,
    controllers: Controllers,
}

impl Mount {
    /// Finds it, as the calling thread sees it. A mount that is hidden by another one does not count:
    /// what stands at its place must be cgroup2 (`statfs`). `Unsupported` where cgroup v1 only, or
    /// nothing, is mounted.
    ///
    /// The mount table is read only where the hierarchy is in no usual place, and before Linux 6.8 where it may be
    /// mounted in part: on a host with thousands of mounts that takes milliseconds.
    #[allow(
        clippy::disallowed_methods,
        reason = "I11: a file of the host's kernel"
    )]
    pub fn find() -> Result<Self> {
        let sees_all =
            stat("/proc/thread-self/ns/cgroup").is_ok_and(|ns| ns.st_ino == INITIAL_NAMESPACE);
        for point in USUAL {
            let Some(mut mount) = Self::open(PathBuf::from(point), "/".to_owned())? else {
                continue;
            };
            if sees_all && fstat(&mount.dir).is_ok_and(|dir| dir.st_ino == ROOT) {
                return Ok(mount);
            }
            if let Ok(root) = root_of_mount(mount.dir()) {
                mount.root = root;
                return Ok(mount);
            }
        }
        let mut candidates = parse(&read("/proc/thread-self/mountinfo")?);
        candidates.sort_by_key(|(point, _)| {
            USUAL
                .iter()
                .position(|usual| point.as_path() == Path::new(usual))
                .unwrap_or(USUAL.len())
        });
        for (point, root) in candidates {
            if let Some(mount) = Self::open(point, root)? {
                return Ok(mount);
            }
        }
        Err(Error::unsupported(
            "cgroup v1",
            "no cgroup v2 hierarchy is mounted; cgroup v1 is not supported",
        ))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "I11: a mount point of the host, whose filesystem is looked at"
    )]
    fn open(point: PathBuf, root: String) -> Result<Option<Self>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = match open(&point, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => return Ok(None),
            Err(errno) => return Err(Error::os(errno, format!("open({})", point.display()))),
        };
        let found = fstatfs(&dir).with(|| format!("fstatfs({})", point.display()))?;
        if found.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Ok(None);
        }
        let content = Buffer::default()
            .read(dir.as_fd(), "cgroup.controllers")?
            .map(Controllers::parse);
        Ok(Some(Self {
            point,
            root,
            dir,
            controllers: content.unwrap_or_default(),
        }))
    }

    /// Where it is mounted, for messages and records.
    #[must_use]
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Which cgroup its root directory is, in the view of this process's cgroup namespace: `/`, or
    /// longer where only a part of the hierarchy is mounted.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Its root directory.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The controllers that are on v2 here. On a hybrid host those bound to a v1 hierarchy are not.
    #[must_use]
    pub fn controllers(&self) -> &Controllers {
        &self.controllers
    }

    /// The cgroup that this process is in, below the root of the mount; `None` when it lies outside.
    pub fn own_cgroup(&self) -> Result<Option<String>> {
        let content = read("/proc/thread-self/cgroup")?;
        Ok(unified_path(&content)
            .and_then(|path| below(&self.root, path))
            .map(str::to_owned))
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "I11: a file of the host's kernel"
)]
fn read(file: &str) -> Result<String> {
    let mut content = String::new();
    match File::open(file).and_then(|mut file| file.read_to_string(&mut content)) {
        Ok(_) => Ok(content),
        Err(error) => Err(Error::new(ErrorKind::Internal, format!("read {file}")).caused_by(error)),
    }
}

/// The v2 line of a `/proc/PID/cgroup`; `None` for one that was removed or lies outside of the
/// reader's cgroup namespace (`/..`).
pub(super) fn unified_path(content: &str) -> Option<&str> {
    let path = content.lines().find_map(|line| line.strip_prefix("0::"))?;
    let outside = path.split('/').any(|part| part == "..");
    (!outside && !path.ends_with(" (deleted)")).then_some(path)
}

/// What is left of `path` below `top`, with its leading slash: `/` for `top` itself. Compares whole
/// components: `/ab` is not below `/a`.
pub(super) fn below<'p>(top: &str, path: &'p str) -> Option<&'p str> {
    match path.strip_prefix(top.trim_end_matches('/'))? {
        "" => Some("/"),
        rest if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

/// Mount point and root of each cgroup2 line of a mountinfo, the newest mount first.
fn parse(table: &str) -> Vec<(PathBuf, String)> {
    let mut found: Vec<_> = table
        .lines()
        .filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            (filesystem.split(' ').next()? == "cgroup2")
                .then(|| (PathBuf::from(unescape(point)), unescape(root)))
        })
        .collect();
    found.reverse();
    found
}

/// Undoes the octal escapes that the kernel writes for blank, tab, newline and backslash.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(3).unwrap_or((part, ""));
        match u8::from_str_radix(code, 8) {
            Ok(byte) if byte.is_ascii() => text.push(char::from(byte)),
            _ => {
                text.push('\\');
                text.push_str(code);
            }
        }
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_hybrid_host_has_its_hierarchy_in_unified() {
        let table = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                     36 31 0:33 / /sys/fs/cgroup/devices rw shared:7 - cgroup cgroup rw,devices\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(
            parse(table),
            [(PathBuf::from("/sys/fs/cgroup/unified"), "/".to_owned())]
        );
    }

    #[test]
    fn the_kernel_tells_the_root_of_a_mount_as_its_table_does() {
        let dir = File::open("/proc").unwrap();
        match root_of_mount(dir.as_fd()) {
            Ok(root) => assert_eq!(root, "/"),
            Err(errno) => assert_eq!(errno, Errno::ENOSYS),
        }
        let table = read("/proc/thread-self/mountinfo").unwrap();
        for (point, root) in parse(&table) {
            let Ok(dir) = File::open(&point) else {
                continue;
            };
            if let Ok(told) = root_of_mount(dir.as_fd()) {
                assert_eq!(told, root, "{}", point.display());
            }
        }
    }

    #[test]
    fn optional_fields_and_a_part_of_the_hierarchy_are_understood() {
        let table =
            "41 31 0:38 /a\\040b /mnt/c rw shared:9 master:2 - cgroup2 none rw,nsdelegate\n";
        assert_eq!(parse(table), [(PathBuf::from("/mnt/c"), "/a b".to_owned())]);
    }

    #[test]
    fn a_v1_host_has_none() {
        assert!(parse("36 31 0:33 / /sys/fs/cgroup rw - cgroup cgroup rw,devices\n").is_empty());
    }

    #[test]
    fn escapes_are_undone_and_others_left() {
        assert_eq!(unescape("a\\134b\\011"), "a\\b\t");
        assert_eq!(unescape("a\\9"), "a\\9");
    }

    #[test]
    fn a_removed_or_foreign_cgroup_has_no_path() {
        assert_eq!(unified_path("1:cpu:/x\n0::/a/b\n"), Some("/a/b"));
        assert_eq!(unified_path("0::/a (deleted)\n"), None);
        assert_eq!(unified_path("0::/../a\n"), None);
        assert_eq!(unified_path("1:cpu:/x\n"), None);
    }

    #[test]
    fn below_compares_whole_components() {
        assert_eq!(below("/a", "/a/b"), Some("/b"));
        assert_eq!(below("/a", "/a"), Some("/"));
        assert_eq!(below("/a", "/ab"), None);
        assert_eq!(below("/", "/x"), Some("/x"));
        assert_eq!(below("/", "/"), Some("/"));
    }
}
