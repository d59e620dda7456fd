//! How a path of the container becomes a descriptor, and how what is missing of it is made.
//!
//! The kernel resolves every path below the root descriptor (`RESOLVE_IN_ROOT`): links of the image
//! lead nowhere else, and magic links of a procfs are refused. What is missing is made component by
//! component on the descriptor of the directory before it, so that a component that is exchanged for a
//! link meanwhile is met with `O_NOFOLLOW`.

use core::ffi::CStr;

use crate::raw::{self, Failed, Fd, OpenHow, Outcome};
use crate::texts::{Name, PathBuffer};

/// Resolves `path` below `root`, links followed, as an O_PATH descriptor.
pub fn resolve(root: i32, path: &CStr) -> Outcome<Fd> {
    resolve_with(root, path, 0)
}

/// As [`resolve`], but a link in the last place is refused (ELOOP).
pub fn resolve_itself(root: i32, path: &CStr) -> Outcome<Fd> {
    no_link(resolve_with(root, path, libc::O_NOFOLLOW)?)
}

/// What the last component of a path is made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0644.
    File,
}

/// The directory `path` below `root`; what is missing is made.
pub fn directory(root: i32, path: &CStr) -> Outcome<Fd> {
    match resolve_with(root, path, libc::O_DIRECTORY) {
        Err(failed) if failed.errno == libc::ENOENT => make(root, path, Missing::Directory),
        other => other,
    }
}

/// What `path` below `root` is, of whatever type; what is missing is made.
pub fn file(root: i32, path: &CStr) -> Outcome<Fd> {
    match resolve(root, path) {
        Err(failed) if failed.errno == libc::ENOENT => make(root, path, Missing::File),
        other => other,
    }
}

/// As [`file()`], but a link in the last place is refused (ELOOP).
pub fn file_itself(root: i32, path: &CStr) -> Outcome<Fd> {
    match resolve_itself(root, path) {
        Err(failed) if failed.errno == libc::ENOENT => {}
        other => return other,
    }
    let (parent, name) = parent(root, path)?;
    make_file(&parent, name.text())
}

/// The directory that `path` lies in, made where it is missing, and its last component.
pub fn parent(root: i32, path: &CStr) -> Outcome<(Fd, Name)> {
    let (before, last) = halves(path);
    if last.is_empty() || last == b"." || last == b".." {
        return Err(Failed::check(libc::EINVAL));
    }
    let mut buffer = PathBuffer::new();
    Ok((directory(root, buffer.set(&[before])?)?, Name::new(last)?))
}

/// `name` in `parent`: one component, not a link.
pub fn child_of(parent: &Fd, name: &CStr, extra: i32) -> Outcome<Fd> {
    no_link(entry_of(parent, name, extra)?)
}

/// The link `name` in `parent`, as a descriptor.
pub fn link_itself(parent: &Fd, name: &CStr) -> Outcome<Fd> {
    entry_of(parent, name, 0)
}

/// A new, empty file, open for writing.
pub fn new_file(parent: &Fd, name: &CStr, mode: u64) -> Outcome<Fd> {
    let create = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
    let how = OpenHow {
        flags: flags(create | libc::O_CLOEXEC),
        mode,
        resolve: ONE_COMPONENT,
    };
    raw::openat2(parent.at(), name, &how)
}

/// Links that lead to nothing yet may be met so many times (the kernel's own limit).
const MOST_LINKS: u32 = 40;

/// Makes what is missing of `path`. A link whose target is missing (`/var/run` → `/run` of an image
/// without `/run`) means that the target is to be made, below the root again.
fn make(root: i32, path: &CStr, missing: Missing) -> Outcome<Fd> {
    if let Some(made) = make_last(root, path, missing)? {
        return Ok(made);
    }
    let mut buffers = (PathBuffer::new(), PathBuffer::new());
    buffers.0.set(&[trim_slashes(path.to_bytes())])?;
    for _ in 0..MOST_LINKS {
        if let Walked::Made(fd) = walk(root, buffers.0.bytes(), missing, &mut buffers.1)? {
            return Ok(fd);
        }
        buffers = (buffers.1, buffers.0);
    }
    Err(Failed::check(libc::ELOOP))
}

/// The same where only the last component is missing, as mostly. `None` where something else is, or a link that leads to
/// nothing has its name.
fn make_last(root: i32, path: &CStr, missing: Missing) -> Outcome<Option<Fd>> {
    let (before, last) = halves(path);
    let mut buffer = PathBuffer::new();
    let Ok(parent) = resolve_with(root, buffer.set(&[before])?, libc::O_DIRECTORY) else {
        return Ok(None);
    };
    let name = Name::new(last)?;
    let (made, extra) = match missing {
        Missing::Directory => {
            let made = raw::mkdirat(parent.at(), name.text(), 0o755);
            (made, libc::O_DIRECTORY)
        }
        Missing::File => (new_file(&parent, name.text(), 0o644).map(drop), 0),
    };
    match made {
        Ok(()) => child_of(&parent, name.text(), extra).map(Some),
        // "." and ".." are there too.
        Err(failed) if failed.errno == libc::EEXIST => Ok(None),
        Err(failed) => Err(failed),
    }
}

enum Walked {
    Made(Fd),
    /// A link was met; the path to make instead is in the buffer.
    Redirected,
}

/// Finds the longest part of `path` that exists and makes the rest.
fn walk(root: i32, path: &[u8], missing: Missing, other: &mut PathBuffer) -> Outcome<Walked> {
    let mut last = resolve_with(root, c"/", libc::O_DIRECTORY)?;
    let (mut start, mut making) = (0usize, false);
    for component in path.split(|byte| *byte == b'/') {
        let end = start.saturating_add(component.len());
        let (before, after) = (
            path.get(..start).unwrap_or_default(),
            path.get(end..).unwrap_or_default(),
        );
        let so_far = path.get(..end).unwrap_or_default();
        start = end.saturating_add(1);
        if component.is_empty() || component == b"." {
            continue;
        }
        let kind = if after.is_empty() {
            missing
        } else {
            Missing::Directory
        };
        if !making {
            let extra = if kind == Missing::Directory {
                libc::O_DIRECTORY
            } else {
                0
            };
            match resolve_with(root, other.set(&[so_far])?, extra) {
                Ok(fd) => {
                    last = fd;
                    continue;
                }
                Err(failed) if failed.errno == libc::ENOENT => {}
                Err(failed) => return Err(failed),
            }
            if redirect(&last, &Name::new(component)?, [before, after], other)? {
                return Ok(Walked::Redirected);
            }
            making = true;
        }
        let name = Name::new(component)?;
        last = match kind {
            Missing::Directory => make_directory(&last, name.text())?,
            Missing::File => make_file(&last, name.text())?,
        };
    }
    Ok(Walked::Made(last))
}

/// If `name` is a link: `other` becomes the path with the link's target in its place.
fn redirect(parent: &Fd, name: &Name, around: [&[u8]; 2], other: &mut PathBuffer) -> Outcome<bool> {
    let entry = match link_itself(parent, name.text()) {
        Err(failed) if failed.errno == libc::ENOENT => return Ok(false),
        other => other?,
    };
    if raw::statx(entry.at(), c"")?.kind() != libc::S_IFLNK {
        return Ok(false);
    }
    let mut target = [0u8; 4096];
    let len = raw::readlinkat(entry.at(), c"", &mut target)?;
    let target = target.get(..len).unwrap_or_default();
    let [before, after] = around;
    // An absolute target begins at the container's root, a relative one where the link lies.
    let before = if target.starts_with(b"/") {
        &b""[..]
    } else {
        before
    };
    other.set(&[before, target, after])?;
    Ok(true)
}

fn make_directory(parent: &Fd, name: &CStr) -> Outcome<Fd> {
    match raw::mkdirat(parent.at(), name, 0o755) {
        Err(failed) if failed.errno != libc::EEXIST => return Err(failed),
        _ => {}
    }
    child_of(parent, name, libc::O_DIRECTORY)
}

fn make_file(parent: &Fd, name: &CStr) -> Outcome<Fd> {
    match new_file(parent, name, 0o644) {
        // Somebody else made it at the same time (a volume that two containers share): take theirs,
        // whatever it is; a link ends here.
        Err(failed) if failed.errno != libc::EEXIST => return Err(failed),
        _ => {}
    }
    child_of(parent, name, 0)
}

const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
const ONE_COMPONENT: u64 =
    libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS;

fn resolve_with(root: i32, path: &CStr, extra: i32) -> Outcome<Fd> {
    let how = OpenHow {
        flags: flags(libc::O_PATH | libc::O_CLOEXEC | extra),
        mode: 0,
        resolve: IN_ROOT,
    };
    open_again(root, path, &how)
}

fn entry_of(parent: &Fd, name: &CStr, extra: i32) -> Outcome<Fd> {
    let how = OpenHow {
        flags: flags(libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC | extra),
        mode: 0,
        // RESOLVE_NO_SYMLINKS would refuse a link in the last place even as an O_PATH descriptor.
        resolve: libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS,
    };
    open_again(parent.at(), name, &how)
}

fn no_link(fd: Fd) -> Outcome<Fd> {
    match raw::statx(fd.at(), c"")?.kind() {
        libc::S_IFLNK => Err(Failed::check(libc::ELOOP)),
        _ => Ok(fd),
    }
}

/// openat2 below a root gives EAGAIN when something was renamed while it met `..`; a storm of renames
/// must not make it go on for ever.
pub fn open_again(dir: i32, path: &CStr, how: &OpenHow) -> Outcome<Fd> {
    let mut result = raw::openat2(dir, path, how);
    for _ in 0..128 {
        match result {
            Err(failed) if failed.errno == libc::EAGAIN || failed.errno == libc::EINTR => {
                result = raw::openat2(dir, path, how);
            }
            other => return other,
        }
    }
    result
}

/// Open flags as openat2 wants them.
pub const fn flags(value: i32) -> u64 {
    value.cast_unsigned() as u64
}

fn trim_slashes(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_suffix(b"/") {
        bytes = rest;
    }
    bytes
}

/// What comes before the last component of a path, and that.
fn halves(path: &CStr) -> (&[u8], &[u8]) {
    let bytes = trim_slashes(path.to_bytes());
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (
            bytes.get(..slash).unwrap_or_default(),
            bytes.get(slash.saturating_add(1)..).unwrap_or_default(),
        ),
        None => (&b""[..], bytes),
    }
}
