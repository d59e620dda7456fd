//! The terminal of the container: opened in its own devpts, its master handed to the parent.

use core::ffi::CStr;

use crate::enter::Child;
use crate::paths;
use crate::raw::{self, Failed, Fd, IoctlNumber, Outcome};
use crate::step::Wake;
use crate::wake;

/// Opens a terminal; its peer becomes the standard streams, the master goes to the parent.
pub fn open(child: &Child<'_>, size: (u16, u16), uid: u32, bind: bool) -> Outcome<()> {
    let master = open_master(child)?;
    raw::unlock_terminal(master.at())?;
    // The peer of this very master, whatever lies at /dev/pts/N (CVE-2025-52565).
    let how = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let number = raw::ioctl_number(master.at(), IoctlNumber::TerminalPeer, how)?;
    let peer = Fd::from_call(number);
    if size != (0, 0) {
        raw::resize_terminal(peer.at(), size.0, size.1)?;
    }
    give_to(&peer, uid)?;
    if bind {
        attach(child, &peer)?;
    }
    wake::tell_with(child, Wake::Console, master.at())?;
    for stream in 0..=2 {
        raw::dup_to(peer.at(), stream)?;
    }
    Ok(())
}

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
/// The number of `/dev/ptmx` and of `ptmx` in every devpts.
const PTMX: (u32, u32) = (5, 2);

/// `ptmx` of the devpts at /dev/pts: the directory is checked before anything in it is opened, as opening
/// a device of somebody else's choice already has effects.
fn open_master(child: &Child<'_>) -> Outcome<Fd> {
    let devpts = paths::resolve(child.root, c"/dev/pts")?;
    if raw::filesystem(devpts.at())? != DEVPTS_SUPER_MAGIC {
        return Err(Failed::check(libc::ENODEV));
    }
    let how = raw::OpenHow {
        flags: paths::flags(libc::O_RDWR | libc::O_NOCTTY | libc::O_NOFOLLOW | libc::O_CLOEXEC),
        mode: 0,
        resolve: libc::RESOLVE_BENEATH
            | libc::RESOLVE_NO_XDEV
            | libc::RESOLVE_NO_SYMLINKS
            | libc::RESOLVE_NO_MAGICLINKS,
    };
    let master = paths::open_again(devpts.at(), c"ptmx", &how)?;
    let inode = raw::statx(master.at(), c"")?;
    if inode.kind() != libc::S_IFCHR || inode.rdev != PTMX {
        return Err(Failed::check(libc::ENODEV));
    }
    Ok(master)
}

fn give_to(peer: &Fd, uid: u32) -> Outcome<()> {
    if raw::statx(peer.at(), c"")?.uid == uid {
        return Ok(());
    }
    raw::chown(peer.at(), uid, u32::MAX)
}

/// The peer at /dev/console; a link there is refused (CVE-2026-88264).
fn attach(child: &Child<'_>, peer: &Fd) -> Outcome<()> {
    let path: &CStr = c"/dev/console";
    let target = paths::file_itself(child.root, path)?;
    let flags = libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH.cast_unsigned();
    let clone = raw::open_tree(peer.at(), c"", flags)?;
    raw::move_mount(clone.at(), target.at())
}

/// A session of its own; with `terminal` the standard input becomes its controlling terminal.
pub fn new_session(terminal: bool) -> Outcome<()> {
    raw::setsid()?;
    if terminal {
        raw::ioctl_number(0, IoctlNumber::ControllingTerminal, 0)?;
    }
    Ok(())
}
