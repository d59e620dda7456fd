//! The facade: containers of one state root, and what can be done with one.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::{LinuxResources, Process};

use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::process::{Cancel, Children, Exit, ProcessHandle};

/// OCI status, derived from facts at the moment of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its creation is not complete.
    Creating,
    /// Its init waits at the gate.
    Created,
    /// Its program runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// Its init has ended.
    Stopped,
}

/// Standard streams for a process; `None` is `/dev/null`. With a terminal they are not used.
#[derive(Debug, Default)]
pub struct Streams {
    /// fd 0
    pub stdin: Option<OwnedFd>,
    /// fd 1
    pub stdout: Option<OwnedFd>,
    /// fd 2
    pub stderr: Option<OwnedFd>,
}

/// What create is asked for beyond config.json.
#[derive(Debug)]
pub struct CreateRequest {
    /// Its name, unique below the state root.
    pub id: ContainerId,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Standard streams.
    pub streams: Streams,
    /// Overrides `process.terminal`.
    pub terminal: Option<bool>,
    /// Root is an initramfs: no pivot_root.
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors 3 … 3+n-1 of the caller are inherited.
    pub preserve_fds: u32,
    /// Use the systemd cgroup driver.
    pub systemd_cgroup: bool,
    /// Name of the group (pod) that the container belongs to, recorded for clean-up after a crash.
    pub group: Option<String>,
    /// Mount points that the caller made for the root filesystem, unmounted by delete after a crash.
    pub rootfs_mounts: Vec<PathBuf>,
}

/// A container that was just created.
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub container: Container,
    /// The master of its terminal, when it has one.
    pub console: Option<OwnedFd>,
    /// The listener of its seccomp profile, when it has one and no path to send it to.
    pub seccomp_listener: Option<OwnedFd>,
}

/// A process to add to a running container.
#[derive(Debug)]
pub struct ExecRequest {
    /// What to run, as in config.json's `process`.
    pub process: Process,
    /// Overrides `process.terminal`.
    pub terminal: Option<bool>,
    /// Standard streams.
    pub streams: Streams,
    /// Descriptors 3 … 3+n-1 of the caller are inherited.
    pub preserve_fds: u32,
    /// Path of a cgroup below the container's, `None` for the container's own.
    pub cgroup: Option<PathBuf>,
    /// Run it even though the container is paused (it stays frozen until resume).
    pub ignore_paused: bool,
}

/// An exec that was started.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub process: ProcessHandle,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
}

/// Whom a kill reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The init.
    Init,
    /// Every process in the container's cgroup and below.
    All,
}

/// What delete found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Pid of the init, 0 if it never had one.
    pub pid: i32,
    /// The recorded exit of the init.
    pub exit: Option<Exit>,
}

/// The containers below one state root.
#[derive(Debug)]
pub struct Containers {
    children: Arc<Children>,
}

impl Containers {
    /// Opens (and creates, 0700) the state root.
    pub fn open(root: &Path) -> Result<Self> {
        let _ = root;
        Ok(Self {
            children: Arc::new(Children::default()),
        })
    }

    /// The exits of this process's children; whoever hears SIGCHLD reaps through it.
    #[must_use]
    pub fn children(&self) -> &Arc<Children> {
        &self.children
    }

    /// Creates a container: its init stands before execve, behind the gate. Blocks the calling
    /// thread (hooks may take seconds); on failure nothing is left behind.
    pub fn create(&self, request: CreateRequest, cancel: &Cancel) -> Result<Created> {
        let _ = (request, cancel);
        Err(unbuilt())
    }

    /// The container of this name. `NotFound` ("container does not exist"), `Corrupt`.
    pub fn get(&self, id: &ContainerId) -> Result<Container> {
        let _ = id;
        Err(unbuilt())
    }

    /// Every container below the root; damaged records as errors beside their names.
    pub fn list(&self) -> Result<Vec<(String, Result<Container>)>> {
        Err(unbuilt())
    }

    /// Removes whatever is left of `id`, however damaged: processes, cgroup, mounts, record. Succeeds
    /// when nothing is there.
    pub fn force_delete(&self, id: &ContainerId) -> Result<Deleted> {
        let _ = id;
        Err(unbuilt())
    }
}

fn unbuilt() -> Error {
    Error::new(ErrorKind::Internal, "not built yet")
}

/// One container. Every call reads the facts anew; it may be shared between threads.
#[derive(Debug)]
pub struct Container {
    id: ContainerId,
}

impl Container {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Host pid of its init.
    #[must_use]
    pub fn pid(&self) -> i32 {
        0
    }

    /// Status from facts: pidfd, PF_FORKNOEXEC, cgroup.freeze.
    pub fn status(&self) -> Result<Status> {
        Err(unbuilt())
    }

    /// Whether its pid namespace is its own: if not, the rest is killed when the init ends.
    #[must_use]
    pub fn has_private_pid_namespace(&self) -> bool {
        true
    }

    /// startContainer hooks, opens the gate, waits for execve, poststart hooks. An error means the
    /// program does not run (or a hook failed and the init was killed).
    pub fn start(&self, cancel: &Cancel) -> Result<()> {
        let _ = cancel;
        Err(unbuilt())
    }

    /// Sends a signal.
    pub fn kill(&self, signal: i32, scope: Scope) -> Result<()> {
        let _ = (signal, scope);
        Err(unbuilt())
    }

    /// Adds a process; returns when it has executed its program.
    pub fn exec(&self, request: ExecRequest, cancel: &Cancel) -> Result<Started> {
        let _ = (request, cancel);
        Err(unbuilt())
    }

    /// Freezes its cgroup and waits (bounded) until it is.
    pub fn pause(&self) -> Result<()> {
        Err(unbuilt())
    }

    /// Thaws its cgroup.
    pub fn resume(&self) -> Result<()> {
        Err(unbuilt())
    }

    /// Changes limits; only fields that are present.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        let _ = resources;
        Err(unbuilt())
    }

    /// Host pids of its cgroup and all below.
    pub fn pids(&self) -> Result<Vec<i32>> {
        Err(unbuilt())
    }

    /// Records the exit of the init on disk, before anybody is told of it.
    pub fn record_exit(&self, exit: &Exit) -> Result<()> {
        let _ = exit;
        Err(unbuilt())
    }

    /// Removes it: cgroup, record, poststop hooks. `WrongStatus` while it runs and `force` is false.
    pub fn delete(&self, force: bool, cancel: &Cancel) -> Result<Deleted> {
        let _ = (force, cancel);
        Err(unbuilt())
    }
}
