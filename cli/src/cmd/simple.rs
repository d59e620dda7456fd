//! start, kill, pause, resume: one call of the core each.

use rsrun_core::container::Scope;
use rsrun_core::{Error, ErrorKind, Result, Status};

use super::container;
use crate::args::{Global, Kill};
use crate::signals::Incoming;

/// `start`
pub fn start(global: &Global, id: &str) -> Result<()> {
    let container = container(global, id)?;
    match container.status()? {
        Status::Stopped => Err(stopped(
            id,
            Status::Stopped,
            "cannot start a container that has stopped",
        )),
        Status::Running => Err(stopped(
            id,
            Status::Running,
            "cannot start an already running container",
        )),
        _ => container.start(&Incoming::collect()?.cancel()?),
    }
}

/// `kill`: callers look for "container not running".
pub fn kill(global: &Global, kill: &Kill) -> Result<()> {
    let signal = crate::signals::parse(&kill.signal)?;
    let container = container(global, &kill.id)?;
    if kill.all {
        return container.kill(signal, Scope::All);
    }
    match container.status()? {
        Status::Stopped => Err(stopped(&kill.id, Status::Stopped, "container not running")),
        _ => container.kill(signal, Scope::Init),
    }
}

/// `pause`
pub fn pause(global: &Global, id: &str) -> Result<()> {
    container(global, id)?.pause()
}

/// `resume`
pub fn resume(global: &Global, id: &str) -> Result<()> {
    let container = container(global, id)?;
    match container.status()? {
        Status::Paused => container.resume(),
        found => Err(stopped(id, found, "container not paused")),
    }
}

fn stopped(id: &str, found: Status, text: &str) -> Error {
    let kind = ErrorKind::WrongStatus {
        found: found.to_string(),
        allowed: "created or running",
    };
    Error::new(kind, text).during(format!("container {id}"))
}
