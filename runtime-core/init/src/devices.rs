//! Device nodes and the links of /dev, made on the descriptor of the directory they lie in.

use core::ffi::CStr;

use crate::enter::{Child, DEFAULT_UMASK};
use crate::paths;
use crate::raw::{self, Failed, Outcome};

/// A node of type and permissions `mode`; one that is there already must be the same device.
pub fn node(
    child: &Child<'_>,
    path: &CStr,
    mode: u32,
    device: (u32, u32),
    owner: (u32, u32),
) -> Outcome<()> {
    let (parent, name) = paths::parent(child.root, path)?;
    raw::umask(0);
    let made = raw::mknodat(parent.at(), name.text(), mode, device);
    raw::umask(DEFAULT_UMASK);
    let fresh = match made {
        Ok(()) => true,
        Err(failed) if failed.errno == libc::EEXIST => false,
        Err(failed) => return Err(failed),
    };
    // The inode is asked even when it was just made: who shares this directory may have changed it.
    let node = paths::child_of(&parent, name.text(), 0)?;
    let inode = raw::statx(node.at(), c"")?;
    let numbered = matches!(inode.kind(), libc::S_IFCHR | libc::S_IFBLK);
    if inode.kind() != mode & libc::S_IFMT || (numbered && inode.rdev != device) {
        return Err(Failed::check(libc::EEXIST));
    }
    if fresh && (inode.uid, inode.gid) != owner {
        raw::chown(node.at(), owner.0, owner.1)?;
    }
    Ok(())
}

/// A symbolic link. With `replace` whatever has its name goes first.
pub fn link(child: &Child<'_>, path: &CStr, points_to: &CStr, replace: bool) -> Outcome<()> {
    let (parent, name) = paths::parent(child.root, path)?;
    match raw::symlinkat(points_to, parent.at(), name.text()) {
        Err(failed) if failed.errno == libc::EEXIST => {}
        other => return other,
    }
    // Room for one byte more than the wanted text: a longer one is another one.
    let mut found = [0u8; 4097];
    let same = match raw::readlinkat(parent.at(), name.text(), &mut found) {
        Ok(len) => found.get(..len) == Some(points_to.to_bytes()),
        Err(_) => false,
    };
    if same || !replace {
        return Ok(());
    }
    raw::unlinkat(parent.at(), name.text())?;
    raw::symlinkat(points_to, parent.at(), name.text())
}
