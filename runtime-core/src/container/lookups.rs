//! What a plan needs to know that is neither in the spec nor a fact of the host: looked up before,
//! since planning does no I/O.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::fstat;
use oci_spec::runtime::Spec;

use crate::error::{Error, Result};
use crate::plan::{CreateFacts, namespaces};
use crate::seccomp::Cache;
use crate::{passwd, seccomp};

/// Below the state root, or beside it; no id of a container has this character.
const KEPT_PROFILES: &str = "@seccomp";

/// Where the compiled profiles of a state root are.
pub fn profiles_in(root: &Path) -> PathBuf {
    root.join(KEPT_PROFILES)
}

/// The compiled profiles kept in `directory`. A place that can't be used costs time, nothing else.
pub fn kept_profiles(directory: &Path) -> Option<Cache> {
    let opened = Cache::open(directory);
    opened
        .inspect_err(|error| log::debug!("seccomp profiles are compiled each time: {error}"))
        .ok()
}

/// Fills in the compiled seccomp profile, the user's home directory and which of the listed
/// namespaces are our own. `kept` gives the directory of compiled profiles, should one be needed.
pub fn look_up(
    mut facts: CreateFacts,
    spec: &Spec,
    rootfs: &Path,
    kept: impl FnOnce() -> Option<Cache>,
) -> Result<CreateFacts> {
    if let Some(profile) = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref())
    {
        facts.seccomp = Some(seccomp::compile(profile, kept().as_ref())?);
    }
    facts.home = home(spec, rootfs)?;
    facts.own_namespaces = own_namespaces(spec);
    Ok(facts)
}

/// Only asked for where the environment has none. A root filesystem that is not there, or is a link, is reported
/// when it is mounted, with better words; any other failure must not change what the program is told.
fn home(spec: &Spec, rootfs: &Path) -> Result<Option<String>> {
    let Some(process) = spec.process() else {
        return Ok(None);
    };
    if process
        .env()
        .iter()
        .flatten()
        .any(|entry| entry.starts_with("HOME="))
    {
        return Ok(None);
    }
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    let root = match openat2(AT_FDCWD, rootfs, how) {
        Ok(root) => root,
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
        Err(errno) => return Err(Error::os(errno, format!("openat2({})", rootfs.display()))),
    };
    passwd::home_below(root.as_fd(), process.user().uid())
}

fn own_namespaces(spec: &Spec) -> u64 {
    let listed = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    let mut own = 0;
    for namespace in listed.into_iter().flatten() {
        let Some(path) = namespace.path() else {
            continue;
        };
        let flag = namespaces::flag_of(namespace.typ());
        if same_file(
            path,
            &Path::new("/proc/self/ns").join(namespaces::name(flag)),
        ) {
            own |= flag;
        }
    }
    own
}

/// Whether two paths of the host lead to one file.
pub(super) fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let file: OwnedFd = openat2(
            AT_FDCWD,
            path,
            OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC),
        )
        .ok()?;
        let stat = fstat(&file).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    match (identity(one), identity(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}
