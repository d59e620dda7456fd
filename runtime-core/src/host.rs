//! Facts about this machine and about us on it, probed once.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, FsType, statfs};

use crate::error::{Context, Error, Result};
use crate::sys;

/// Release of the kernel: major and minor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u32, pub u32);

/// The oldest kernel that has all we rely on: `cgroup.kill` and `mount_setattr` came last.
pub const KERNEL_FLOOR: KernelVersion = KernelVersion(5, 14);

/// Facts of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Its kernel.
    pub kernel: KernelVersion,
    /// Where cgroup2 is mounted.
    pub cgroup_mount: PathBuf,
    /// What is mounted there.
    pub cgroup: CgroupState,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// It has attribute files of its own (`attr/apparmor/exec`, Linux 5.8).
    pub apparmor_attributes: bool,
    /// SELinux is enabled.
    pub selinux: bool,
    /// The highest capability that the kernel knows.
    pub last_capability: u32,
    /// Our own bounding set: nothing beyond can be given.
    pub bounding: u64,
    /// Our own hard limits by resource.
    pub hard_limits: Vec<u64>,
    /// The soft limit of open files that we were started with, if it was raised since: what is executed gets it back.
    pub open_files: Option<u64>,
    /// We run in a user namespace: no mknod, no raising of limits.
    pub in_user_namespace: bool,
    /// `/proc/kcore` exists.
    pub has_kcore: bool,
}

/// What is mounted at `/sys/fs/cgroup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupState {
    /// cgroup2.
    Unified,
    /// Version 1, or both: not supported.
    Legacy,
    /// Nothing.
    Missing,
}

impl Host {
    /// Asks the kernel. A kernel below the floor is refused by name.
    pub fn probe() -> Result<Self> {
        let kernel = kernel_version()?;
        if kernel < KERNEL_FLOOR {
            return Err(Error::unsupported(
                "kernel",
                format!(
                    "linux {}.{} is too old: rsrun needs {}.{}, which has cgroup.kill and mount_setattr",
                    kernel.0, kernel.1, KERNEL_FLOOR.0, KERNEL_FLOOR.1
                ),
            ));
        }
        let cgroup_mount = PathBuf::from("/sys/fs/cgroup");
        let apparmor = starts_with("/sys/module/apparmor/parameters/enabled", b"Y")?;
        let (last_capability, bounding) = bounding_set()?;
        Ok(Self {
            kernel,
            cgroup: cgroup_state(&cgroup_mount)?,
            cgroup_mount,
            apparmor,
            apparmor_attributes: apparmor && exists("/proc/self/attr/apparmor/exec")?,
            selinux: exists("/sys/fs/selinux/enforce")?,
            last_capability,
            bounding,
            hard_limits: hard_limits()?,
            open_files: sys::open_files_before(),
            in_user_namespace: !is_initial_user_namespace()?,
            has_kcore: exists("/proc/kcore")?,
        })
    }

    /// The limits of open files for what is executed, (soft, hard), if they are not ours.
    #[must_use]
    pub fn open_files(&self) -> Option<(u64, u64)> {
        let hard = self.hard_limit(libc::RLIMIT_NOFILE)?;
        self.open_files.map(|soft| (soft, hard))
    }

    /// Our own hard limit of `resource`; `None` for one that this kernel does not have.
    #[must_use]
    pub fn hard_limit(&self, resource: u32) -> Option<u64> {
        self.hard_limits.get(resource as usize).copied()
    }
}

/// The release of the running kernel.
pub fn kernel_version() -> Result<KernelVersion> {
    let name = nix::sys::utsname::uname().with(|| "uname()")?;
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|n| n.parse().ok());
    match (next(), next()) {
        (Some(major), Some(minor)) => Ok(KernelVersion(major, minor)),
        _ => Err(Error::unsupported(
            "kernel",
            format!("the kernel's release {release:?} does not start with two numbers"),
        )),
    }
}

#[allow(clippy::disallowed_methods, reason = "I11: a mount point of the host")]
fn cgroup_state(mount: &Path) -> Result<CgroupState> {
    const TMPFS: FsType = nix::sys::statfs::TMPFS_MAGIC;
    let kind = if_there(statfs(mount)).with(|| format!("statfs({})", mount.display()))?;
    Ok(match kind.map(|found| found.filesystem_type()) {
        Some(CGROUP2_SUPER_MAGIC) => CgroupState::Unified,
        Some(TMPFS) => CgroupState::Legacy,
        _ => CgroupState::Missing,
    })
}

/// What is missing is a fact, any other failure is none: a container must not be planned by a guess.
fn if_there<T>(asked: nix::Result<T>) -> nix::Result<Option<T>> {
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The first bytes of a small file of the kernel.
#[allow(
    clippy::disallowed_methods,
    reason = "I11: a file of the host's kernel"
)]
fn read_if_there(path: &str) -> Result<Option<String>> {
    let failed = |cause: std::io::Error| {
        Error::new(crate::ErrorKind::Internal, format!("read {path}")).caused_by(cause)
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    let mut text = String::new();
    let read = file.take(64 << 10).read_to_string(&mut text);
    read.map(|_| Some(text)).map_err(failed)
}

fn starts_with(path: &str, prefix: &[u8]) -> Result<bool> {
    let text = read_if_there(path)?;
    Ok(text.is_some_and(|text| text.as_bytes().starts_with(prefix)))
}

#[allow(
    clippy::disallowed_methods,
    reason = "I11: a file of the host's kernel"
)]
fn exists(path: &str) -> Result<bool> {
    let found = if_there(nix::sys::stat::lstat(path)).with(|| format!("lstat({path})"))?;
    Ok(found.is_some())
}

/// The highest capability that the kernel knows, and which of all we may have (PR_CAPBSET_READ, prctl(2)).
fn bounding_set() -> Result<(u32, u64)> {
    let (mut known, mut set) = (0, 0);
    loop {
        match sys::is_in_bounding_set(known) {
            Ok(has) => set |= u64::from(has) << known,
            // No capability of it has this number.
            Err(Errno::EINVAL) if known > 0 => return Ok((known - 1, set)),
            Err(errno) => return Err(Error::os(errno, format!("prctl(PR_CAPBSET_READ, {known})"))),
        }
        known += 1;
        if known == u64::BITS {
            return Ok((known - 1, set));
        }
    }
}

fn hard_limits() -> Result<Vec<u64>> {
    let hard = |resource| sys::rlimit(resource).map(|(_, hard)| hard);
    (0..16)
        .map(|resource| hard(resource).with(|| format!("prlimit(0, {resource})")))
        .collect()
}

/// The initial one maps every id to itself, and can't be told from a full identity map by that; its
/// inode number is fixed (`PROC_USER_INIT_INO`).
#[allow(
    clippy::disallowed_methods,
    reason = "I11: a file of the host's kernel"
)]
fn is_initial_user_namespace() -> Result<bool> {
    const INITIAL: u64 = 0xEFFF_FFFD;
    let found = nix::sys::stat::stat("/proc/self/ns/user").with(|| "stat(/proc/self/ns/user)")?;
    Ok(found.st_ino == INITIAL)
}
