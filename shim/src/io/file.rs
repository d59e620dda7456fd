//! How does output get into a file: opened so that no other file can be meant, and written so that a full
//! or failing disk stops neither the container nor the other containers of the process?
//!
//! A write to a disk can block for as long as the disk likes, so every process with a file has a thread of its
//! own for it. `O_APPEND` and write(2) rather than splice(2), which refuses such a file: with an offset of our own, lines
//! that another process appends would be overwritten, and a file truncated by log rotation would grow a hole.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlink};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use rsrun_core::{Context, Error, ErrorKind, Result};

use super::life::Life;
use super::meter::{Ending, Meter, Phase};
use super::policy::Policy;
use super::stdio::{Kept, lock};

/// Bytes read and written at once: half of what a pipe holds, on the thread's stack.
const AT_ONCE: usize = 32 * 1024;
/// Reads of one stream before the other gets its turn.
const TURN: u32 = 16;
/// Stack of the thread: its buffer and a few frames.
const STACK: usize = 128 * 1024;
/// How often a terminal that nobody has open is looked at (see `console`).
const REOPENED_WITHIN: u8 = 250;

/// Opens `path` for appending; makes it (0644) and its parents (0755) when missing.
///
/// The last existing directory is opened first and the policy asked about where it really is; below it
/// nothing is followed. So a link that others can plant leads nowhere that the path itself may not.
pub fn open_log(path: &Path, policy: &Policy) -> Result<File> {
    let during = || format!("open log file {}", path.display());
    let (parent, missing, name) = existing_parent(path).with(during)?;
    let mut real = real_path(&parent).with(during)?;
    real.extend(&missing);
    policy.allow_file(&real.join(name)).with(during)?;
    let mut directory = parent;
    for part in missing {
        directory = make_directory(&directory, part).with(during)?;
    }
    let file = open_or_make(&directory, name).with(during)?;
    let stat = fstat(&file).with(|| "fstat").with(during)?;
    if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
        return Err(Error::invalid("it is not a file").during(during()));
    }
    Ok(File::from(file))
}

/// The deepest directory of `path` that exists, the names of those below it, and the file's name.
fn existing_parent(path: &Path) -> Result<(OwnedFd, Vec<&OsStr>, &OsStr)> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::invalid("it names a directory"))?;
    let mut missing = Vec::new();
    let mut parent = path.parent().unwrap_or(Path::new("/"));
    loop {
        match open(
            parent,
            OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC,
            Mode::empty(),
        ) {
            Ok(directory) => {
                missing.reverse();
                return Ok((directory, missing, name));
            }
            Err(Errno::ENOENT) => {
                missing.extend(parent.file_name());
                parent = parent.parent().unwrap_or(Path::new("/"));
            }
            Err(errno) => {
                return Err(Error::os(
                    errno,
                    format!("open({}, O_DIRECTORY)", parent.display()),
                ));
            }
        }
    }
}

/// Where an open file really is.
pub fn real_path(directory: &OwnedFd) -> Result<PathBuf> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let target = readlink(link.as_str()).with(|| format!("readlink({link})"))?;
    Ok(PathBuf::from(target))
}

fn make_directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    let made = mkdirat(parent, name, Mode::from_bits_truncate(0o755));
    if let Err(errno) = made
        && errno != Errno::EEXIST
    {
        return Err(Error::os(
            errno,
            format!("mkdirat({}, 0755)", name.display()),
        ));
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())
        .with(|| format!("openat({}, O_DIRECTORY|O_NOFOLLOW)", name.display()))?;
    if made.is_ok() {
        // The umask of a shim is stricter.
        fchmod(&directory, Mode::from_bits_truncate(0o755)).with(|| "fchmod(0755)")?;
    }
    Ok(directory)
}

fn open_or_make(directory: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    // Non-blocking for the case that it is a fifo without a reader; a file does not know it.
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o644);
    match openat(
        directory,
        name,
        flags | OFlag::O_CREAT | OFlag::O_EXCL,
        mode,
    ) {
        Ok(file) => {
            fchmod(&file, mode).with(|| "fchmod(0644)")?;
            Ok(file)
        }
        Err(Errno::EEXIST) => {
            openat(directory, name, flags, Mode::empty()).map_err(|errno| match errno {
                Errno::ELOOP => Error::invalid("it is a symbolic link"),
                errno => Error::os(errno, "openat(O_WRONLY|O_APPEND|O_NOFOLLOW)"),
            })
        }
        Err(errno) => Err(Error::os(errno, "openat(O_WRONLY|O_CREAT|O_APPEND)")),
    }
}

/// A stream on its way to a file: non-blocking, the reading end of a pipe or a terminal's master.
pub struct Source {
    /// To read from.
    pub fd: OwnedFd,
    /// Its counts.
    pub meter: Arc<Meter>,
    /// Whether it is a terminal's master.
    pub terminal: bool,
    /// Where the copy of the master for resize is, closed at the end.
    pub kept: Kept,
}

/// Starts the thread that appends what comes from `sources` to `file` until all have ended.
pub fn spawn(owner: String, file: File, sources: Vec<Source>, life: Arc<Life>) -> Result<()> {
    // Here and not on the thread: a drain may ask before the thread runs.
    for source in &sources {
        source.meter.set(Phase::AwaitsInput);
    }
    std::thread::Builder::new()
        .name("file-sink".into())
        .stack_size(STACK)
        .spawn(move || {
            let sink = Sink {
                owner,
                file,
                failed: false,
            };
            append(sink, sources, &life);
        })
        .map(drop)
        .map_err(|error| {
            Error::new(ErrorKind::Exhausted, "start a thread for the log file").caused_by(error)
        })
}

fn append(mut sink: Sink, mut open: Vec<Source>, life: &Life) {
    // Told when the file is closed as well: whoever waits for it may remove the file then.
    let endings: Vec<_> = open
        .iter()
        .map(|source| Ending(source.meter.clone()))
        .collect();
    let mut buffer = [0; AT_ONCE];
    while !open.is_empty() && !life.is_stopped() {
        // Before reading: what comes before an exit that we do not see yet is read in the next round.
        let exited = life.is_exited();
        let mut hung_up = false;
        open.retain(|source| {
            let goes_on = match drain(&mut sink, source, &mut buffer, life) {
                Left::More => true,
                Left::Nothing => !(source.terminal && exited),
                Left::HungUp => {
                    hung_up = true;
                    !exited
                }
                Left::Ended => false,
            };
            if source.terminal && !goes_on {
                lock(&source.kept).console = None;
            }
            goes_on
        });
        if !open.is_empty() && life.is_exited() == exited {
            wait(&open, hung_up, life);
        }
    }
    drop((open, sink));
    drop(endings);
}

/// What a source has left after it was read.
enum Left {
    More,
    Nothing,
    /// A terminal that no process has open.
    HungUp,
    Ended,
}

fn drain(sink: &mut Sink, source: &Source, buffer: &mut [u8], life: &Life) -> Left {
    for _ in 0..TURN {
        if life.is_stopped() {
            break;
        }
        match nix::unistd::read(&source.fd, buffer) {
            Ok(0) => return Left::Ended,
            Ok(count) => sink.write(buffer.get(..count).unwrap_or_default(), &source.meter),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                source.meter.set(Phase::AwaitsInput);
                return Left::Nothing;
            }
            Err(Errno::EIO) if source.terminal => return Left::HungUp,
            Err(errno) => {
                log::warn!("{}: read {}: {errno}", sink.owner, source.meter.name());
                return Left::Ended;
            }
        }
    }
    Left::More
}

fn wait(open: &[Source], hung_up: bool, life: &Life) {
    let mut fds = vec![PollFd::new(life.wake(), PollFlags::POLLIN)];
    let timeout = if hung_up {
        // A hang-up is reported for as long as it lasts; the terminal is the only source then.
        PollTimeout::from(REOPENED_WITHIN)
    } else {
        fds.extend(
            open.iter()
                .map(|source| PollFd::new(source.fd.as_fd(), PollFlags::POLLIN)),
        );
        PollTimeout::NONE
    };
    let _ = poll(&mut fds, timeout);
    life.settle();
}

struct Sink {
    owner: String,
    file: File,
    failed: bool,
}

impl Sink {
    /// Appends `bytes`. What can't be written is counted and forgotten: the container goes on.
    fn write(&mut self, bytes: &[u8], meter: &Meter) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(count) => {
                    meter.add_copied(count);
                    rest = rest.get(count..).unwrap_or_default();
                    if std::mem::take(&mut self.failed) {
                        log::warn!(
                            "{}: log file can be written again, {} bytes of {} are lost",
                            self.owner,
                            meter.lost(),
                            meter.name()
                        );
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    meter.add_lost(rest.len());
                    if !std::mem::replace(&mut self.failed, true) {
                        log::warn!("{}: write to log file, output is lost: {error}", self.owner);
                    }
                    return;
                }
            }
        }
    }
}
