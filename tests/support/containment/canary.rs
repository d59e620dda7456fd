//! What is the tree that attacks aim at? Small, on the machine's own disk, and the same to the last time stamp.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where it is; no container is ever given it.
const PLACE: &str = "/srv/canary";

/// A tree of sentinels on the host.
pub struct Canary {
    place: PathBuf,
}

impl Canary {
    /// Makes it anew.
    pub(super) fn make() -> io::Result<Self> {
        let place = PathBuf::from(PLACE);
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::create_dir_all(place.join("dir/inner"))?;
        for (name, text) in [
            // Named as what a runtime makes or opens in a root file system.
            ("null", "sentinel null\n"),
            ("ptmx", "sentinel ptmx\n"),
            ("console", "sentinel console\n"),
            ("secret", "the secret of the host\n"),
            ("dir/file", "sentinel file\n"),
            ("passwd", "root:x:0:0::/:/bin/sh\n"),
        ] {
            fs::write(place.join(name), text)?;
        }
        fs::set_permissions(place.join("secret"), fs::Permissions::from_mode(0o600))?;
        symlink("secret", place.join("link"))?;
        fs::create_dir(place.join("empty"))?;
        Ok(Self { place })
    }

    /// The place of the tree, or of `name` in it.
    pub fn path(&self, name: &str) -> PathBuf {
        match name {
            "" => self.place.clone(),
            name => self.place.join(name),
        }
    }

    /// The same as a text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// One line for each thing in it.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut found = vec![line(&self.place)];
        walk(&self.place, &mut found);
        found
    }
}

fn walk(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        found.push(line(&entry.path()));
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&entry.path(), found);
        }
    }
}

/// All that is known of a file: identity, rights, times and, where it is one, content.
pub(super) fn line(path: &Path) -> String {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return format!("{} is gone", path.display());
    };
    let content = match () {
        () if meta.is_file() => fs::read_to_string(path).unwrap_or_default(),
        () if meta.is_symlink() => fs::read_link(path)
            .unwrap_or_default()
            .display()
            .to_string(),
        () => String::new(),
    };
    format!(
        "{} inode {} mode {:o} owner {}:{} links {} device {} changed {}.{} {}.{} {content:?}",
        path.display(),
        meta.ino(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.nlink(),
        meta.rdev(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    )
}
