//! How does the machine look: files, mounts, binaries, cgroups and their limits, processes?

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::canary::Canary;
use crate::cli::oracle;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Limits that an update meant for a container must not set on what is above it.
const LIMITS: [&str; 10] = [
    "memory.max",
    "memory.high",
    "memory.low",
    "memory.swap.max",
    "pids.max",
    "cpu.max",
    "cpu.weight",
    "cpuset.cpus",
    "io.max",
    "cgroup.freeze",
];

/// Trees that are small and on no disk: what is made in them is seen by its name. The machine's disk is watched.
const TREES: [&str; 5] = ["/run", "/tmp", "/dev/shm", "/dev/mqueue", "/sys/fs/bpf"];

/// One look: lines that must be the same after.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Look(BTreeSet<String>);

impl Look {
    pub(super) fn take(prefix: &str, work: &Path, binaries: &[PathBuf], canary: &Canary) -> Self {
        oracle::reap();
        let mut lines: BTreeSet<String> = BTreeSet::new();
        lines.extend(canary.lines().into_iter().map(|l| format!("canary {l}")));
        lines.extend(
            text("/proc/self/mountinfo")
                .lines()
                .map(|l| format!("mount {l}")),
        );
        lines.extend(binaries.iter().map(|b| format!("binary {}", identity(b))));
        lines.extend(
            cgroups(Path::new(CGROUPS), prefix)
                .into_iter()
                .map(|c| format!("cgroup {c}")),
        );
        lines.extend(processes().into_iter().map(|p| format!("process {p}")));
        for tree in TREES {
            names(Path::new(tree), work, &mut |path| {
                lines.insert(format!("file {}", path.display()));
            });
        }
        // Devices of the host: a node that is made, or given away.
        lines.extend(
            fs::read_dir("/dev")
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| {
                    let meta = e.path().symlink_metadata();
                    let rights = meta.map(|m| format!("{:o} {}:{}", m.mode(), m.uid(), m.gid()));
                    format!(
                        "device {} {}",
                        e.path().display(),
                        rights.unwrap_or_default()
                    )
                }),
        );
        let root = fs::metadata("/").map(|m| format!("{:o} {}:{}", m.mode(), m.uid(), m.gid()));
        lines.insert(format!("root {}", root.unwrap_or_default()));
        lines.insert(format!("hostname {}", text("/proc/sys/kernel/hostname")));
        Self(lines)
    }

    pub(super) fn differences(&self, after: &Self) -> Vec<String> {
        let new = after.0.difference(&self.0).map(|l| format!("+{l}"));
        let gone = self.0.difference(&after.0).map(|l| format!("-{l}"));
        new.chain(gone).collect()
    }

    /// Ends, unmounts and removes what is new in `after`.
    pub(super) fn undo(&self, after: &Self) {
        for line in after
            .0
            .difference(&self.0)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            let mut words = line.split(' ');
            let (kind, rest) = (words.next().unwrap_or_default(), words.collect::<Vec<_>>());
            match kind {
                "mount" => {
                    let point = rest.get(4).copied().unwrap_or_default();
                    let _ = umount2(point, MntFlags::MNT_DETACH);
                }
                "process" => {
                    let pid = rest.first().and_then(|p| p.parse().ok());
                    let _ = pid.map(|p| kill(Pid::from_raw(p), Signal::SIGKILL));
                }
                "cgroup" => {
                    let name = rest.first().copied().unwrap_or_default();
                    let _ = fs::remove_dir(Path::new(CGROUPS).join(name));
                }
                "file" | "device" => {
                    let path = Path::new(rest.first().copied().unwrap_or_default());
                    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
                }
                _ => {}
            }
        }
        oracle::reap();
    }
}

/// What a written or exchanged binary can't keep: a write, also by a mapping, moves its times.
fn identity(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(m) => format!(
            "{} inode {} size {} mode {:o} changed {}.{} {}.{}",
            path.display(),
            m.ino(),
            m.size(),
            m.mode(),
            m.mtime(),
            m.mtime_nsec(),
            m.ctime(),
            m.ctime_nsec()
        ),
        Err(e) => format!("{}: {e}", path.display()),
    }
}

/// Every cgroup; with the limits of those that are not of the suite's own containers.
fn cgroups(dir: &Path, prefix: &str) -> Vec<String> {
    let name = dir
        .strip_prefix(CGROUPS)
        .unwrap_or(dir)
        .display()
        .to_string();
    let mut found = Vec::new();
    if !name.contains(prefix) || name == prefix {
        let limits = LIMITS.map(|file| fs::read_to_string(dir.join(file)).unwrap_or_default());
        found.push(format!("{name} {}", limits.join(" ").replace('\n', "")));
    } else {
        found.push(name);
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(cgroups(&entry.path(), prefix));
        }
    }
    found
}

fn processes() -> Vec<String> {
    let name = |pid: Pid| text(&format!("/proc/{pid}/cmdline")).replace('\0', " ");
    crate::proc::all()
        .into_iter()
        .map(|pid| format!("{pid} {}", name(pid)))
        .collect()
}

fn names(dir: &Path, but: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path == but {
            continue;
        }
        visit(&path);
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            names(&path, but, visit);
        }
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
