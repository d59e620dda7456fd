//! What does the hostile process do at its one moment?
//!
//! It has the directories that a container is made from: the root file system and volumes that others share. There
//! it puts something else in the place of one name, atomically, and lets the runtime go on.
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::canary::Canary;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;

/// What takes the place of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// An absolute link to a directory of the host.
    LinkToDirectory,
    /// An absolute link to a file of the host.
    LinkToFile,
    /// A relative link with more `..` than there are directories.
    LinkUpwards,
    /// A link through procfs, which knows the host's root while the runtime has it.
    LinkThroughProc,
    /// A link to a setting of the whole machine, in whatever procfs it is followed; in the guest only.
    LinkToSetting,
    /// A link to a name of the host that does not exist, for whoever creates what is missing.
    LinkToNothing,
    /// A bind mount over it, on a mount that is shared with everybody.
    Bind,
    /// A fifo, for whoever opens before looking.
    Fifo,
}

/// All of them.
pub const SWAPS: [Swap; 8] = [
    Swap::LinkToDirectory,
    Swap::LinkToFile,
    Swap::LinkUpwards,
    Swap::LinkThroughProc,
    Swap::LinkToSetting,
    Swap::LinkToNothing,
    Swap::Bind,
    Swap::Fifo,
];

/// One name that is swapped, and where what replaces it is prepared: in the same mount, and where a container that
/// has it as its root or volume still sees what it was.
#[derive(Debug, Clone)]
pub struct Target {
    /// The name.
    pub path: PathBuf,
    /// A directory for what is swapped out.
    pub aside: PathBuf,
}

/// How to take back what [`Swap::perform`] did.
#[derive(Debug)]
#[must_use]
pub enum Undo {
    /// The two names are exchanged again.
    Exchange(PathBuf, PathBuf),
    /// There was nothing before.
    Remove(PathBuf),
    /// The mount goes.
    Unmount(PathBuf),
}

impl Swap {
    /// Does it; `None` where it can't be done at this moment: the parent is missing, or a mount is to go on nothing.
    pub fn perform(self, target: &Target, canary: &Canary) -> io::Result<Option<Undo>> {
        let parent_is_there = target.path.parent().is_some_and(Path::exists);
        if !parent_is_there {
            return Ok(None);
        }
        fs::create_dir_all(&target.aside)?;
        let aside = target.aside.join("swapped");
        match self {
            Self::LinkToDirectory => symlink(canary.directory(), &aside)?,
            Self::LinkToFile => symlink(canary.file(), &aside)?,
            Self::LinkToNothing => symlink(canary.nothing(), &aside)?,
            Self::LinkToSetting => symlink("/proc/sys/kernel/core_pattern", &aside)?,
            Self::LinkUpwards => {
                let up = "../".repeat(24);
                let below = canary.directory();
                symlink(
                    format!(
                        "{up}{}",
                        below.display().to_string().trim_start_matches('/')
                    ),
                    &aside,
                )?;
            }
            Self::LinkThroughProc => {
                symlink(
                    format!("/proc/self/root{}", canary.directory().display()),
                    &aside,
                )?;
            }
            Self::Fifo => nix::unistd::mkfifo(&aside, Mode::from_bits_truncate(0o666))?,
            Self::Bind => return bind_over(&target.path, &aside, canary),
        }
        let exchange = renameat2(
            AT_FDCWD,
            &aside,
            AT_FDCWD,
            &target.path,
            RenameFlags::RENAME_EXCHANGE,
        );
        match exchange {
            Ok(()) => Ok(Some(Undo::Exchange(aside, target.path.clone()))),
            Err(nix::Error::ENOENT) => {
                renameat2(
                    AT_FDCWD,
                    &aside,
                    AT_FDCWD,
                    &target.path,
                    RenameFlags::RENAME_NOREPLACE,
                )?;
                Ok(Some(Undo::Remove(target.path.clone())))
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// A directory with links out of it, or a file, over what is there.
fn bind_over(path: &Path, aside: &Path, canary: &Canary) -> io::Result<Option<Undo>> {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return Ok(None);
    };
    if meta.is_dir() {
        fs::create_dir(aside)?;
        for name in [
            "null", "x", "deep", "sub", "passwd", "probe", "console", "pts",
        ] {
            symlink(canary.directory().join(name), aside.join(name))?;
        }
    } else if meta.is_symlink() {
        return Ok(None);
    } else {
        fs::write(aside, "hostile\n")?;
    }
    mount(
        Some(aside),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(Some(Undo::Unmount(path.to_path_buf())))
}

impl Undo {
    /// Takes it back.
    pub fn perform(self) -> io::Result<()> {
        match self {
            Self::Exchange(aside, path) => Ok(renameat2(
                AT_FDCWD,
                &aside,
                AT_FDCWD,
                &path,
                RenameFlags::RENAME_EXCHANGE,
            )?),
            Self::Remove(path) => fs::remove_file(path),
            Self::Unmount(path) => Ok(umount2(&path, MntFlags::MNT_DETACH)?),
        }
    }
}
