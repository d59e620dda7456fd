//! The client's end of a process' streams: named pipes, read as fast or as slowly as a case wants.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use crate::pace::patient;
use crate::suite::{Check, fail};

/// Makes a named pipe in `directory`.
pub fn make(directory: &Path, name: &str) -> Check<PathBuf> {
    let path = directory.join(name);
    nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o700))?;
    Ok(path)
}

/// A reader that is there before the writer, as containerd's clients are.
pub struct Reader {
    file: File,
    deadline: Instant,
}

impl Reader {
    /// Opens `path`; everything must have been read within `limit`.
    pub fn open(path: &Path, limit: Duration) -> Check<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)?;
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
        Ok(Self {
            file,
            deadline: Instant::now() + patient(limit),
        })
    }

    /// Opens as a client of containerd does that comes later: open(2) waits for a writer.
    pub fn join(path: &Path, limit: Duration) -> Check<Self> {
        let (send, receive) = mpsc::channel();
        let place = path.to_path_buf();
        std::thread::spawn(move || send.send(File::open(place)));
        match receive.recv_timeout(patient(Duration::from_secs(5))) {
            Ok(file) => Ok(Self {
                file: file?,
                deadline: Instant::now() + patient(limit),
            }),
            Err(_) => fail(format!("nobody has {} open for writing", path.display())),
        }
    }

    /// Reads up to the buffer's size; 0 is the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Check<usize> {
        // A pipe that no writer has opened yet reads as ended; poll knows the difference.
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout)? == 0 {
            return fail("the stream does not end");
        }
        Ok(self.file.read(buffer)?)
    }

    /// Reads to the end.
    pub fn all(&mut self) -> Check<Vec<u8>> {
        let mut all = Vec::new();
        self.each(|part| all.extend_from_slice(part))?;
        Ok(all)
    }

    /// Gives every part to `take` until the end.
    pub fn each(&mut self, mut take: impl FnMut(&[u8])) -> Check {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(()),
                n => take(&buffer[..n]),
            }
        }
    }
}

/// Opens the writing end of a stdin pipe; the shim must be reading by then.
pub fn writer(path: &Path) -> Check<File> {
    Ok(OpenOptions::new().write(true).open(path)?)
}
