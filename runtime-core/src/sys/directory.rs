//! What is in a directory, by getdents64(2).
//!
//! Not by the C library's: it allocates 32 KiB, and a descriptor that it could not make a stream of is lost in the
//! crate between.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::checked;

/// A name in a directory.
#[derive(Debug)]
pub struct Entry {
    /// The name.
    pub name: CString,
    /// It is known to be a directory; some filesystems don't tell.
    pub is_directory: bool,
}

/// Where in a `linux_dirent64` its length, its type and its name are.
const LENGTH: usize = 16;
const TYPE: usize = 18;
const NAME: usize = 19;

/// Everything in `dir` but `.` and `..`.
pub fn entries(dir: BorrowedFd<'_>) -> nix::Result<Vec<Entry>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = openat(dir, c".", flags, Mode::empty())?;
    let mut found = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        // SAFETY: the kernel writes at most the buffer's length into it, and it outlives the call.
        let filled = checked(unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                opened.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        })?;
        let mut rest = buffer
            .get(..usize::try_from(filled).unwrap_or(0))
            .unwrap_or_default();
        if rest.is_empty() {
            return Ok(found);
        }
        while let Some((entry, others)) = split(rest) {
            found.extend(read(entry));
            rest = others;
        }
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = bytes.get(LENGTH..TYPE)?.try_into().ok()?;
    bytes.split_at_checked(u16::from_ne_bytes(length).into())
}

fn read(entry: &[u8]) -> Option<Entry> {
    let name = CStr::from_bytes_until_nul(entry.get(NAME..)?).ok()?;
    let is_directory = *entry.get(TYPE)? == libc::DT_DIR;
    (!matches!(name.to_bytes(), b"." | b"..")).then(|| Entry {
        name: name.to_owned(),
        is_directory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn all_names_are_found_however_many_there_are() {
        let place = std::env::temp_dir().join(format!("rsrun-entries-{}", std::process::id()));
        std::fs::create_dir_all(place.join("a-directory")).unwrap();
        let mut names: Vec<String> = (0..500).map(|n| format!("file-{n}")).collect();
        for name in &names {
            std::fs::write(place.join(name), "").unwrap();
        }
        let dir = std::fs::File::open(&place).unwrap();
        let found = entries(dir.as_fd()).unwrap();
        std::fs::remove_dir_all(&place).unwrap();
        let directories = found.iter().filter(|entry| entry.is_directory).count();
        let mut found: Vec<_> = found
            .into_iter()
            .map(|e| e.name.into_string().unwrap())
            .collect();
        names.push("a-directory".into());
        names.sort();
        found.sort();
        assert_eq!((found, directories), (names, 1));
    }
}
