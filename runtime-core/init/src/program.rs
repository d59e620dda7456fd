//! What is executed, where, and with which descriptors.

use core::ffi::CStr;
use core::sync::atomic::Ordering;

use crate::enter::Child;
use crate::paths;
use crate::procfs;
use crate::raw::{self, Failed, Fd, OpenHow, Outcome};
use crate::step::{InArena, Step, TextList};

/// Changes to `path` and asks the kernel where that is: a directory outside of the root has no path in it
/// (CVE-2024-21626: a working directory of /proc/self/fd/N). With `retry` a later step tries again; one that
/// comes after success has nothing to do, and might not even be allowed to.
pub fn enter_directory(child: &mut Child<'_>, path: &CStr, retry: bool) -> Outcome<()> {
    if child.in_directory {
        return Ok(());
    }
    match raw::chdir(path) {
        Err(failed) if retry && matches!(failed.errno, libc::EACCES | libc::EPERM) => return Ok(()),
        other => other?,
    }
    let mut buffer = [0u8; 4096];
    raw::getcwd(&mut buffer)?;
    // "(unreachable)/..." is how the kernel says that it lies elsewhere.
    match buffer.first() {
        Some(b'/') => {
            child.in_directory = true;
            Ok(())
        }
        _ => Err(Failed::check(libc::ENOENT)),
    }
}

/// Chooses the first candidate that this process may execute. If there is none, a lone candidate's own
/// error is the answer, as it was named by path; of several only that one was there but not
/// executable is remembered.
pub fn find<'a>(child: &mut Child<'a>, candidates: &TextList<'a>) -> Outcome<()> {
    let [effective, permitted, inheritable] = raw::capget()?;
    raw::capset([
        effective & final_capabilities(child),
        permitted,
        inheritable,
    ])?;
    let chosen = choose(child, candidates);
    raw::capset([effective, permitted, inheritable])?;
    chosen
}

/// What the program's process may do at execve: with the capabilities that are still held now a file
/// would seem executable that is not.
fn final_capabilities(child: &Child<'_>) -> u64 {
    let last = |step: &Step<InArena<'_>>| match step {
        Step::Capabilities(sets) => Some(sets.effective),
        _ => None,
    };
    child
        .frozen
        .steps
        .iter()
        .rev()
        .find_map(last)
        .unwrap_or(u64::MAX)
}

fn choose<'a>(child: &mut Child<'a>, candidates: &TextList<'a>) -> Outcome<()> {
    let mut answer = Failed::check(libc::ENOENT);
    for (index, candidate) in candidates.items.iter().enumerate() {
        match executable(candidate) {
            Ok(()) => {
                let number = u32::try_from(index).unwrap_or(u32::MAX);
                child.frozen.page.program.store(number, Ordering::Release);
                child.program = Some(candidate);
                return Ok(());
            }
            Err(failed) if candidates.items.len() == 1 => answer = failed,
            Err(failed) if failed.errno == libc::EACCES => answer = failed,
            Err(_) => {}
        }
    }
    Err(answer)
}

fn executable(path: &CStr) -> Outcome<()> {
    match raw::mode_of(path)? & libc::S_IFMT {
        libc::S_IFREG => raw::may_execute(path),
        libc::S_IFDIR => Err(Failed::check(libc::EISDIR)),
        _ => Err(Failed::check(libc::EACCES)),
    }
}

/// `fd` becomes the inherited descriptor `to`, owned by `owner` if one is named.
pub fn place(child: &Child<'_>, fd: i32, to: i32, owner: Option<u32>) -> Outcome<()> {
    let own = if to <= 2 { own_null(child, fd) } else { None };
    match own {
        // The lowest free number may be the one that is wanted.
        Some(own) if own.at() == to => raw::inherit(own.keep())?,
        Some(own) => raw::dup_to(own.at(), to)?,
        None if fd == to => raw::inherit(fd)?,
        None => raw::dup_to(fd, to)?,
    }
    match owner {
        Some(uid) => give_to(to, uid),
        None => Ok(()),
    }
}

/// The container's /dev/null instead of one from outside, whose mode and owner are not the container's to
/// change. It may be a link to anything, or a device that is denied: then the other one stays (CVE-2026-88265).
fn own_null(child: &Child<'_>, fd: i32) -> Option<Fd> {
    if !is_null(fd) {
        return None;
    }
    let how = OpenHow {
        flags: u64::from((libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC).unsigned_abs()),
        mode: 0,
        resolve: libc::RESOLVE_NO_SYMLINKS,
    };
    let found = paths::open_again(libc::AT_FDCWD, c"/dev/null", &how).ok()?;
    if !is_null(found.at()) {
        return None;
    }
    procfs::reopen(child, found.at(), libc::O_RDWR).ok()
}

fn is_null(fd: i32) -> bool {
    raw::statx(fd, c"").is_ok_and(|inode| inode.kind() == libc::S_IFCHR && inode.rdev == (1, 3))
}

/// The host's /dev/null is everybody's, and what can't be given away is used as it is.
fn give_to(fd: i32, uid: u32) -> Outcome<()> {
    let inode = raw::statx(fd, c"")?;
    if inode.uid == uid || (inode.kind() == libc::S_IFCHR && inode.rdev == (1, 3)) {
        return Ok(());
    }
    match raw::chown(fd, uid, u32::MAX) {
        Err(failed)
            if !matches!(
                failed.errno,
                libc::EPERM | libc::EROFS | libc::EINVAL | libc::ENOSYS
            ) =>
        {
            Err(failed)
        }
        _ => Ok(()),
    }
}

/// Executes the chosen program. Comes back only with the reason why not.
pub fn execute(child: &Child<'_>, argv: &TextList<'_>, env: &TextList<'_>) -> Outcome<()> {
    let Some(program) = child.program else {
        return Err(Failed::check(libc::ENOENT));
    };
    match raw::execve(program, argv.pointers, env.pointers)? {}
}
