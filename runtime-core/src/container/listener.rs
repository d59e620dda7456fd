//! Hands the listener of a seccomp profile to its agent: a unix socket, as the specification says.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};

use super::Status;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plan::SeccompProgram;
use crate::process::ProcessHandle;
use crate::store::record::Record;

/// Sends the container process state with the descriptor (`seccompFd`).
pub fn hand_over(
    program: Option<&SeccompProgram>,
    record: &Record,
    process: &ProcessHandle,
    status: Status,
    listener: &OwnedFd,
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
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .with(|| "socket(AF_UNIX)")?;
    let address = UnixAddr::new(path).with(doing)?;
    connect(agent_socket.as_raw_fd(), &address).with(doing)?;
    let text = message.to_string();
    let fds = [listener.as_fd().as_raw_fd()];
    let control = [ControlMessage::ScmRights(&fds)];
    let sent = sendmsg::<()>(
        agent_socket.as_raw_fd(),
        &[IoSlice::new(text.as_bytes())],
        &control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .with(doing)?;
    if sent == text.len() {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::Internal, "a short message")).with(doing)
    }
}
