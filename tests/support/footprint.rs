//! What does a process hold at this moment? Memory, descriptors, threads, children, mounts.

use std::fs;
use std::path::Path;

use nix::unistd::Pid;

use crate::suite::{Check, fail};

/// A process at one moment; sizes in kB as the kernel writes them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    /// Proportional share of memory: falls and grows also with others that run the same file.
    pub pss: u64,
    /// Pages that nobody shares and that have no file behind them as they are.
    pub private_dirty: u64,
    /// Pages without a file: what only this process can make grow.
    pub anonymous: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Children, dead ones included.
    pub children: usize,
    /// Children that ended and were not reaped.
    pub zombies: usize,
    /// Lines of its mountinfo.
    pub mounts: usize,
}

impl Footprint {
    /// What `pid` holds.
    pub fn of(pid: Pid) -> Check<Self> {
        let at = |file: &str| format!("/proc/{pid}/{file}");
        let rollup = fs::read_to_string(at("smaps_rollup"))?;
        let size = |name: &str| -> Check<u64> {
            let line = rollup.lines().find_map(|l| l.strip_prefix(name));
            match line.and_then(|rest| rest.split_whitespace().next()) {
                Some(number) => Ok(number.parse()?),
                None => fail(format!("no {name} in {rollup}")),
            }
        };
        let (children, zombies) = children_of(pid);
        Ok(Self {
            pss: size("Pss:")?,
            private_dirty: size("Private_Dirty:")?,
            anonymous: size("Anonymous:")?,
            descriptors: fs::read_dir(at("fd"))?.count(),
            threads: fs::read_dir(at("task"))?.count(),
            children,
            zombies,
            mounts: fs::read_to_string(at("mountinfo"))?.lines().count(),
        })
    }
}

/// Children of `pid`, and how many of them are zombies.
fn children_of(pid: Pid) -> (usize, usize) {
    let (mut all, mut dead) = (0, 0);
    for other in crate::proc::all() {
        let stat = fs::read_to_string(format!("/proc/{other}/stat")).unwrap_or_default();
        let mut rest = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let (state, parent) = (rest.next(), rest.next());
        if parent == Some(&pid.to_string()) {
            all += 1;
            dead += usize::from(state == Some("Z"));
        }
    }
    (all, dead)
}

/// How many files and directories are below `directory`.
pub fn files_below(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let below = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => 1 + files_below(&entry.path()),
        _ => 1,
    };
    entries.flatten().map(below).sum()
}
