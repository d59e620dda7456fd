//! Are the kernel's settings, all that can be written below `/proc/sys`, as they were?

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Settings that move by themselves.
const MOVING: [&str; 10] = [
    "fs/aio-nr",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "kernel/ns_last_pid",
    "kernel/random/",
    "kernel/pty/nr",
    "net/netfilter/nf_conntrack_count",
    "vm/stat_refresh",
];

/// What a program of root is called by, and what turns the machine off: looked at every time.
const DANGEROUS: [&str; 4] = [
    "kernel/core_pattern",
    "kernel/modprobe",
    "kernel/hostname",
    "kernel/shm_rmid_forced",
];

struct Setting {
    path: PathBuf,
    // Held open: eight hundred names need not be looked up for each look.
    file: File,
    value: Vec<u8>,
}

/// All settings and their values.
pub(super) struct Settings(Vec<Setting>);

impl Settings {
    pub(super) fn open() -> io::Result<Self> {
        let limit = 8192;
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, limit, limit)?;
        let mut all = Vec::new();
        collect(Path::new("/proc/sys"), &mut all);
        Ok(Self(all))
    }

    pub(super) fn differences(&self) -> Vec<String> {
        self.0.iter().filter_map(Setting::difference).collect()
    }

    pub(super) fn dangerous(&self) -> Vec<String> {
        let chosen = self
            .0
            .iter()
            .filter(|s| DANGEROUS.iter().any(|d| s.path.ends_with(d)));
        chosen.filter_map(Setting::difference).collect()
    }

    /// Writes back what has changed.
    pub(super) fn restore(&self) -> io::Result<()> {
        for setting in self.0.iter().filter(|s| s.difference().is_some()) {
            fs::write(&setting.path, &setting.value)?;
        }
        Ok(())
    }
}

impl Setting {
    fn difference(&self) -> Option<String> {
        let now = read(&self.file);
        let shown = |v: &[u8]| String::from_utf8_lossy(v).trim().to_string();
        (now != self.value).then(|| {
            format!(
                "setting {} is {:?}, was {:?}",
                self.path.display(),
                shown(&now),
                shown(&self.value)
            )
        })
    }
}

fn collect(dir: &Path, all: &mut Vec<Setting>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            collect(&path, all);
            continue;
        }
        let name = path
            .strip_prefix("/proc/sys")
            .unwrap_or(&path)
            .display()
            .to_string();
        let moves = MOVING.iter().any(|m| name.starts_with(m));
        let readable_and_writable = meta.permissions().mode() & 0o600 == 0o600;
        if moves || !readable_and_writable {
            continue;
        }
        if let Ok(file) = File::open(&path) {
            let value = read(&file);
            all.push(Setting { path, file, value });
        }
    }
}

fn read(file: &File) -> Vec<u8> {
    let mut value = vec![0; 4096];
    // What can't be read (a secret that is not set) has no value.
    let length = file.read_at(&mut value, 0).unwrap_or(0);
    value.truncate(length);
    value
}
