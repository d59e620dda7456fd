//! The tasks of a sandbox: who owns what of a container, and what is asked of it.
//!
//! Everything that belongs to one container is owned by its [`Owner`], confined to the one thread of the
//! serving process. State changes in short synchronous steps; a borrow is never held over an await. What
//! blocks (mounts, the core) runs on a thread of its own for each operation, so an owner takes Kill and
//! Delete while its Create is still under way, and no container waits for another.

pub mod create;
mod delete;
mod ending;
pub mod exec;
mod operation;
mod owner;
pub mod policy;

use std::path::PathBuf;

use oci_spec::runtime::Process;
use rsrun_core::{ContainerId, ExecId, Exit};

pub use owner::Owner;

use crate::io;
use crate::mounts::Mount;
use crate::options::Options;

/// A request to create a container.
#[derive(Debug)]
pub struct CreateCall {
    /// Its id.
    pub id: ContainerId,
    /// Its bundle, an absolute path.
    pub bundle: PathBuf,
    /// What to mount on `<bundle>/rootfs`; empty if the root filesystem is there already.
    pub rootfs: Vec<Mount>,
    /// Streams of its init.
    pub streams: io::Request,
    /// Runtime options.
    pub options: Options,
}

/// A request to add an exec.
#[derive(Debug)]
pub struct ExecCall {
    /// Its id.
    pub id: ExecId,
    /// What to run.
    pub process: Process,
    /// Path of a fifo, or empty.
    pub stdin: String,
    /// Path of a fifo, URI, or empty.
    pub stdout: String,
    /// Path of a fifo, or empty.
    pub stderr: String,
    /// It gets a terminal.
    pub terminal: bool,
}

/// State of a process, as containerd's clients know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits to be started.
    Created,
    /// It runs.
    Running,
    /// It is being frozen.
    Pausing,
    /// It is frozen.
    Paused,
    /// Its exit is known.
    Stopped,
}

/// A process at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Container id for the init, exec id for an exec.
    pub process_id: String,
    /// Exec id, empty for the init.
    pub exec_id: String,
    /// Bundle of the container.
    pub bundle: String,
    /// Host pid, 0 before there is one.
    pub pid: i32,
    /// Its state.
    pub state: State,
    /// Its streams, as they were asked for.
    pub streams: io::Request,
    /// Its exit, once that is told.
    pub exit: Option<Exit>,
}
