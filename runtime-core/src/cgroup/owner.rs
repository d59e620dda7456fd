//! Who may manage a cgroup from inside: the files that belong to the container's user.

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchown, fchownat};

use super::Cgroup;
use crate::error::{Context, Error, Result};

/// What the kernel says that may be given away; before it does (Linux 4.15), these.
const LIST: &str = "/sys/kernel/cgroup/delegate";
const ALWAYS: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

impl Cgroup {
    /// Gives the cgroup to `uid` ("cgroup ownership" in the specification's config-linux.md): its
    /// directory, in which cgroups may then be made, and the files with which processes are moved and
    /// controllers enabled below. Its limits stay root's.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        let uid = Some(Uid::from_raw(uid));
        fchown(self.dir(), uid, None).with(|| format!("fchown(cgroup {})", self.path()))?;
        #[allow(
            clippy::disallowed_methods,
            reason = "I11: a file of the host's kernel"
        )]
        let listed = std::fs::read_to_string(LIST).unwrap_or_else(|_| ALWAYS.to_owned());
        for file in listed.lines().filter(|name| !name.contains('/')) {
            match fchownat(self.dir(), file, uid, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // Those of controllers that it has not.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => {
                    return Err(Error::os(
                        errno,
                        format!("fchownat(cgroup {}, {file})", self.path()),
                    ));
                }
            }
        }
        Ok(())
    }
}
