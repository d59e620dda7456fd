//! The one owner of a container: its core, init, execs, streams and waiters; the calls that are answered from what it knows.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use nix::sys::signal::Signal;
use oci_spec::runtime::LinuxResources;
use rsrun_core::cgroup::Stats;
use rsrun_core::container::Scope;
use rsrun_core::stage::Stages;
use rsrun_core::{Cancel, Container, ContainerId, Containers, ExecId, Exit};
use tokio::sync::{Notify, Semaphore, watch};

use super::delete::Deletion;
use super::exec::Exec;
use super::operation::{Noted, Operations, blocking};
use super::policy::{self, Init, Op};
use super::{CreateCall, Snapshot, State};
use crate::event::{Event, What};
use crate::failure::{Failure, Result};
use crate::io::{self, Stdio};
use crate::sandbox::Sandbox;
use crate::spec;

/// Starts of execs that one container may have under way; each has a thread.
const STARTS_AT_ONCE: usize = 32;

/// See the module.
pub struct Owner {
    pub(super) sandbox: Rc<Sandbox>,
    pub(super) id: ContainerId,
    pub(super) bundle: PathBuf,
    /// Streams of the init, as they were asked for.
    pub(super) streams: io::Request,
    /// Whether we mounted the root filesystem, and so have to unmount it.
    pub(super) mounted: bool,
    /// Gives up a Create or Start that hangs in a hook or a mount.
    pub(super) cancel: Cancel,
    pub(super) cancelled: Notify,
    pub(super) facts: RefCell<Facts>,
    pub(super) execs: RefCell<HashMap<ExecId, Rc<Exec>>>,
    /// Execs that run or are being started: the init's exit is told after theirs.
    pub(super) live_execs: Cell<usize>,
    pub(super) exec_gone: Notify,
    /// The init has ended.
    pub(super) ending: Notify,
    pub(super) starts: Semaphore,
    /// The init's exit, once it may be told.
    pub(super) exit: watch::Sender<Option<Exit>>,
    /// Whether creation has been decided: the container is there, or it will never be.
    pub(super) decided: watch::Sender<bool>,
    pub(super) operations: Operations,
}

/// What an owner knows of its container.
#[derive(Default)]
pub(super) struct Facts {
    pub state: Option<Init>,
    pub core: Option<Arc<Container>>,
    /// Where its record is; core and containers come together.
    pub containers: Option<Arc<Containers>>,
    pub pid: i32,
    pub stdio: Option<Rc<Stdio>>,
    /// The init's exit that came while its Start was under way.
    pub early_exit: Option<Exit>,
    /// The cgroup's counters as they were when the init ended.
    pub last_stats: Option<Stats>,
    pub oom_kills: u64,
    pub deletion: Option<Deletion>,
    pub core_deleted: bool,
}

impl Owner {
    /// The owner of a container that is about to be created.
    pub fn new(sandbox: Rc<Sandbox>, call: &CreateCall) -> Result<Rc<Self>> {
        let (io_uid, io_gid) = match (call.options.io_uid, call.options.io_gid) {
            (Some(uid), Some(gid)) => (uid, gid),
            // Only some clients compute them.
            (uid, gid) => {
                let root = spec::root_ids(&call.bundle).map_err(Failure::invalid)?;
                (uid.unwrap_or(root.0), gid.unwrap_or(root.1))
            }
        };
        Ok(Rc::new(Self {
            sandbox,
            id: call.id.clone(),
            bundle: call.bundle.clone(),
            streams: io::Request {
                io_uid,
                io_gid,
                ..call.streams.clone()
            },
            mounted: !call.rootfs.is_empty(),
            cancel: Cancel::new()?,
            cancelled: Notify::new(),
            facts: RefCell::default(),
            execs: RefCell::default(),
            live_execs: Cell::new(0),
            exec_gone: Notify::new(),
            ending: Notify::new(),
            starts: Semaphore::new(STARTS_AT_ONCE),
            exit: watch::Sender::new(None),
            decided: watch::Sender::new(false),
            operations: Operations::default(),
        }))
    }

    /// Its name.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Where its init is.
    pub fn state(&self) -> Init {
        self.facts.borrow().state.unwrap_or(Init::Creating)
    }

    pub(super) fn set_state(&self, state: Init) {
        self.facts.borrow_mut().state = Some(state);
    }

    /// Host pid of its init, 0 before there is one.
    pub fn pid(&self) -> i32 {
        self.facts.borrow().pid
    }

    pub(super) fn core(&self) -> Result<Arc<Container>> {
        let core = self.facts.borrow().core.clone();
        core.ok_or_else(|| {
            Failure::new(
                ttrpc::Code::FAILED_PRECONDITION,
                "container is being created",
            )
        })
    }

    pub(super) fn publish(&self, what: What) {
        self.sandbox.outbox.publish(Event {
            container: self.id.to_string(),
            what,
        });
    }

    pub(super) fn exec_of(&self, id: &ExecId) -> Result<Rc<Exec>> {
        let exec = self.execs.borrow().get(id).cloned();
        exec.ok_or_else(|| {
            Failure::not_found(format!("exec {id} of container {}: not found", self.id))
        })
    }

    /// Runs `act` on the container, on a thread of its own.
    pub(super) async fn on_core<T: Send + 'static>(
        &self,
        name: &'static str,
        act: impl FnOnce(&Container) -> rsrun_core::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.on_core_in(name, &Stages::default(), act).await
    }

    /// The same for what tells its stages.
    pub(super) async fn on_core_in<T: Send + 'static>(
        &self,
        name: &'static str,
        stages: &Stages,
        act: impl FnOnce(&Container) -> rsrun_core::Result<T> + Send + 'static,
    ) -> Result<T> {
        let core = self.core()?;
        let _noted = self.operations.begin_in(name, stages);
        Ok(blocking(name, move || act(&core)).await??)
    }

    /// The answer to State: never waits.
    pub fn snapshot(&self, exec: Option<&ExecId>) -> Result<Snapshot> {
        let init = self.state();
        match exec {
            None => Ok(Snapshot {
                process_id: self.id.to_string(),
                exec_id: String::new(),
                bundle: self.bundle.display().to_string(),
                pid: self.pid(),
                state: shown(init),
                streams: self.streams.clone(),
                exit: *self.exit.borrow(),
            }),
            Some(id) => {
                let exec = self.exec_of(id)?;
                Ok(exec.snapshot(shown(init), self.bundle.display().to_string()))
            }
        }
    }

    /// Where the exit of the init or of an exec will be told. It ends without an exit when the process is
    /// forgotten without ever having been.
    pub fn exit_of(&self, exec: Option<&ExecId>) -> Result<watch::Receiver<Option<Exit>>> {
        Ok(match exec {
            None => self.exit.subscribe(),
            Some(id) => self.exec_of(id)?.exit.subscribe(),
        })
    }

    /// Sends a signal to the init, everything in the container, or an exec.
    pub async fn kill(&self, exec: Option<&ExecId>, signal: i32, all: bool) -> Result<()> {
        if let Some(id) = exec {
            return self.exec_of(id)?.kill(self.state(), signal);
        }
        let state = self.state();
        policy::init(state, Op::Kill)?;
        if state == Init::Creating {
            if signal != 0 {
                self.give_up();
            }
            return Ok(());
        }
        let killed = if all {
            self.on_core("kill", move |core| core.kill(signal, Scope::All))
                .await
        } else {
            self.core()?
                .kill(signal, Scope::Init)
                .map_err(Failure::from)
        };
        // A start may hang in a hook; the init that it would release is dead.
        if state == Init::Starting && signal == Signal::SIGKILL as i32 {
            self.cancel.trigger();
        }
        killed
    }

    /// Makes a Create that is under way fail soon.
    pub(super) fn give_up(&self) {
        self.cancel.trigger();
        self.cancelled.notify_one();
    }

    /// Freezes it.
    pub async fn pause(&self) -> Result<()> {
        policy::init(self.state(), Op::Pause)?;
        self.set_state(Init::Pausing);
        let paused = self.on_core("pause", Container::pause).await;
        self.after_freezing(if paused.is_ok() {
            Init::Paused
        } else {
            Init::Running
        });
        paused?;
        if self.state() == Init::Paused {
            self.publish(What::Paused);
        }
        Ok(())
    }

    /// Thaws it.
    pub async fn resume(&self) -> Result<()> {
        policy::init(self.state(), Op::Resume)?;
        self.set_state(Init::Pausing);
        let resumed = self.on_core("resume", Container::resume).await;
        self.after_freezing(if resumed.is_ok() {
            Init::Running
        } else {
            Init::Paused
        });
        resumed?;
        if self.state() == Init::Running {
            self.publish(What::Resumed);
        }
        Ok(())
    }

    /// The init may have ended meanwhile; then there is nothing frozen any more.
    fn after_freezing(&self, state: Init) {
        if self.state() == Init::Pausing {
            self.set_state(state);
        }
    }

    /// Writes it to disk, which is not supported.
    pub fn checkpoint(&self) -> Result<()> {
        policy::init(self.state(), Op::Checkpoint)?;
        Err(Failure::new(
            ttrpc::Code::UNIMPLEMENTED,
            "checkpoint is not supported",
        ))
    }

    /// Changes its limits.
    pub async fn update(&self, resources: LinuxResources) -> Result<()> {
        policy::init(self.state(), Op::Update)?;
        self.on_core("update", move |core| core.update(&resources))
            .await
    }

    /// Host pids of its processes, each with the exec that it is. Until it is deleted that is at least the pid
    /// of its init, as State has it: a containerd that comes back takes a shim with no pids, and 1.7 to 2.2 one
    /// that refuses, for a leaked one and deletes it together with the exit that nobody has asked for yet.
    pub async fn pids(&self) -> Result<Vec<(i32, Option<String>)>> {
        let state = self.state();
        policy::init(state, Op::Pids)?;
        let mut pids = match state {
            Init::Ending | Init::Stopped => Vec::new(),
            _ => self.on_core("pids", Container::pids).await?,
        };
        // Dead and not reaped yet, it is in no cgroup any more.
        if pids.is_empty() {
            pids.push(self.pid());
        }
        let execs = self.execs.borrow();
        let named: HashMap<i32, String> = execs
            .values()
            .map(|exec| (exec.pid(), exec.id.to_string()))
            .collect();
        Ok(pids
            .into_iter()
            .map(|pid| (pid, named.get(&pid).cloned()))
            .collect())
    }

    /// Counters of its cgroup; after its end, those of the moment when it ended.
    pub async fn stats(&self) -> Result<Stats> {
        if let Some(last) = self.facts.borrow().last_stats.clone() {
            return Ok(last);
        }
        self.on_core("stats", Container::stats).await
    }

    /// Closes the client's side of stdin.
    pub fn close_stdin(&self, exec: Option<&ExecId>) -> Result<()> {
        let stdio = match exec {
            None => self.facts.borrow().stdio.clone(),
            Some(id) => self.exec_of(id)?.close_stdin(),
        };
        if let Some(stdio) = stdio {
            stdio.close_stdin();
        }
        Ok(())
    }

    /// Sets the size of a terminal.
    pub fn resize(&self, exec: Option<&ExecId>, width: u32, height: u32) -> Result<()> {
        let cells = |n: u32, what| {
            u16::try_from(n).map_err(|_| Failure::invalid(format!("{what} of {n} is too large")))
        };
        let (width, height) = (cells(width, "width")?, cells(height, "height")?);
        match exec {
            None => {
                policy::init(self.state(), Op::Resize)?;
                match self.facts.borrow().stdio.as_ref() {
                    Some(stdio) => Ok(stdio.resize(width, height)?),
                    None => Ok(()),
                }
            }
            Some(id) => self.exec_of(id)?.resize(self.state(), width, height),
        }
    }

    /// What is waited for on its behalf.
    pub fn waiting(&self) -> Vec<Noted> {
        self.operations.noted()
    }

    /// Lines for a state dump: what it is, what it waits for by itself, how its streams are.
    pub fn describe(&self) -> Vec<String> {
        let facts = self.facts.borrow();
        let mut lines = vec![format!(
            "container {} {:?} pid {} live execs {}",
            self.id,
            facts.state.unwrap_or(Init::Creating),
            facts.pid,
            self.live_execs.get()
        )];
        lines.extend(
            self.waiting()
                .iter()
                .filter(|noted| noted.request.is_none())
                .map(|noted| format!("  waits for {noted}")),
        );
        for text in facts.stdio.iter().map(|stdio| stdio.describe()) {
            lines.extend(text.lines().map(|line| format!("  {line}")));
        }
        let execs = self.execs.borrow();
        lines.extend(execs.values().flat_map(|exec| exec.describe()));
        lines
    }
}

fn shown(state: Init) -> State {
    match state {
        Init::Creating | Init::Created => State::Created,
        Init::Starting | Init::Running | Init::Ending => State::Running,
        Init::Pausing => State::Pausing,
        Init::Paused => State::Paused,
        Init::Stopped => State::Stopped,
    }
}
