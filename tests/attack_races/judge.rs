//! Did anything get out, or anything of the host in?
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::canary::{self, Canary};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use rsrun_tests::cli::facts;
use rsrun_tests::cli::ground::Ground;
use rsrun_tests::cli::oracle;

use crate::stage::Stage;

/// The host's side, taken before; [`Host::changes`] tells what is different after.
pub struct Host {
    canary: String,
    mounts: String,
    devices: Vec<String>,
}

impl Host {
    /// Looks now.
    pub fn look(canary: &Canary) -> Self {
        Self {
            canary: canary.fingerprint(),
            mounts: text("/proc/self/mountinfo"),
            devices: devices(),
        }
    }

    /// What of the host has changed since.
    pub fn changes(&self, canary: &Canary) -> Vec<String> {
        let mut changes = Vec::new();
        let mut note = |what: &str, before: &str, after: &str| {
            if before != after {
                changes.push(format!("{what}: {}", canary::difference(before, after)));
            }
        };
        note("the canary", &self.canary, &canary.fingerprint());
        note(
            "mounts of the host",
            &self.mounts,
            &text("/proc/self/mountinfo"),
        );
        note(
            "devices of the host",
            &self.devices.join("\n"),
            &devices().join("\n"),
        );
        changes
    }
}

/// What a container leaves behind that is gone: its cgroup, its record.
pub fn leftovers(ground: &Ground, stage: &Stage<'_>) -> Vec<String> {
    let mut left = Vec::new();
    let record = ground.runtime.root.join(&stage.bundle.id);
    if record.exists() {
        left.push(format!("{} is still there", record.display()));
    }
    for dir in oracle::cgroups(&stage.bundle.id) {
        left.push(format!("the cgroup {dir} is still there"));
    }
    left
}

/// A mount of a container, by what is mounted and not where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    device: String,
    root: String,
    point: String,
    read_only: bool,
    kind: String,
    source: String,
}

impl Mounted {
    /// What may not be missing in a container that runs: the root, every mount that the spec names, what covers procfs.
    fn must_be_there(&self, named: &[&str]) -> bool {
        let root_of = |name: &&str| self.root.ends_with(&format!("/{name}"));
        self.point == "/"
            || self.point.starts_with("/proc/")
            || ["proc", "sysfs", "devpts"].contains(&self.kind.as_str())
            || named
                .iter()
                .any(|name| self.source == **name || root_of(name))
    }

    fn is_same(&self, other: &Self) -> bool {
        self.root == other.root
            && self.read_only == other.read_only
            && self.kind == other.kind
            && self.source == other.source
    }
}

/// The mounts of a process below its root.
pub fn mounts_of(pid: u32, stage: &Stage<'_>) -> Vec<Mounted> {
    let bundle = format!("/bundles/{}", stage.bundle.id);
    facts::mounts(&text(&format!("/proc/{pid}/mountinfo")))
        .into_iter()
        .map(|mount| Mounted {
            read_only: mount.has("ro"),
            device: mount.device,
            // The root may have been moved aside when it was mounted already: it is the same directory.
            root: mount.root.replace(
                &format!("{bundle}/.aside/swapped"),
                &format!("{bundle}/rootfs"),
            ),
            point: mount.point,
            kind: mount.kind,
            source: mount.source,
        })
        .collect()
}

/// What a process of the container shall look like: the mounts of one that nobody disturbed.
#[derive(Debug, Default, Clone)]
pub struct Inside {
    /// Its mounts.
    pub mounts: Vec<Mounted>,
    /// How the spec's own are recognized.
    pub named: &'static [&'static str],
}

impl Inside {
    /// What is wrong with the process `pid`, which runs its program and waits.
    pub fn wrongs(&self, pid: u32, stage: &Stage<'_>, canary: &Canary) -> Vec<String> {
        let mut wrongs = Vec::new();
        let mounts = mounts_of(pid, stage);
        for mount in mounts.iter().filter(|m| m.device == canary.device_words()) {
            wrongs.push(format!("the canary is mounted inside: {mount:?}"));
        }
        self.compare(&mounts, &mut wrongs);
        for (what, path) in open_things(pid) {
            if fs::metadata(&path).is_ok_and(|meta| meta.dev() == canary.device()) {
                wrongs.push(format!("{what} leads into the canary"));
            }
        }
        if text_of(&format!("/proc/{pid}/environ")).contains(canary::WORD) {
            wrongs.push("the environment has a text of the canary".into());
        }
        for mount in mounts.iter().filter(|m| m.source.starts_with("of-")) {
            if let Some(dir) = inside(pid, &mount.point) {
                contents(
                    &PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())),
                    &mut wrongs,
                );
            }
        }
        wrongs
    }

    /// Every mount that has to be there is there, wherever a swap of names has moved it, and nothing of procfs is
    /// mounted on its own that was not.
    fn compare(&self, found: &[Mounted], wrongs: &mut Vec<String>) {
        let mut left: Vec<&Mounted> = found.iter().collect();
        for wanted in &self.mounts {
            match left.iter().position(|mount| mount.is_same(wanted)) {
                Some(index) => drop(left.swap_remove(index)),
                None if wanted.must_be_there(self.named) => {
                    wrongs.push(format!(
                        "a mount went elsewhere: {wanted:?} is missing in {found:?}"
                    ));
                }
                None => {}
            }
        }
        // A read-only path that became a link into /proc is made read-only where the container sees it: its own file
        // over itself. Anywhere else, or writable, a part of procfs is an escape.
        let own = found.iter().find(|m| m.point == "/proc").map(|m| &m.device);
        let over_itself = |m: &Mounted| {
            m.read_only && Some(&m.device) == own && m.point == format!("/proc{}", m.root)
        };
        for mount in left.iter().filter(|m| m.kind == "proc" && !over_itself(m)) {
            wrongs.push(format!("a part of procfs is mounted: {mount:?}"));
        }
    }
}

fn open_things(pid: u32) -> Vec<(String, PathBuf)> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let named = |what: &str| {
        (
            what.to_owned(),
            PathBuf::from(format!("/proc/{pid}/{what}")),
        )
    };
    fds.map(|entry| {
        (
            format!("descriptor {}", entry.file_name().display()),
            entry.path(),
        )
    })
    .chain([named("root"), named("cwd"), named("exe")])
    .collect()
}

/// A directory of the container, unless a link of the adversary is on the way by now: we must not follow it either.
fn inside(pid: u32, point: &str) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(format!("/proc/{pid}/root").as_str(), flags, Mode::empty()).ok()?;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(&root, point, OpenHow::new().flags(flags).resolve(resolve)).ok()
}

/// Texts of the canary below a directory that was copied.
fn contents(dir: &Path, wrongs: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            contents(&path, wrongs);
        }
        if kind.is_file() && text_of(&path.display().to_string()).contains(canary::WORD) {
            wrongs.push(format!("{} was copied from the canary", path.display()));
        }
    }
}

fn devices() -> Vec<String> {
    let describe = |name: &&str| {
        let path = format!("/dev/{name}");
        fs::symlink_metadata(&path).map_or_else(
            |e| format!("{path} {e}"),
            |m| {
                format!(
                    "{path} ino {} mode {:o} owner {}:{}",
                    m.ino(),
                    m.mode(),
                    m.uid(),
                    m.gid()
                )
            },
        )
    };
    [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "console",
    ]
    .iter()
    .map(describe)
    .collect()
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn text_of(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
