//! The facade: containers of one state root, and what can be done with one.

mod create;
mod delete;
mod exec;
mod hooks;
mod joined_user;
mod listener;
mod lookups;
mod namespace;
mod start;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::errno::Errno;
use oci_spec::runtime::{LinuxResources, Process, Spec};

use crate::bundle::Loaded;
use crate::cgroup::devices::Program;
use crate::cgroup::{Cgroup, Mount, Stats};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::Host;
use crate::id::ContainerId;
use crate::launch::Ahead;
use crate::plan::default_device_rules;
use crate::process::{Children, Exit, Launching, ProcessHandle};
use crate::store::record::{CgroupFacts, Record};
use crate::store::status::{self, InitSeen};
use crate::store::{Entry, Store};
use crate::sys::procfs::{self, Stat};

/// How long the kernel may take to end what was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(3);
/// How long the kernel may take to freeze or thaw.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

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

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
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
    /// `NAME=value` added to the process's environment.
    pub extra_env: Vec<String>,
    /// Use the systemd cgroup driver.
    pub systemd_cgroup: bool,
    /// Name of the group (pod) that the container belongs to, recorded for clean-up after a crash.
    pub group: Option<String>,
    /// Mount points that the caller made for the root filesystem, unmounted by delete after a crash.
    pub rootfs_mounts: Vec<PathBuf>,
    /// config.json, where it has been read already.
    pub loaded: Option<Loaded<Spec>>,
    /// What was begun for it before it came; without it that is begun when config.json has been read.
    pub ahead: Option<Ahead>,
    /// A start follows at once, and its caller does nothing before: the init waits for none, and create returns when its program
    /// runs. Not where something has to be done in between all the same, for a terminal or for startContainer hooks.
    pub starts_at_once: bool,
}

/// A container that was just created.
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub container: Container,
    /// The master of its terminal, when it has one.
    pub console: Option<OwnedFd>,
    /// Keeps an early exit of its init until who created it has registered the pid.
    pub launching: Launching,
    /// What was asked for, is unknown, and was left out as the specification says: for the edge's log.
    pub warnings: Vec<String>,
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
    /// Keeps an early exit until who started it has registered the pid.
    pub launching: Launching,
    /// What was asked for, is unknown, and was left out: for the edge's log.
    pub warnings: Vec<String>,
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
    store: Store,
    /// Where compiled seccomp profiles are kept.
    profiles: PathBuf,
    children: Arc<Children>,
    host: OnceLock<Arc<Host>>,
}

impl Containers {
    /// Opens the state root. It is made, 0700, when the first container is.
    pub fn open(root: &Path) -> Result<Self> {
        Self::with_children(root, Arc::default())
    }

    /// The same, for a process that has one reaper and several state roots.
    pub fn with_children(root: &Path, children: Arc<Children>) -> Result<Self> {
        Ok(Self {
            store: Store::open(root)?,
            profiles: lookups::profiles_in(root),
            children,
            host: OnceLock::new(),
        })
    }

    /// Keeps compiled seccomp profiles beside the state root, for all roots there, instead of in it.
    #[must_use]
    pub fn with_profiles_beside(mut self) -> Self {
        self.profiles =
            lookups::profiles_in(self.store.path().parent().unwrap_or(self.store.path()));
        self
    }

    /// The end of it: takes the state root away, if nothing is in it and no other process has it open.
    pub fn leave(&self) {
        self.store.leave();
    }

    /// The exits of this process's children; whoever hears SIGCHLD reaps through it.
    #[must_use]
    pub fn children(&self) -> &Arc<Children> {
        &self.children
    }

    /// The container of this name. `NotFound` ("container does not exist"), `Corrupt`.
    pub fn get(&self, id: &ContainerId) -> Result<Container> {
        let entry = self.store.entry(id)?;
        let record = entry.record()?;
        Container::open(
            id.clone(),
            entry,
            record,
            Arc::clone(&self.children),
            self.host()?,
        )
    }

    /// Every container below the root; damaged records as errors beside their names.
    pub fn list(&self) -> Result<Vec<(ContainerId, Result<Container>)>> {
        let names = self.store.names()?;
        Ok(names
            .into_iter()
            .map(|id| (id.clone(), self.get(&id)))
            .collect())
    }

    /// Facts of this machine, looked up at the first call.
    fn host(&self) -> Result<Arc<Host>> {
        if let Some(host) = self.host.get() {
            return Ok(Arc::clone(host));
        }
        let host = Arc::new(Host::probe()?);
        Ok(Arc::clone(self.host.get_or_init(|| host)))
    }
}

/// One container. Every call reads the facts anew; it may be shared between threads.
#[derive(Debug)]
pub struct Container {
    id: ContainerId,
    entry: Entry,
    record: Record,
    init: Option<ProcessHandle>,
    cgroup: Option<Cgroup>,
    /// Its creation has executed its program: the first start finds it so.
    runs_already: AtomicBool,
    children: Arc<Children>,
    host: Arc<Host>,
}

impl Container {
    /// From its record: the init only if it is still that process, the cgroup only if it is still that
    /// directory.
    fn open(
        id: ContainerId,
        entry: Entry,
        record: Record,
        children: Arc<Children>,
        host: Arc<Host>,
    ) -> Result<Self> {
        let boot = procfs::boot_id().with(|| "read(/proc/sys/kernel/random/boot_id)")?;
        let this_boot = record.boot_id == boot;
        let init = match record.init {
            Some(init) if this_boot => ProcessHandle::open(init.pid, init.start_time)?,
            _ => None,
        };
        // The record says where, the link which one, in case that only the intent was written.
        let inode = |facts: &CgroupFacts| {
            facts
                .inode
                .or_else(|| entry.cgroup_link().map(|(_, inode)| inode))
        };
        let cgroup = match &record.cgroup {
            Some(facts) if this_boot => match inode(facts) {
                Some(inode) => open_cgroup(&facts.path, inode)?,
                None => None,
            },
            _ => None,
        };
        Ok(Self {
            id,
            entry,
            record,
            init,
            cgroup,
            runs_already: AtomicBool::new(false),
            children,
            host,
        })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The facts recorded at its creation.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Host pid of its init; 0 when its creation was not complete.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.record.init.map_or(0, |init| init.pid)
    }

    /// Its init, if that is still the process that was recorded.
    #[must_use]
    pub fn init(&self) -> Option<&ProcessHandle> {
        self.init.as_ref()
    }

    /// Its cgroup, if it still exists.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Status from facts: pidfd, PF_FORKNOEXEC, cgroup.freeze.
    pub fn status(&self) -> Result<Status> {
        let frozen = match &self.cgroup {
            Some(cgroup) => cgroup.is_frozen().unwrap_or(false),
            None => false,
        };
        Ok(status::status(self.init_seen()?, frozen))
    }

    fn init_seen(&self) -> Result<InitSeen> {
        let Some(facts) = self.record.init else {
            return Ok(InitSeen::Unborn);
        };
        let Some(init) = &self.init else {
            return Ok(InitSeen::Gone);
        };
        if init.has_ended() {
            return Ok(InitSeen::Gone);
        }
        match Stat::of(facts.pid) {
            Ok(stat) if stat.start_time == facts.start_time && !stat.has_ended() => {
                Ok(InitSeen::Alive {
                    has_executed: stat.has_executed(),
                    is_gated: self.record.is_gated(),
                })
            }
            Ok(_) | Err(Errno::ENOENT | Errno::ESRCH) => Ok(InitSeen::Gone),
            Err(errno) => Err(Error::os(errno, format!("read(/proc/{}/stat)", facts.pid))),
        }
    }

    /// Whether its pid namespace is its own: if not, the rest is killed when the init ends.
    #[must_use]
    pub fn has_private_pid_namespace(&self) -> bool {
        self.record.has_private_pid_namespace
    }

    /// Whether it is being created: whoever does that needs it alive.
    fn is_on_its_way(&self) -> Result<bool> {
        match self.record.init {
            None => Ok(true),
            Some(_) if self.record.is_gated() => Ok(false),
            Some(_) => Ok(self.status()? == Status::Creating),
        }
    }

    /// Sends a signal. `NotFound` when nobody is there to take it.
    pub fn kill(&self, signal: i32, scope: Scope) -> Result<()> {
        match scope {
            Scope::Init if self.is_on_its_way()? => {
                Err(self.wrong_status(Status::Creating, "created or running"))
            }
            Scope::Init => self.running_init()?.kill(signal),
            Scope::All => match &self.cgroup {
                Some(cgroup) if signal == libc::SIGKILL => cgroup.kill(KILL_PATIENCE),
                Some(cgroup) => cgroup.signal_all(signal),
                None => Err(finished()),
            },
        }
        .with(|| format!("kill container {}", self.id))
    }

    fn running_init(&self) -> Result<&ProcessHandle> {
        self.init
            .as_ref()
            .filter(|init| !init.has_ended())
            .ok_or_else(finished)
    }

    /// Freezes its cgroup and waits (bounded) until it is.
    pub fn pause(&self) -> Result<()> {
        match self.status()? {
            Status::Running => self.need_cgroup()?.freeze(FREEZE_PATIENCE),
            found => Err(self.wrong_status(found, "running")),
        }
        .with(|| format!("pause container {}", self.id))
    }

    /// Thaws its cgroup.
    pub fn resume(&self) -> Result<()> {
        match self.status()? {
            Status::Paused => self.need_cgroup()?.thaw(FREEZE_PATIENCE),
            found => Err(self.wrong_status(found, "paused")),
        }
        .with(|| format!("resume container {}", self.id))
    }

    /// Changes limits; only fields that are present.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        match self.status()? {
            Status::Created | Status::Running | Status::Paused => {
                let cgroup = self.need_cgroup()?;
                let changes = crate::cgroup::writes(resources, cgroup.controllers())?;
                // Device rules come with every update of Kubernetes, which sends all resources of its spec.
                let program = match resources.devices().as_deref() {
                    None | Some([]) => None,
                    Some(given) => {
                        let rules = [given, &default_device_rules()].concat();
                        Some(Program::compile(&rules)?)
                    }
                };
                cgroup.update(&changes)?;
                match program {
                    Some(program) => cgroup.set_devices(&program),
                    None => Ok(()),
                }
            }
            found => Err(self.wrong_status(found, "created, running or paused")),
        }
        .with(|| format!("update container {}", self.id))
    }

    /// Host pids of its cgroup and all below.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.need_cgroup()?
            .pids()
            .with(|| format!("processes of container {}", self.id))
    }

    /// Resource statistics of its cgroup.
    pub fn stats(&self) -> Result<Stats> {
        self.need_cgroup()?
            .stats()
            .with(|| format!("statistics of container {}", self.id))
    }

    /// The exit of its init, if it was recorded.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.entry.exit()
    }

    /// Records the exit of the init on disk, before anybody is told of it.
    pub fn record_exit(&self, exit: &Exit) -> Result<()> {
        self.entry
            .write_exit(exit)
            .with(|| format!("record the exit of container {}", self.id))
    }

    fn need_cgroup(&self) -> Result<&Cgroup> {
        self.cgroup
            .as_ref()
            .ok_or_else(|| Error::not_found("cgroup", "its cgroup is gone"))
    }

    fn wrong_status(&self, found: Status, allowed: &'static str) -> Error {
        let text = format!("container {} is {found}, it must be {allowed}", self.id);
        Error::new(
            ErrorKind::WrongStatus {
                found: found.to_string(),
                allowed,
            },
            text,
        )
    }
}

fn finished() -> Error {
    Error::not_found("process", "process already finished")
}

/// The cgroup of a record: `None` when it is gone or another directory has its name.
fn open_cgroup(path: &str, inode: u64) -> Result<Option<Cgroup>> {
    match Cgroup::open(&Mount::find()?, path, inode) {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}
