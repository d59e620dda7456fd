//! How is a path that a client named opened, without ever waiting in open(2) or following a link?

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};
use nix::unistd::{Gid, Uid, fchown, pipe2};
use rsrun_core::{Context, Error, ErrorKind, Result};
use tokio::time::Instant;

/// How long a client may take to open the other end.
pub const READER_WITHIN: Duration = Duration::from_secs(30);

/// A path opened for output.
#[derive(Debug)]
pub enum Output {
    /// A fifo with a reader.
    Fifo(FifoOutput),
    /// A file that exists.
    File(OwnedFd),
    /// `/dev/null`.
    Null,
}

/// Both ends of a fifo that output goes to.
#[derive(Debug)]
pub struct FifoOutput {
    /// To write to.
    pub write: OwnedFd,
    /// Keeps the fifo and what is in it when the client goes; never read from.
    pub keep: OwnedFd,
}

/// Both ends of a fifo that input comes from.
#[derive(Debug)]
pub struct FifoInput {
    /// To read from.
    pub read: OwnedFd,
    /// Keeps the end of input from being seen while clients come and go; taken by whoever decides that.
    pub keep: Option<OwnedFd>,
}

/// Opens `path` to write the output of a process to. A fifo is waited for until it has a reader.
pub async fn open_output(stream: &str, path: &Path, within: Duration) -> Result<Output> {
    let during = || format!("open {stream} {}", path.display());
    let (place, stat) = locate(path).with(during)?;
    match kind(&stat) {
        SFlag::S_IFIFO => {}
        SFlag::S_IFREG => {
            let flags = OFlag::O_WRONLY | OFlag::O_APPEND;
            return reopen(place.as_fd(), flags).map(Output::File).with(during);
        }
        SFlag::S_IFCHR if is_null(&stat) => return Ok(Output::Null),
        _ => return Err(Error::invalid("it is neither a fifo nor a file").during(during())),
    }
    let write = open_writer(place.as_fd(), within).await.with(during)?;
    // After the writer: our own reader would be taken for the client's.
    let keep = reopen(place.as_fd(), OFlag::O_RDONLY | OFlag::O_NONBLOCK).with(during)?;
    Ok(Output::Fifo(FifoOutput { write, keep }))
}

/// Opens `path` to read the input of a process from; `None` for `/dev/null`.
pub fn open_input(path: &Path) -> Result<Option<FifoInput>> {
    let during = || format!("open stdin {}", path.display());
    let (place, stat) = locate(path).with(during)?;
    match kind(&stat) {
        SFlag::S_IFIFO => {}
        SFlag::S_IFCHR if is_null(&stat) => return Ok(None),
        _ => return Err(Error::invalid("it is not a fifo").during(during())),
    }
    let read = reopen(place.as_fd(), OFlag::O_RDONLY | OFlag::O_NONBLOCK).with(during)?;
    let keep = reopen(place.as_fd(), OFlag::O_WRONLY | OFlag::O_NONBLOCK).with(during)?;
    Ok(Some(FifoInput {
        read,
        keep: Some(keep),
    }))
}

/// A pipe whose process's end belongs to the process's user, (read, write).
pub fn owned_pipe(uid: u32, gid: u32) -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).with(|| "pipe2(O_CLOEXEC)")?;
    if (uid, gid) != (0, 0) {
        // One inode: this is the owner of both ends, and of what opening /dev/stdout again checks.
        fchown(&write, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .with(|| format!("fchown(pipe, {uid}, {gid})"))?;
    }
    Ok((read, write))
}

/// Opens the writing end as soon as there is a reader. Nothing tells of one, so it is tried again.
async fn open_writer(place: BorrowedFd<'_>, within: Duration) -> Result<OwnedFd> {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(1);
    loop {
        match reopen(place, OFlag::O_WRONLY | OFlag::O_NONBLOCK) {
            Err(Errno::ENXIO) => {}
            opened => return opened.with(|| "open(O_WRONLY|O_NONBLOCK)"),
        }
        if Instant::now() >= deadline {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "nobody opened it for reading within {} s",
                    within.as_secs_f32()
                ),
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The inode at `path` without opening it: a device may act on open(2), a link may lead anywhere.
fn locate(path: &Path) -> Result<(OwnedFd, FileStat)> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let place = open(path, flags, Mode::empty()).map_err(|errno| {
        // NotFound would read as "no such container" at the edge.
        Error::os(errno, "open(O_PATH)").with_kind(ErrorKind::InvalidArgument)
    })?;
    let stat = fstat(&place).with(|| "fstat")?;
    if kind(&stat) == SFlag::S_IFLNK {
        return Err(Error::invalid("it is a symbolic link"));
    }
    Ok((place, stat))
}

/// Opens the very inode that was looked at.
fn reopen(place: BorrowedFd<'_>, flags: OFlag) -> nix::Result<OwnedFd> {
    let link = format!("/proc/self/fd/{}", place.as_raw_fd());
    open(link.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty())
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn is_null(stat: &FileStat) -> bool {
    (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
}
