//! Steps that change which namespaces this process is in, and who it is there.

use core::ffi::CStr;

use crate::credentials;
use crate::enter::Child;
use crate::procfs;
use crate::raw::{self, Outcome, PrctlNumber, Side};

/// Root of the user namespace just entered. Where setgroups is denied there is nothing to drop by it.
pub fn become_root(child: &mut Child<'_>) -> Outcome<()> {
    child.foreign_user = true;
    match raw::setgroups(&[]) {
        Err(failed) if failed.errno != libc::EPERM => return Err(failed),
        _ => {}
    }
    raw::setresgid(0)?;
    raw::setresuid(0)?;
    credentials::hide(child)
}

/// The pid namespace joined before is for children only: go on as a new process in it, whose parent
/// is the shim, and end here.
pub fn be_reborn(child: &Child<'_>) -> Outcome<()> {
    match raw::clone_sibling(&child.frozen.page.reborn)? {
        Side::New => Ok(()),
        Side::Old => raw::exit(0),
    }
}

/// As [`loopback_up`], where the parent does not do it. It takes no longer than this waits: one that does is no more.
pub fn see_to_loopback(child: &Child<'_>) -> Outcome<()> {
    let page = child.frozen.page;
    for _ in 0..LOOPBACK_NAPS {
        match page.loopback_is_theirs() {
            Some(true) => break,
            Some(false) => return Ok(()),
            None => raw::nap(),
        }
    }
    loopback_up()
}

/// Milliseconds.
const LOOPBACK_NAPS: u32 = 200;

/// A new network namespace has its loopback down.
pub fn loopback_up() -> Outcome<()> {
    let socket = raw::inet_socket()?;
    raw::set_interface_up(socket.at(), c"lo")
}

/// A time namespace takes its offsets before its first process enters.
pub fn new_time(child: &Child<'_>, offsets: &CStr) -> Outcome<()> {
    raw::unshare(u64::from(libc::CLONE_NEWTIME.cast_unsigned()))?;
    if !offsets.is_empty() {
        write_offsets(child, offsets)?;
    }
    let namespace = procfs::namespace(child, c"time_for_children")?;
    raw::setns(
        namespace.at(),
        u64::from(libc::CLONE_NEWTIME.cast_unsigned()),
    )
}

/// The change of ids in a user namespace made this process undumpable, and with that gave its files in
/// procfs to the host's root, who we are not.
fn write_offsets(child: &Child<'_>, offsets: &CStr) -> Outcome<()> {
    let dumpable = raw::prctl(PrctlNumber::GetDumpable, [0; 4])?;
    raw::prctl(PrctlNumber::SetDumpable, [1, 0, 0, 0])?;
    let written = procfs::own(child, c"self/timens_offsets", libc::O_WRONLY)
        .and_then(|file| procfs::write_whole(&file, offsets.to_bytes()));
    if dumpable != 1 {
        raw::prctl(PrctlNumber::SetDumpable, [0; 4])?;
    }
    written
}
