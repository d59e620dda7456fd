//! How do the files of a mount get the owners of a user namespace?

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::Mode;
use rsrun_core::sys::mount::{
    MOUNT_ATTR_IDMAP, MountAttr, OPEN_TREE_CLONE, mount_setattr, move_mount, open_tree,
};
use rsrun_core::{Context, Result};

use super::{io_error, text};

/// Maps the owners in `tree`, a mount that has no mapping yet. A filesystem that can't is an error, never an
/// unmapped mount.
pub fn apply(tree: &OwnedFd, namespace: &OwnedFd) -> Result<()> {
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        userns_fd: u64::from(namespace.as_raw_fd().unsigned_abs()),
        ..MountAttr::default()
    };
    mount_setattr(tree.as_fd(), 0, &attributes).with(|| "mount_setattr(MOUNT_ATTR_IDMAP)")
}

/// Layers of an overlay as id-mapped clones. An overlay takes them only from the mount table (a detached mount
/// works since Linux 6.15), so they are attached beside the root filesystem and gone as soon as this is dropped.
pub struct MappedLayers {
    dir: PathBuf,
    attached: Vec<PathBuf>,
}

impl MappedLayers {
    /// Clones and maps each of `layers` below `dir`, which must not exist.
    pub fn attach(layers: &[PathBuf], namespace: &OwnedFd, dir: &Path) -> Result<Self> {
        let make = |path: &Path| {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(path)
                .map_err(|e| io_error(&e, format!("mkdir({})", path.display())))
        };
        make(dir)?;
        let mut mapped = Self {
            dir: dir.to_owned(),
            attached: Vec::new(),
        };
        for (number, layer) in layers.iter().enumerate() {
            let place = dir.join(number.to_string());
            make(&place)?;
            mapped.attached.push(place.clone());
            let tree = open_tree(
                AT_FDCWD,
                &text(&layer.display().to_string())?,
                OPEN_TREE_CLONE,
            )
            .with(|| format!("open_tree({}, OPEN_TREE_CLONE)", layer.display()))?;
            apply(&tree, namespace).with(|| format!("layer {}", layer.display()))?;
            let target = open(
                &place,
                OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
                Mode::empty(),
            )
            .with(|| format!("open({})", place.display()))?;
            move_mount(tree.as_fd(), target.as_fd())
                .with(|| format!("move_mount({})", layer.display()))?;
        }
        Ok(mapped)
    }

    /// Where they are.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.attached.clone()
    }
}

impl Drop for MappedLayers {
    fn drop(&mut self) {
        let flags = nix::mount::MntFlags::MNT_DETACH | nix::mount::MntFlags::UMOUNT_NOFOLLOW;
        for place in self.attached.iter().rev() {
            let _ = nix::mount::umount2(place, flags);
            let _ = fs::remove_dir(place);
        }
        if let Err(error) = fs::remove_dir(&self.dir) {
            log::error!(
                "temporaries of id-mapped layers are left in {}: {error}",
                self.dir.display()
            );
        }
    }
}
