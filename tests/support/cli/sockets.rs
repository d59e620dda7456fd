//! What does a runtime send over a unix socket: a terminal's master side, a seccomp listener?
#![allow(unsafe_code)]
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Receives one message with one descriptor.
pub fn receive_fd(stream: &UnixStream) -> std::io::Result<(Vec<u8>, OwnedFd)> {
    let mut buffer = vec![0u8; 64 * 1024];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 4]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let size = message.bytes;
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just put these descriptors into our table for this message; nobody else knows them.
            fds.extend(
                numbers
                    .into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    buffer.truncate(size);
    let fd = fds
        .pop()
        .ok_or_else(|| std::io::Error::other("a message without a descriptor"))?;
    Ok((buffer, fd))
}

/// One system call that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub struct Notice {
    id: u64,
    /// The thread that made it.
    pub tid: u32,
    /// Its number.
    pub nr: i32,
    /// Its arguments.
    pub args: [u64; 6],
}

#[repr(C)]
#[derive(Default)]
struct Notif {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    ip: u64,
    args: [u64; 6],
}

#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

nix::ioctl_readwrite!(
    /// Takes the next notice.
    notif_receive, b'!', 0, Notif);
nix::ioctl_readwrite!(
    /// Answers one.
    notif_send, b'!', 1, Answer);

/// The next notice of a seccomp listener, or `None` where all its processes are gone or the time is up.
pub fn next_notice(listener: BorrowedFd<'_>, limit: Duration) -> Option<Notice> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(listener, PollFlags::POLLIN)];
        let ready = poll(
            &mut fds,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO),
        )
        .ok()?;
        let events = fds[0].revents().unwrap_or(PollFlags::empty());
        if ready == 0 || !events.contains(PollFlags::POLLIN) {
            return None;
        }
        let mut notif = Notif::default();
        // SAFETY: `notif` is zeroed, as the kernel demands, has the size that the request's number names, and
        //         lives for the call.
        match unsafe { notif_receive(listener.as_raw_fd(), &mut notif) } {
            Ok(_) => {
                return Some(Notice {
                    id: notif.id,
                    tid: notif.pid,
                    nr: notif.nr,
                    args: notif.args,
                });
            }
            // The caller was killed in between: look for the next.
            Err(nix::Error::ENOENT | nix::Error::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Lets a noticed call fail with an errno; with 0 it has succeeded without having been made.
pub fn answer(listener: BorrowedFd<'_>, notice: Notice, errno: i32) -> nix::Result<()> {
    send(listener, notice, -errno, 0)
}

/// Lets a noticed call be made.
pub fn let_go(listener: BorrowedFd<'_>, notice: Notice) -> nix::Result<()> {
    const CONTINUE: u32 = 1;
    send(listener, notice, 0, CONTINUE)
}

fn send(listener: BorrowedFd<'_>, notice: Notice, error: i32, flags: u32) -> nix::Result<()> {
    let mut answer = Answer {
        id: notice.id,
        value: 0,
        error,
        flags,
    };
    // SAFETY: `answer` has the size that the request's number names and lives for the call.
    unsafe { notif_send(listener.as_raw_fd(), &mut answer) }.map(|_| ())
}
