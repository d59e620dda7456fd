//! How a path of the container becomes a descriptor, and how what is missing of it is made.
//!
//! The kernel resolves every path below the root descriptor (`RESOLVE_IN_ROOT`): links of the image
//! lead nowhere else, and magic links of a procfs are refused. What is missing is made component by
//! component on the descriptor of the directory before it, so that a component that is exchanged for a
//! link meanwhile is met with `O_NOFOLLOW`.

use core::ffi::CStr;

use crate::raw::{self, Failed, Fd, OpenHow, Outcome};

/// Resolves `path` below `root`, links followed, as an O_PATH descriptor.
pub fn resolve(root: i32, path: &CStr) -> Outcome<Fd> {
    resolve_with(root, path, 0)
}

/// As [`resolve`], but a link in the last place is refused (ELOOP).
pub fn resolve_itself(root: i32, path: &CStr) -> Outcome<Fd> {
    let fd = resolve_with(root, path, libc::O_NOFOLLOW)?;
    match raw::statx(fd.at(), c"")?.kind() {
        libc::S_IFLNK => Err(Failed::check(libc::ELOOP)),
        _ => Ok(fd),
    }
}

/// The directory `path` below `root`; what is missing is made with mode 0755.
pub fn directory(root: i32, path: &CStr) -> Outcome<Fd> {
    match resolve_with(root, path, libc::O_DIRECTORY) {
        Err(failed) if failed.errno == libc::ENOENT => {}
        other => return other,
    }
    walk(root, path.to_bytes())
}

/// The file `path` below `root`, of whatever type; a missing one is made as an empty file, with its
/// directories.
pub fn file(root: i32, path: &CStr) -> Outcome<Fd> {
    match resolve(root, path) {
        Err(failed) if failed.errno == libc::ENOENT => {}
        other => return other,
    }
    let (parent, name) = parent(root, path)?;
    make_file(&parent, &name)
}

/// As [`file`], but a link in the last place is refused (ELOOP).
pub fn file_itself(root: i32, path: &CStr) -> Outcome<Fd> {
    match resolve_itself(root, path) {
        Err(failed) if failed.errno == libc::ENOENT => {}
        other => return other,
    }
    let (parent, name) = parent(root, path)?;
    make_file(&parent, &name)
}

fn make_file(parent: &Fd, name: &Name) -> Outcome<Fd> {
    let how = OpenHow {
        flags: flags(libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC),
        mode: 0o644,
        resolve: ONE_COMPONENT,
    };
    match raw::openat2(parent.at(), name.text(), &how) {
        // Somebody else made it at the same time (a volume that two containers share): take theirs,
        // whatever it is; a link ends here.
        Err(failed) if failed.errno == libc::EEXIST => {}
        Err(failed) => return Err(failed),
        Ok(made) => drop(made),
    }
    child_of(parent, name.text(), 0)
}

/// The directory that `path` lies in, made where it is missing, and its last component.
pub fn parent(root: i32, path: &CStr) -> Outcome<(Fd, Name)> {
    let bytes = trim_slashes(path.to_bytes());
    let (before, last) = match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (
            bytes.get(..slash).unwrap_or_default(),
            bytes.get(slash.saturating_add(1)..).unwrap_or_default(),
        ),
        None => (&b""[..], bytes),
    };
    if last.is_empty() || last == b"." || last == b".." {
        return Err(Failed::check(libc::EINVAL));
    }
    let name = Name::new(last)?;
    let mut buffer = PathBuffer::new();
    Ok((directory(root, buffer.text(before)?)?, name))
}

/// `name` in `parent`: one component, not a link, on the same mount or on one mounted there.
pub fn child_of(parent: &Fd, name: &CStr, extra: i32) -> Outcome<Fd> {
    let how = OpenHow {
        flags: flags(libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC | extra),
        mode: 0,
        resolve: ONE_COMPONENT,
    };
    let fd = open_again(parent.at(), name, &how)?;
    match raw::statx(fd.at(), c"")?.kind() {
        libc::S_IFLNK => Err(Failed::check(libc::ELOOP)),
        _ => Ok(fd),
    }
}

/// Finds the longest part of `path` that exists and makes the rest.
fn walk(root: i32, path: &[u8]) -> Outcome<Fd> {
    let mut buffer = PathBuffer::new();
    let mut end = 0usize;
    let mut last = resolve_with(root, c"/", libc::O_DIRECTORY)?;
    let mut made = false;
    for component in path.split(|byte| *byte == b'/') {
        end = end.saturating_add(component.len());
        let so_far = path.get(..end).unwrap_or(path);
        end = end.saturating_add(1);
        if component.is_empty() || component == b"." {
            continue;
        }
        if !made {
            match resolve_with(root, buffer.text(so_far)?, libc::O_DIRECTORY) {
                Ok(fd) => {
                    last = fd;
                    continue;
                }
                Err(failed) if failed.errno == libc::ENOENT => made = true,
                Err(failed) => return Err(failed),
            }
        }
        last = make_directory(&last, &Name::new(component)?)?;
    }
    Ok(last)
}

fn make_directory(parent: &Fd, name: &Name) -> Outcome<Fd> {
    match raw::mkdirat(parent.at(), name.text(), 0o755) {
        Err(failed) if failed.errno != libc::EEXIST => return Err(failed),
        _ => {}
    }
    child_of(parent, name.text(), libc::O_DIRECTORY)
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

/// Room for one component with its NUL.
pub struct Name([u8; 256]);

impl Name {
    fn new(component: &[u8]) -> Outcome<Self> {
        let mut bytes = [0u8; 256];
        fill(&mut bytes, component)?;
        Ok(Self(bytes))
    }

    /// The component as a C string.
    pub fn text(&self) -> &CStr {
        raw::until_nul(&self.0)
    }
}

/// Room for one path with its NUL.
pub struct PathBuffer([u8; 4096]);

impl PathBuffer {
    pub const fn new() -> Self {
        Self([0; 4096])
    }

    /// `path` as a C string; `/` for an empty one.
    pub fn text(&mut self, path: &[u8]) -> Outcome<&CStr> {
        let path = if path.is_empty() { &b"/"[..] } else { path };
        fill(&mut self.0, path)?;
        Ok(raw::until_nul(&self.0))
    }
}

fn fill(buffer: &mut [u8], bytes: &[u8]) -> Outcome<()> {
    // Strictly less: the NUL needs its place.
    if bytes.len() >= buffer.len() {
        return Err(Failed::check(libc::ENAMETOOLONG));
    }
    buffer
        .iter_mut()
        .zip(bytes.iter().chain(core::iter::once(&0)))
        .for_each(|(to, from)| *to = *from);
    Ok(())
}

/// A number as decimal digits.
pub struct Digits([u8; 12]);

impl Digits {
    #[allow(clippy::integer_division, reason = "the divisor is ten")]
    pub fn new(number: u32) -> Self {
        let mut bytes = [0u8; 12];
        let mut rest = number;
        let mut count = 1usize;
        while rest >= 10 {
            rest /= 10;
            count = count.saturating_add(1);
        }
        rest = number;
        for place in bytes.iter_mut().take(count).rev() {
            *place = b'0'.wrapping_add((rest % 10) as u8);
            rest /= 10;
        }
        Self(bytes)
    }

    /// The digits as a C string.
    pub fn text(&self) -> &CStr {
        raw::until_nul(&self.0)
    }
}
