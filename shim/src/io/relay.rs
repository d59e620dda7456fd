//! How do bytes get from one descriptor to another without passing through this process?
//!
//! splice(2) moves pages between pipes: no buffer, no copy, and nothing is taken from the source that
//! the destination has no room for, so a relay can be stopped at any time without losing a byte.
//! A line of a few bytes is copied instead where it goes to a fifo: moved, it would occupy a page and one of the
//! fifo's slots, and a client that is away for a moment would find only the last few lines waiting.
//!
//! Both ends are edge-triggered in epoll. A guard is taken on each *before* the call that may find it
//! blocked, poll(2) says which end it was, and only that one's readiness is cleared; an event that comes in
//! between carries a newer tick and is not lost, and a blocked relay is not woken until its end moves.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::meter::{Meter, Phase};

/// Most that one call moves; a pipe holds less.
const AT_ONCE: usize = 1 << 20;
/// What is shorter than this is a short piece, and what a pipe takes whole (PIPE_BUF).
const PAGE: usize = 4096;
/// Calls before other tasks of the thread get their turn.
const TURN: u32 = 16;
/// A fifo whose reader lags grows up to this, and so does a container's pipe that was found full: each time we are woken
/// for more. It is what pipe-max-size allows everybody by default. What lies in both is charged to the container that
/// wrote it, so more could drive a small container out of memory.
const LARGEST_PIPE: i32 = 1 << 20;
/// What a pipe holds that nobody has made larger (pipe(7)).
const PIPE: usize = 64 << 10;

/// A descriptor to read from, non-blocking and known to the runtime.
pub fn source(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    set_nonblocking(&fd)?;
    watch(fd, Interest::READABLE)
}

/// A descriptor to write to, non-blocking and known to the runtime.
pub fn destination(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    set_nonblocking(&fd)?;
    watch(fd, Interest::WRITABLE)
}

/// Makes a descriptor known to the runtime.
#[allow(
    deprecated,
    reason = "its replacement is unsafe for types whose descriptor may change or be closed; an OwnedFd's can't"
)]
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}

/// Sets `O_NONBLOCK` on the open file description.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// How short pieces travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// Like long ones.
    Moved,
    /// Copied, so that they share pages; the destination is a pipe.
    Merged,
}

/// Moves bytes until the source has no writer left (`Ok`) or an end fails (`EPIPE`: the destination has no reader).
pub async fn carry_until_end(
    from: &AsyncFd<OwnedFd>,
    to: &AsyncFd<OwnedFd>,
    short: Short,
    meter: &Meter,
) -> io::Result<()> {
    let (mut room, mut supply) = (Room::new(), Room::new());
    let mut turn = 0;
    let mut last = 0;
    meter.set(Phase::AwaitsInput);
    loop {
        let mut input = from.readable().await?;
        let mut output = to.writable().await?;
        let moved = if short == Short::Merged && last < PAGE {
            copy_short(from, to).await
        } else {
            splice_once(from.get_ref(), to.get_ref())
        };
        match moved {
            Ok(0) => return Ok(()),
            Ok(count) => {
                meter.add_copied(count);
                last = count;
                if count >= PIPE {
                    supply.grow(from);
                }
            }
            Err(Errno::EAGAIN) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let ready = ready(from.get_ref().as_fd(), to.get_ref().as_fd())?;
        if !ready.input {
            meter.set(Phase::AwaitsInput);
            input.clear_ready();
        }
        if !ready.output && !room.grow(to) {
            meter.set(Phase::AwaitsReader);
            output.clear_ready();
        }
        if moved.is_err() && ready.input && ready.output {
            // poll(2) and splice(2) differ about a terminal that is nearly full.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        turn += 1;
        if turn % TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Copies up to a page. Nothing is read before there is room for all of it: a pipe takes a page whole.
async fn copy_short(from: &AsyncFd<OwnedFd>, to: &AsyncFd<OwnedFd>) -> nix::Result<usize> {
    let (count, stuck) = copy_page(from, to)?;
    let mut rest = stuck.as_slice();
    while !rest.is_empty() {
        let Ok(mut output) = to.writable().await else {
            return Err(Errno::EIO);
        };
        match write(to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EAGAIN) => output.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(count)
}

/// The second value is what another process's output to the same fifo has left no room for.
fn copy_page(from: &AsyncFd<OwnedFd>, to: &AsyncFd<OwnedFd>) -> nix::Result<(usize, Vec<u8>)> {
    if !has_room(to) {
        return Err(Errno::EAGAIN);
    }
    let mut page = [0; PAGE];
    let count = read(from, &mut page)?;
    let bytes = page.get(..count).unwrap_or_default();
    let written = match write(to, bytes) {
        Ok(written) => written,
        Err(Errno::EAGAIN | Errno::EINTR) => 0,
        Err(errno) => return Err(errno),
    };
    Ok((count, bytes.get(written..).unwrap_or_default().to_vec()))
}

/// One call of splice(2) that does not block, if `from` and `to` are non-blocking or pipes.
pub fn splice_once(from: &OwnedFd, to: &OwnedFd) -> nix::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    splice(from, None, to, None, AT_ONCE, flags)
}

/// Which of two ends would not block now; an end with an error counts as ready, the next call reports it.
#[derive(Clone, Copy)]
pub struct Ready {
    /// There is something to read, or the end.
    pub input: bool,
    /// There is room.
    pub output: bool,
}

/// Asks poll(2), without waiting.
pub fn ready(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<Ready> {
    let mut fds = [
        PollFd::new(from, PollFlags::POLLIN),
        PollFd::new(to, PollFlags::POLLOUT),
    ];
    look(&mut fds)?;
    let any = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
    let [input, output] = &fds;
    Ok(Ready {
        input: any(input),
        output: any(output),
    })
}

/// poll(2) that does not wait, and still is interrupted by a signal where nothing is ready.
fn look(fds: &mut [PollFd<'_>]) -> nix::Result<i32> {
    loop {
        match poll(fds, PollTimeout::ZERO) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Whether there is room to write now, or an error that the next call reports.
pub fn has_room(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    look(&mut fds).is_ok_and(|ready| ready > 0)
}

/// Whether there is something to read now (not: whether the end was reached).
pub fn has_input(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    look(&mut fds).is_ok()
        && fds
            .iter()
            .any(|fd| fd.revents().is_some_and(|r| r.contains(PollFlags::POLLIN)))
}

/// Room that a full pipe may still be given: a client that is away, say for an update, costs no standstill until
/// its fifo is full. Its slots cost 40 bytes each.
pub struct Room {
    exhausted: bool,
}

impl Room {
    /// Nothing was tried yet.
    pub fn new() -> Self {
        Self { exhausted: false }
    }

    /// Whether `fd` has become larger.
    pub fn grow(&mut self, fd: impl AsFd) -> bool {
        if self.exhausted {
            return false;
        }
        let grown = fcntl(&fd, FcntlArg::F_GETPIPE_SZ)
            .ok()
            .filter(|size| *size < LARGEST_PIPE)
            .and_then(|size| {
                let larger = size.saturating_mul(4).min(LARGEST_PIPE);
                fcntl(&fd, FcntlArg::F_SETPIPE_SZ(larger)).ok()
            });
        self.exhausted = grown.is_none();
        !self.exhausted
    }
}
