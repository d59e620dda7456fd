//! Hands the listener of a seccomp profile to its agent: a unix socket, as the specification says.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};

use super::Status;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::SeccompProgram;
use crate::process::{Cancel, ProcessHandle};
use crate::store::record::Record;

/// How long the agent may take to take it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Until an agent that is busy is asked again.
const PAUSE: Duration = Duration::from_millis(10);

/// Sends the container process state with the descriptor (`seccompFd`).
pub fn hand_over(
    program: Option<&SeccompProgram>,
    record: &Record,
    process: &ProcessHandle,
    status: Status,
    listener: &OwnedFd,
    cancel: &Cancel,
) -> Result<()> {
    let Some(agent) = program.and_then(|program| program.listener.as_ref()) else {
        return Err(Error::new(
            ErrorKind::Internal,
            "a listener came without an agent to take it",
        ));
    };
    let message = serde_json::json!({
        "ociVersion": record.oci_version,
        "fds": ["seccompFd"],
        "pid": process.pid(),
        "metadata": agent.metadata.clone().unwrap_or_default(),
        "state": {
            "ociVersion": record.oci_version,
            "id": record.id,
            "status": status.to_string(),
            "pid": record.init.map_or(process.pid(), |init| init.pid),
            "bundle": record.bundle,
            "annotations": record.annotations,
        },
    });
    let Some(path) = &agent.path else {
        return Err(Error::spec(
            "/linux/seccomp/listenerPath",
            "SCMP_ACT_NOTIFY needs an agent to ask",
        ));
    };
    let doing = || format!("seccomp listener socket {}", path.display());
    let agent_socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
    .with(|| "socket(AF_UNIX)")?;
    let address = UnixAddr::new(path).with(doing)?;
    let deadline = Instant::now() + PATIENCE;
    let sent = reach(&agent_socket, &address, deadline, cancel).and_then(|()| {
        send(
            &agent_socket,
            &message.to_string(),
            listener,
            deadline,
            cancel,
        )
    });
    sent.with(doing)
}

/// Connects. An agent whose backlog is full is asked again: there is nothing to poll.
fn reach(agent: &OwnedFd, address: &UnixAddr, deadline: Instant, cancel: &Cancel) -> Result<()> {
    loop {
        match connect(agent.as_raw_fd(), address) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                if Instant::now() >= deadline {
                    return Err(does_not_answer());
                }
                cancel.pause(PAUSE)?;
            }
            Err(errno) => return Err(Error::os(errno, "connect()")),
        }
    }
}

/// Sends all of the text; the descriptor goes with its first part.
fn send(
    agent: &OwnedFd,
    text: &str,
    listener: &OwnedFd,
    deadline: Instant,
    cancel: &Cancel,
) -> Result<()> {
    let fds = [listener.as_fd().as_raw_fd()];
    let mut control = &[ControlMessage::ScmRights(&fds)][..];
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let parts = [IoSlice::new(rest)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<()>(agent.as_raw_fd(), &parts, control, flags, None) {
            Ok(sent) => {
                rest = rest.get(sent..).unwrap_or_default();
                control = &[];
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let room = [(agent.as_fd(), PollFlags::POLLOUT)];
                cancel
                    .wait(&room, Some(deadline))
                    .map_err(|e| match e.kind() {
                        ErrorKind::Timeout => does_not_answer(),
                        _ => e,
                    })?;
            }
            Err(errno) => return Err(Error::os(errno, "sendmsg()")),
        }
    }
    Ok(())
}

fn does_not_answer() -> Error {
    let text = format!("the agent took nothing for {} s", PATIENCE.as_secs());
    Error::new(ErrorKind::Timeout, text)
}
