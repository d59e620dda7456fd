//! What is a container made from in these schedules, anew for each?
//!
//! The bundle lies on a mount that is shared, so that a hostile mount travels wherever the kernel lets it.
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::ground::Ground;

use crate::adversary::Target;

/// Directories of the bundle that the hostile process has.
const HOSTILE: [&str; 3] = ["rootfs", "volume", "devices"];

/// An entry that is there before the runtime is called.
#[derive(Debug, Clone, Copy)]
pub enum Entry {
    /// A directory, with those above it.
    Directory(&'static str),
    /// A file with some text.
    File(&'static str),
    /// A link.
    Link(&'static str, &'static str),
    /// A character device.
    Device(&'static str, u64, u64),
}

/// What every root file system has.
const ALWAYS: [Entry; 7] = [
    Entry::Directory("rootfs/proc"),
    Entry::Directory("rootfs/bin"),
    Entry::Directory("rootfs/etc"),
    Entry::Directory("rootfs/dev"),
    Entry::Directory("volume"),
    Entry::Directory("devices"),
    Entry::Directory("source"),
];

/// The bundle of a case.
pub struct Stage<'g> {
    /// The bundle itself.
    pub bundle: Bundle<'g>,
    base: PathBuf,
    entries: &'static [Entry],
}

impl<'g> Stage<'g> {
    /// A bundle whose directories have these entries.
    pub fn new(ground: &'g Ground, entries: &'static [Entry]) -> io::Result<Self> {
        let bundle = ground.bundle();
        let dir = &bundle.dir;
        let base = ground.work.join("base");
        // A link does not go from one mount to another, though both are of one file system.
        fs::hard_link(base.join("probe"), dir.join("program"))?;
        mount(Some(dir), dir, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        mount(
            None::<&str>,
            dir,
            None::<&str>,
            MsFlags::MS_SHARED,
            None::<&str>,
        )?;
        Ok(Self {
            bundle,
            base,
            entries,
        })
    }

    /// Where `path` of the bundle is on the host.
    pub fn at(&self, path: &str) -> PathBuf {
        self.bundle.dir.join(path)
    }

    /// A program for hooks, which is the host's and nobody's to swap.
    pub fn probe_of_the_host(&self) -> PathBuf {
        self.base.join("probe")
    }

    /// `rootfs/dev` and such as the adversary takes it.
    pub fn target(&self, path: &str) -> Target {
        let (top, below) = path.split_once('/').unwrap_or((path, ""));
        let aside = if below.is_empty() {
            self.at(".aside")
        } else {
            self.at(top).join(".aside")
        };
        Target {
            path: self.at(path),
            aside,
        }
    }

    /// Makes all directories as at the beginning.
    pub fn lay(&self) -> io::Result<()> {
        self.clear()?;
        for entry in ALWAYS.iter().chain(self.entries) {
            self.make(entry)?;
        }
        fs::hard_link(self.at("program"), self.at("rootfs/bin/probe"))?;
        fs::write(
            self.at("rootfs/etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n",
        )?;
        fs::write(self.at("source/file"), "of the host, for the container\n")
    }

    /// Takes them away.
    pub fn clear(&self) -> io::Result<()> {
        for name in HOSTILE.iter().chain(&["source", ".aside"]) {
            let path = self.at(name);
            let gone = match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(_) => Ok(()),
            };
            gone.map_err(|e| io::Error::other(format!("{}: {e}", path.display())))?;
        }
        Ok(())
    }

    fn make(&self, entry: &Entry) -> io::Result<()> {
        let prepared = |name: &str| -> io::Result<PathBuf> {
            let path = self.at(name);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            Ok(path)
        };
        match entry {
            Entry::Directory(name) => fs::create_dir_all(self.at(name)),
            Entry::File(name) => {
                let path = prepared(name)?;
                fs::write(&path, "of the image\n")?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
            }
            Entry::Link(name, to) => symlink(to, prepared(name)?),
            Entry::Device(name, major, minor) => {
                let mode = Mode::from_bits_truncate(0o666);
                Ok(mknod(
                    &prepared(name)?,
                    SFlag::S_IFCHR,
                    mode,
                    makedev(*major, *minor),
                )?)
            }
        }
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // Before the bundle goes: its directory is a mount.
        let _ = umount2(&self.bundle.dir, MntFlags::MNT_DETACH);
    }
}
