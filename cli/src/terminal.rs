//! The terminal of a container: handed to a socket, or relayed to the user's own.

use std::io::{IoSlice, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use rsrun_core::sys::terminal::{set_window_size, window_size};
use rsrun_core::{Context, Error, ProcessHandle, Result};

use crate::signals::Incoming;

const LARGEST_READ: usize = 16 << 10;

/// A terminal on which an ended process wrote, and which nobody has written to for so long, has given everything.
const SILENCE: u16 = 50;

/// How long one is listened to that others write to without a pause.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Who is left alone with its process when this program has ended, or stays to relay its terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// This program ends before the process does.
    Back,
    /// This program ends with the process.
    Fore,
}

impl Ground {
    /// As `--detach` says.
    pub fn of(detach: &bool) -> Self {
        match detach {
            true => Self::Back,
            false => Self::Fore,
        }
    }
}

/// Whether a terminal has somewhere to go: asked before anything is made. In the background that is a socket, in
/// the foreground the user's own terminal.
pub fn vet(wanted: bool, ground: Ground, socket: Option<&Path>) -> Result<()> {
    match (wanted, ground, socket) {
        (true, Ground::Back, None) => Err(Error::invalid(
            "cannot allocate tty if rsrun will detach without setting console socket (--console-socket)",
        )),
        (true, Ground::Fore, None) => own().map(drop).with(|| {
            "/process/terminal asks for a terminal, and there is none here (or use --detach with --console-socket)"
        }),
        (true, Ground::Back, Some(_)) | (false, _, None) => Ok(()),
        (false, _, Some(_)) | (true, Ground::Fore, Some(_)) => Err(Error::invalid(
            "cannot use console socket if rsrun will not detach or allocate tty (--console-socket)",
        )),
    }
}

/// The user's terminal: one of the standard streams, or that of the session.
fn own() -> Result<OwnedFd> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for stream in [stderr.as_fd(), stdout.as_fd(), stdin.as_fd()] {
        if stream.is_terminal() {
            return stream.try_clone_to_owned().map_err(|e| {
                Error::new(
                    rsrun_core::ErrorKind::Internal,
                    format!("dup(terminal): {e}"),
                )
            });
        }
    }
    open("/dev/tty", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).with(|| "open /dev/tty")
}

/// The master, if there is one, to the console socket, if one was named.
pub fn hand_over(master: Option<&OwnedFd>, socket: Option<&Path>) -> Result<()> {
    match (master, socket) {
        (Some(master), Some(socket)) => send_master(socket, master),
        _ => Ok(()),
    }
}

/// Sends the master to who listens on `socket`, as runc does: its name with SCM_RIGHTS.
pub fn send_master(path: &Path, master: &OwnedFd) -> Result<()> {
    let doing = || format!("--console-socket {}", path.display());
    let to = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .with(doing)?;
    connect(to.as_raw_fd(), &UnixAddr::new(path).with(doing)?).with(doing)?;
    let fds = [master.as_raw_fd()];
    let text = [IoSlice::new(b"/dev/ptmx")];
    sendmsg::<()>(
        to.as_raw_fd(),
        &text,
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
    .with(doing)
}

/// Relays between the standard streams and the master until `process` has ended and what it wrote has come;
/// forwards signals meanwhile. Neither direction waits for the other: who is given more than it reads may have
/// to write before it reads on.
pub fn relay(master: OwnedFd, process: &ProcessHandle, incoming: &Incoming) -> Result<()> {
    let _raw = RawMode::enter()?;
    copy_size(&master);
    // Nobody else has this side.
    fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).with(|| "fcntl(terminal)")?;
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let mut typed = Vec::new();
    let mut reading = true;
    loop {
        let of_master = match typed.is_empty() {
            true => PollFlags::POLLIN,
            false => PollFlags::POLLIN | PollFlags::POLLOUT,
        };
        let mut fds = [
            PollFd::new(master.as_fd(), of_master),
            PollFd::new(incoming.as_fd(), PollFlags::POLLIN),
            PollFd::new(process.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        let asked = if reading && typed.is_empty() { 4 } else { 3 };
        match poll(&mut fds[..asked], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::os(errno, "poll()")),
        }
        let [from_master, from_signals, has_ended, from_stdin] =
            fds.map(|fd| fd.any().unwrap_or(false));
        if from_signals {
            forward(incoming, process, Some(&master))?;
        }
        if has_ended {
            return drain(&master, &stdout);
        }
        // EIO: every slave is closed, and all that was written has been read.
        if from_master && !copy(&master, &stdout)? {
            return Ok(());
        }
        if asked == 4 && from_stdin {
            let mut buffer = [0; LARGEST_READ];
            match nix::unistd::read(&stdin, &mut buffer) {
                Ok(0) | Err(Errno::EIO) => reading = false,
                Ok(length) => typed.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(Error::os(errno, "read(stdin)")),
            }
        }
        if !typed.is_empty() {
            match nix::unistd::write(&master, &typed) {
                Ok(written) => drop(typed.drain(..written)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // Every slave is closed.
                Err(_) => typed.clear(),
            }
        }
    }
}

/// What an ended process has written. Others may hold its terminal, so this need not come to an end of its own: it is
/// over when nothing more comes.
fn drain(master: &OwnedFd, stdout: &impl AsFd) -> Result<()> {
    let deadline = Instant::now() + LAST_WORDS;
    while Instant::now() < deadline {
        let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, SILENCE) {
            Ok(0) => break,
            Ok(_) if !copy(master, stdout)? => break,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::os(errno, "poll()")),
        }
    }
    Ok(())
}

/// Forwards what has come; SIGCHLD is no message for the container, a new size is one for its terminal.
pub fn forward(
    incoming: &Incoming,
    process: &ProcessHandle,
    master: Option<&OwnedFd>,
) -> Result<()> {
    while let Some(signal) = incoming.next()? {
        match (signal, master) {
            (libc::SIGCHLD, _) => {}
            (libc::SIGWINCH, Some(master)) => copy_size(master),
            // NotFound: it has ended; what comes next says so.
            (signal, _) => drop(process.kill(signal)),
        }
    }
    Ok(())
}

fn copy(from: &impl AsFd, to: &impl AsFd) -> Result<bool> {
    let mut buffer = [0u8; LARGEST_READ];
    let length = match nix::unistd::read(from, &mut buffer) {
        Ok(0) | Err(Errno::EIO) => return Ok(false),
        Ok(length) => length,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(true),
        Err(errno) => return Err(Error::os(errno, "read(terminal)")),
    };
    let mut rest = buffer.get(..length).unwrap_or_default();
    while !rest.is_empty() {
        match nix::unistd::write(to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(Errno::EIO | Errno::EPIPE) => return Ok(false),
            Err(errno) => return Err(Error::os(errno, "write(terminal)")),
        }
    }
    Ok(true)
}

/// Gives the master the size of the user's terminal, if there is one.
pub fn copy_size(master: &OwnedFd) {
    if let Some((rows, columns)) = own_size() {
        // A master whose slaves are all closed may refuse; there is nobody to tell the size then.
        let _ = set_window_size(master.as_fd(), columns, rows);
    }
}

/// Rows and columns of the user's terminal; `None` where there is none.
pub fn own_size() -> Option<(u16, u16)> {
    let (columns, rows) = window_size(own().ok()?.as_fd()).ok()?;
    Some((rows, columns))
}

/// The user's terminal in raw mode until dropped.
struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    fn enter() -> Result<Self> {
        let terminal = own()?;
        let before = tcgetattr(&terminal).with(|| "tcgetattr(terminal)")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw).with(|| "tcsetattr(terminal)")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}
