//! What can a process of a container get hold of, of those that are born beside it?

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// What no container can see by its own root.
const SECRET: &str = "srv/canary/secret";

/// Says that all newcomers have been there.
const ENOUGH: &str = "/enough";

/// Hunts until it is enough, or for some seconds; gives how many newcomers there were, by which ways the host was
/// read, and which of their binaries that are not of this root could be opened for writing later.
pub(crate) fn newcomers(seconds: u64) -> String {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let (mut known, mut ways, mut binaries) = (pids(), BTreeSet::new(), Vec::new());
    let mut count = 0;
    println!("hunting");
    while Instant::now() < deadline && !std::fs::exists(ENOUGH).unwrap_or(true) {
        for pid in pids().difference(&known.clone()) {
            known.insert(*pid);
            count += 1;
            // Again and again: what it holds changes until it executes.
            for _ in 0..20 {
                ways.extend(look(*pid));
                let Ok(file) = File::open(format!("/proc/{pid}/exe")) else { continue };
                // Of what is held, not of the process: that may have executed another meanwhile.
                let named = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
                if !named.starts_with("/bin") {
                    binaries.push((named, file));
                }
            }
        }
    }
    let held = binaries.len();
    let written: BTreeSet<String> =
        binaries.iter().filter(|(_, f)| writable(f)).map(|(named, _)| named.display().to_string()).collect();
    let written: Vec<String> = written.into_iter().collect();
    let ways: Vec<String> = ways.into_iter().collect();
    format!("{{\"newcomers\":{count},\"held\":{held},\"written\":{written:?},\"host\":{ways:?}}}")
}

fn pids() -> BTreeSet<u32> {
    let list = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    list.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

fn look(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    for place in ["root", "cwd"] {
        if std::fs::read(format!("/proc/{pid}/{place}/{SECRET}")).is_ok() {
            found.push(place.to_string());
        }
    }
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let path = entry.path();
        // From any depth: of a cgroup's directory the host's root is five up.
        let up = path.join("../".repeat(24));
        if std::fs::read(path.join(SECRET)).is_ok() || std::fs::read(up.join(SECRET)).is_ok() {
            found.push("fd".to_string());
        }
    }
    found
}

fn writable(binary: &File) -> bool {
    OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", binary.as_raw_fd())).is_ok()
}
