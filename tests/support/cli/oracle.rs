//! Is the host after a case as it was before: processes, mounts, cgroups, files, descriptors, settings?
//!
//! The suite is a subreaper in its own mount namespace, so processes and mounts are exactly those that the runtime
//! under test made; other work on the same machine is not seen.
use crate::cli::ground::Ground;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Settings that a container's own could be mistaken for.
const SETTINGS: [&str; 8] = [
    "kernel/hostname",
    "kernel/domainname",
    "kernel/core_pattern",
    "kernel/modprobe",
    "kernel/shm_rmid_forced",
    "kernel/msgmax",
    "fs/mqueue/msg_max",
    "net/ipv4/ip_unprivileged_port_start",
];

/// One look at the host: lines that must be the same after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look(BTreeSet<String>);

/// Takes a look now.
pub fn look(ground: &Ground) -> Look {
    reap();
    let mut lines = BTreeSet::new();
    lines.extend(
        children()
            .iter()
            .map(|pid| format!("process {pid} {}", name_of(*pid))),
    );
    lines.extend(
        cgroups(&ground.prefix)
            .into_iter()
            .map(|dir| format!("cgroup {dir}")),
    );
    lines.extend(
        text("/proc/self/mountinfo")
            .lines()
            .map(|l| format!("mount {l}")),
    );
    lines.extend(files(&ground.work).into_iter().map(|f| format!("file {f}")));
    lines.extend(descriptors().into_iter().map(|f| format!("descriptor {f}")));
    lines.extend(
        SETTINGS
            .iter()
            .map(|s| format!("setting {s} {}", text(&format!("/proc/sys/{s}")).trim())),
    );
    for dir in ["/run/rsrun", "/run/runc"] {
        let ours = files(Path::new(dir))
            .into_iter()
            .filter(|f| f.contains(&ground.prefix));
        lines.extend(ours.map(|f| format!("file {f}")));
    }
    lines.insert(format!("cwd {:?}", std::env::current_dir().ok()));
    lines.insert(format!("namespaces {}", namespaces()));
    Look(lines)
}

/// Looks until the host is as before or two seconds have gone; gives what differs, or nothing.
///
/// An orphan that was killed needs a moment to end; nothing else may be late.
pub fn settle(ground: &Ground, before: &Look) -> String {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let difference = difference(before, &look(ground));
        if difference.is_empty() || Instant::now() > deadline {
            return difference;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn difference(before: &Look, after: &Look) -> String {
    let gone = before.0.difference(&after.0).map(|l| format!("-{l}"));
    let new = after.0.difference(&before.0).map(|l| format!("+{l}"));
    new.chain(gone).collect::<Vec<_>>().join("; ")
}

/// Takes the exit of every child that has ended.
pub fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Every child of this process, adopted ones too.
pub fn children() -> Vec<Pid> {
    let tasks = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.map(|t| fs::read_to_string(t.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|l| {
            l.split_whitespace()
                .filter_map(|p| p.parse().ok())
                .map(Pid::from_raw)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Cgroups that carry this suite's prefix anywhere in the tree, parents first.
pub fn cgroups(prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    directories(Path::new("/sys/fs/cgroup"), &mut |path| {
        if path.to_string_lossy().contains(prefix) {
            let below = path.strip_prefix("/sys/fs/cgroup").unwrap_or(path);
            found.push(below.display().to_string());
        }
    });
    found.sort();
    found
}

fn directories(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            visit(&entry.path());
            directories(&entry.path(), visit);
        }
    }
}

/// Every file below a directory but those inside a root file system, which has mount points made in it, the
/// two files that hold the output of the last call, and compiled seccomp profiles, which are made to stay.
fn files(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(top, &mut |path| {
        let place = path.strip_prefix(top).unwrap_or(path);
        let scratch = ["stdout", "stderr"]
            .iter()
            .any(|name| place == Path::new(name));
        let kept = place.iter().any(|part| part == "@seccomp");
        if !scratch && !kept {
            found.push(path.display().to_string());
        }
    });
    found
}

fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        visit(&path);
        if path
            .file_name()
            .is_some_and(|n| n == "rootfs" || n == "base")
        {
            continue;
        }
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&path, visit);
        }
    }
}

fn descriptors() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    // The directory's own descriptor points to a link that is gone by now.
    entries
        .filter_map(|e| fs::read_link(e.path()).ok())
        .map(|p| p.display().to_string())
        .collect()
}

fn namespaces() -> String {
    let mut links: Vec<String> = fs::read_dir("/proc/self/ns")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| fs::read_link(e.path()).ok())
        .map(|p| p.display().to_string())
        .collect();
    links.sort();
    links.join(" ")
}

fn name_of(pid: Pid) -> String {
    text(&format!("/proc/{pid}/cmdline")).replace('\0', " ")
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
