//! What containerd is told unasked, and in which order.

pub mod order;
mod outbox;

use std::time::SystemTime;

pub use outbox::Outbox;

use crate::mounts::Mount;

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The container.
    pub container: String,
    /// What happened to it.
    pub what: What,
}

/// Kinds of events; each is published under a topic of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The container was created.
    Created {
        /// Its bundle.
        bundle: String,
        /// Mounts of its root filesystem, as they were asked for.
        rootfs: Vec<Mount>,
        /// Its streams, as they were asked for.
        stdin: String,
        /// See `stdin`.
        stdout: String,
        /// See `stdin`.
        stderr: String,
        /// Whether it has a terminal.
        terminal: bool,
        /// Host pid of its init.
        pid: i32,
    },
    /// Its program runs.
    Started {
        /// Host pid of its init.
        pid: i32,
    },
    /// An exec id was taken.
    ExecAdded {
        /// The exec.
        exec: String,
    },
    /// An exec's program runs.
    ExecStarted {
        /// The exec.
        exec: String,
        /// Its host pid.
        pid: i32,
    },
    /// A process of it has ended.
    Exited(Ended),
    /// The kernel killed a process of it for lack of memory.
    OutOfMemory,
    /// It was frozen.
    Paused,
    /// It was thawed.
    Resumed,
    /// It was removed.
    Deleted(Ended),
}

impl What {
    /// Its name, as topics have it.
    pub fn name(&self) -> &'static str {
        match self {
            What::Created { .. } => "create",
            What::Started { .. } => "start",
            What::ExecAdded { .. } => "exec-added",
            What::ExecStarted { .. } => "exec-started",
            What::Exited(_) => "exit",
            What::OutOfMemory => "oom",
            What::Paused => "paused",
            What::Resumed => "resumed",
            What::Deleted(_) => "delete",
        }
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Container id for the init, exec id for an exec.
    pub process: String,
    /// Host pid.
    pub pid: i32,
    /// Exit code, or 128 + signal.
    pub status: u32,
    /// When it was reaped.
    pub at: SystemTime,
}
