//! What must never be touched: a file system of its own, on the host, that hostile links and mounts point to.
//!
//! Its own device number tells whether anything of it is mounted or open anywhere, its content names itself in every
//! text, and the fingerprint has all times: with `strictatime` a read shows as well as a write.
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A word that every file of it has.
pub const WORD: &str = "canary-was-read";

/// Names that a runtime makes or mounts on, so that whoever was led here finds them.
const DIRECTORIES: [&str; 12] = [
    "pts", "shm", "a", "a/x", "b", "deep", "er", "sub", "hidden", "ro", "etc", "bin",
];
const FILES: [&str; 12] = [
    "null",
    "zero",
    "ptmx",
    "console",
    "passwd",
    "etc/passwd",
    "file",
    "secret",
    "probe",
    "bin/probe",
    "resolv.conf",
    "sub/file",
];

/// The canary; it goes when this is dropped.
#[derive(Debug)]
pub struct Canary {
    /// Where it is mounted.
    pub at: PathBuf,
    device: u64,
}

impl Canary {
    /// Mounts it at a new directory `at`.
    pub fn make(at: PathBuf) -> io::Result<Self> {
        fs::create_dir(&at)?;
        mount(
            Some("canary"),
            &at,
            Some("tmpfs"),
            MsFlags::MS_STRICTATIME,
            Some("mode=755,size=4m"),
        )?;
        let canary = Self {
            device: fs::metadata(&at)?.dev(),
            at,
        };
        let inner = canary.directory();
        fs::create_dir(&inner)?;
        for name in DIRECTORIES {
            fs::create_dir(inner.join(name))?;
        }
        // A line of a user list, as it might be looked for in one.
        let text = format!("root:x:0:0::/{WORD}:/bin/sh\nuser:x:1000:1000::/{WORD}:/bin/sh\n");
        for name in FILES {
            fs::write(inner.join(name), &text)?;
        }
        fs::write(canary.file(), &text)?;
        symlink("file", inner.join("link"))?;
        Ok(canary)
    }

    /// A directory in it.
    pub fn directory(&self) -> PathBuf {
        self.at.join("directory")
    }

    /// A file in it.
    pub fn file(&self) -> PathBuf {
        self.at.join("file")
    }

    /// A name in it that does not exist.
    pub fn nothing(&self) -> PathBuf {
        self.at.join("nothing")
    }

    /// Its device number as stat tells it.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Its device as mountinfo writes it.
    pub fn device_words(&self) -> String {
        format!("{}:{}", libc::major(self.device), libc::minor(self.device))
    }

    /// Everything about it, in lines: names, inodes, types, modes, owners, times, content.
    pub fn fingerprint(&self) -> String {
        let mut lines = Vec::new();
        describe(&self.at, &mut lines);
        lines.sort();
        lines.join("\n")
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.at);
    }
}

/// The lines of `after` that are not in `before` and the other way round.
pub fn difference(before: &str, after: &str) -> String {
    let missing = |one: &str, other: &str, sign: &str| {
        let lines: Vec<&str> = other.lines().collect();
        one.lines()
            .filter(|line| !lines.contains(line))
            .map(|line| format!("{sign}{line}"))
            .collect::<Vec<_>>()
    };
    let mut all = missing(after, before, "+");
    all.extend(missing(before, after, "-"));
    all.join("; ")
}

fn describe(path: &Path, lines: &mut Vec<String>) {
    let Ok(meta) = fs::symlink_metadata(path) else {
        lines.push(format!("{} is not to be seen", path.display()));
        return;
    };
    let times = [
        meta.atime(),
        meta.atime_nsec(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ];
    let content = if meta.is_file() {
        content(path)
    } else {
        String::new()
    };
    lines.push(format!(
        "{} dev {} ino {} mode {:o} owner {}:{} links {} times {times:?} {content:?}",
        path.display(),
        meta.dev(),
        meta.ino(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.nlink()
    ));
    if meta.is_dir() {
        for name in names(path) {
            describe(&path.join(name), lines);
        }
    }
}

fn content(path: &Path) -> String {
    let mut text = String::new();
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOATIME)
        .open(path);
    match file.and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => text,
        Err(e) => e.to_string(),
    }
}

/// Without leaving a trace of the reading.
fn names(dir: &Path) -> Vec<std::ffi::OsString> {
    use std::os::unix::ffi::OsStrExt;
    let flags = nix::fcntl::OFlag::O_DIRECTORY
        | nix::fcntl::OFlag::O_NOATIME
        | nix::fcntl::OFlag::O_CLOEXEC;
    let Ok(mut opened) = nix::dir::Dir::open(dir, flags, nix::sys::stat::Mode::empty()) else {
        return Vec::new();
    };
    opened
        .iter()
        .flatten()
        .map(|entry| std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
        .filter(|name| name != "." && name != "..")
        .collect()
}
