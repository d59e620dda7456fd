//! How one file of a cgroup is read and written: always by name beneath a directory's descriptor.
//!
//! A read or a write is three system calls (open, read or write, close) and no path is walked: what
//! the descriptor is of can't be exchanged, renamed or mounted over behind our back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{Context, Error, ErrorKind, Result};

/// A file's longest content of the usual sort (memory.stat takes 1.6 kB); longer ones make it grow.
const USUAL_LENGTH: usize = 4096;

/// A buffer that is reused from file to file.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            bytes: vec![0; USUAL_LENGTH],
        }
    }
}

impl Buffer {
    /// The content of `name` beneath `dir`; `None` when there is no such file (its controller is not
    /// enabled, or the kernel is older than the file) or the cgroup is gone.
    pub fn read(&mut self, dir: BorrowedFd<'_>, name: &str) -> Result<Option<&str>> {
        match open(dir, name, OFlag::O_RDONLY) {
            Ok(file) => match self.fill(file.as_fd(), 0) {
                Ok(length) => text(&self.bytes[..length], name).map(Some),
                // ENODEV: the cgroup was removed between open and read. EOPNOTSUPP: pressure files
                // without PSI, cgroup.procs of a threaded cgroup.
                Err(Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(None),
                Err(errno) => Err(failed("read", name, errno)),
            },
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(failed("openat", name, errno)),
        }
    }

    /// The content of a file that stays open, from its beginning; `None` when its cgroup is gone.
    pub fn reread(&mut self, file: BorrowedFd<'_>, name: &str) -> Result<Option<&str>> {
        match self.fill(file, 0) {
            Ok(length) => text(&self.bytes[..length], name).map(Some),
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(failed("pread", name, errno)),
        }
    }

    /// Reads to the end of the file. A file that is longer than one read (cgroup.procs comes by the
    /// page) gives more with each.
    fn fill(&mut self, file: BorrowedFd<'_>, from: usize) -> nix::Result<usize> {
        let mut length = from;
        loop {
            if length == self.bytes.len() {
                self.bytes.resize(length * 2, 0);
            }
            let offset = libc::off_t::try_from(length).map_err(|_| Errno::EFBIG)?;
            match nix::sys::uio::pread(file, &mut self.bytes[length..], offset) {
                Ok(0) => return Ok(length),
                Ok(read) => length += read,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Opens `name` beneath `dir`, close-on-exec, never through a symbolic link.
pub fn open(dir: BorrowedFd<'_>, name: &str, access: OFlag) -> nix::Result<OwnedFd> {
    let flags = access | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY;
    openat(dir, name, flags, Mode::empty())
}

/// Writes `value` to `name` beneath `dir` by one write(2), as cgroup files want it.
pub fn write(dir: BorrowedFd<'_>, name: &str, value: &str) -> nix::Result<()> {
    let file = open(dir, name, OFlag::O_WRONLY)?;
    loop {
        match nix::unistd::write(&file, value.as_bytes()) {
            Ok(written) if written == value.len() => return Ok(()),
            // kernfs takes all or nothing.
            Ok(_) => return Err(Errno::EIO),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The same, with an error that names file and value.
pub fn write_named(dir: BorrowedFd<'_>, name: &str, value: &str) -> Result<()> {
    write(dir, name, value).with(|| format!("write {value:?} to {name}"))
}

fn text<'b>(bytes: &'b [u8], name: &str) -> Result<&'b str> {
    std::str::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::Internal, format!("{name} is not text")))
}

fn failed(call: &str, name: &str, errno: Errno) -> Error {
    Error::os(errno, format!("{call}({name})"))
}
