//! The sealed binary: this program executed again from a mount that nobody can write through (I12).
//!
//! Between clone and execve a container's process *is* this binary, so `/proc/PID/exe` leads a
//! hostile container to the file (CVE-2019-5736). A read-only clone of the mount costs no memory,
//! unlike a copy in a memfd.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::errno::Errno;
use nix::fcntl::readlink;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::mount::{MOUNT_ATTR_RDONLY, MountAttr, OPEN_TREE_CLONE, mount_setattr, open_tree};
use super::raw::{PRIVATE, call, wait, wake, word};

/// The commands of the command line that make a process of a container. It is this program until its execve, seen from
/// inside; that of start is a startContainer hook.
pub const ENTERING: [&str; 4] = ["create", "run", "exec", "start"];

/// A program that has put itself into its seal before it began knows it.
static SEALED: AtomicBool = AtomicBool::new(false);

/// Notes that it has.
#[cfg(target_arch = "x86_64")]
pub(super) fn note_sealed() {
    SEALED.store(true, Ordering::Relaxed);
}

/// The descriptor that the seal is held by, until the first launch.
static HELD: AtomicI32 = AtomicI32::new(NOTHING);

const NOTHING: i32 = -1;
const LETTING_GO: i32 = -2;

/// Keeps the descriptor that the seal is held by where it came with the birth.
#[allow(clippy::disallowed_methods, reason = "let_go closes it")]
pub fn keep(tree: OwnedFd) {
    HELD.store(tree.into_raw_fd(), Ordering::Relaxed);
}

/// Closes the descriptor that the seal is held by, if there is one. Has to be over before there is a process that a container
/// may look at: while the detached mount is held it belongs to a mount namespace of its own, and whoever finds it by
/// `/proc/PID/exe` and is root in a user namespace may have it be writable (mount_setattr(2)). Let go, it belongs to none, and
/// nothing of it can be changed any more; it stays with the program that runs from it. The kernel waits for an RCU grace period.
/// Launch threads call it.
pub fn let_go() {
    loop {
        let held = HELD.load(Ordering::Acquire);
        match held {
            NOTHING => return,
            // Who comes meanwhile waits for it too.
            LETTING_GO => wait(&HELD, LETTING_GO, PRIVATE),
            _ => {
                let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
                if HELD
                    .compare_exchange(held, LETTING_GO, acquire, relaxed)
                    .is_ok()
                {
                    // SAFETY: only a number is passed, which `keep` has taken from its owner.
                    unsafe { call(libc::SYS_close, [word(held), 0, 0, 0, 0, 0]) };
                    HELD.store(NOTHING, Ordering::Release);
                    wake(&HELD);
                }
            }
        }
    }
}

/// A descriptor of this program's file on a detached read-only mount. Needs CAP_SYS_ADMIN.
pub fn seal() -> nix::Result<OwnedFd> {
    let tree = open_tree(nix::fcntl::AT_FDCWD, c"/proc/self/exe", OPEN_TREE_CLONE)?;
    mount_setattr(
        tree.as_fd(),
        0,
        &MountAttr {
            attr_set: MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        },
    )?;
    Ok(tree)
}

/// Whether this program was executed from what [`seal`] gives: the root of a mount of its own, read-only.
pub fn is_sealed() -> nix::Result<bool> {
    if SEALED.load(Ordering::Relaxed) {
        return Ok(true);
    }
    let own = "/proc/self/exe";
    #[allow(
        clippy::disallowed_methods,
        reason = "the kernel's own text, about this process"
    )]
    if readlink(own)? != "/" {
        return Ok(false);
    }
    Ok(statvfs(own)?.flags().contains(FsFlags::ST_RDONLY))
}

/// Replaces this process by the program behind `program`, which [`seal`] gave. Returns only on failure.
pub fn execute(program: BorrowedFd<'_>, argv: &[CString], env: &[CString]) -> Errno {
    let pointers = |texts: &[CString]| {
        let mut pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
        pointers.push(std::ptr::null());
        pointers
    };
    let (argv, env) = (pointers(argv), pointers(env));
    let path: &CStr = c"";
    // SAFETY: path is NUL-terminated, both arrays end with a null pointer and point to NUL-terminated texts
    // that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            path.as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Errno::last()
}
