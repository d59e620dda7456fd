//! One exec of a container: its life from the id being taken to being forgotten.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use oci_spec::runtime::Process;
use rsrun_core::process::Launching;
use rsrun_core::{ExecId, ExecRequest, Exit, ProcessHandle};
use tokio::sync::watch;
use tokio::time::sleep;

use super::policy::{self, ExecOp, Init, Op};
use super::{ExecCall, Owner, Snapshot, State};
use crate::convert;
use crate::event::What;
use crate::failure::{Failure, Result};
use crate::io::{self, DrainLimits, Stdio};
use crate::sandbox::Tracked;

/// How long after an exec was killed in its launch the end of its init may be heard of.
const END_IS_HEARD: Duration = Duration::from_millis(200);

/// An exec.
pub struct Exec {
    /// Its id.
    pub id: ExecId,
    streams: io::Request,
    facts: RefCell<Facts>,
    /// Its exit, once it may be told.
    pub(super) exit: watch::Sender<Option<Exit>>,
}

struct Facts {
    state: policy::Exec,
    /// Taken by Start.
    process: Option<Process>,
    handle: Option<ProcessHandle>,
    pid: i32,
    stdio: Option<Rc<Stdio>>,
    /// What was asked of its streams before there were any.
    size: Option<(u16, u16)>,
    stdin_closed: bool,
}

impl Owner {
    /// Takes an exec id; nothing is started or opened yet.
    pub fn add_exec(&self, call: ExecCall) -> Result<()> {
        policy::init(self.state(), Op::Exec)?;
        if self.execs.borrow().contains_key(&call.id) {
            return Err(Failure::new(
                ttrpc::Code::ALREADY_EXISTS,
                format!("exec {}: id is taken", call.id),
            ));
        }
        let id = call.id.clone();
        let exec = Exec {
            streams: io::Request {
                stdin: call.stdin,
                stdout: call.stdout,
                stderr: call.stderr,
                terminal: call.terminal,
                process_id: call.id.to_string(),
                ..self.streams.clone()
            },
            id: call.id,
            facts: RefCell::new(Facts {
                state: policy::Exec::Added,
                process: Some(call.process),
                handle: None,
                pid: 0,
                stdio: None,
                size: None,
                stdin_closed: false,
            }),
            exit: watch::Sender::new(None),
        };
        self.execs.borrow_mut().insert(id.clone(), Rc::new(exec));
        self.publish(What::ExecAdded {
            exec: id.to_string(),
        });
        Ok(())
    }

    /// Starts an exec; returns its host pid.
    pub async fn start_exec(self: &Rc<Self>, id: &ExecId) -> Result<i32> {
        let exec = self.exec_of(id)?;
        policy::exec(self.state(), exec.state(), ExecOp::Start)?;
        exec.set_state(policy::Exec::Starting);
        let started = self.try_start_exec(&exec).await;
        match started {
            Ok((pid, launching)) => {
                self.publish(What::ExecStarted {
                    exec: id.to_string(),
                    pid,
                });
                // Only now: an exec that is dead already is told after its start.
                self.sandbox.track(
                    pid,
                    Tracked {
                        owner: Rc::clone(self),
                        exec: Some(exec),
                    },
                    launching,
                );
                Ok(pid)
            }
            Err(failure) => {
                let failure = self.as_of_a_stopped(failure).await;
                exec.failed();
                Err(failure.during("OCI runtime exec failed"))
            }
        }
    }

    /// What fails in a container whose init has ended fails for that: "killed" or "not found" would say that the
    /// exec ran out of memory, or is unknown.
    async fn as_of_a_stopped(&self, failure: Failure) -> Failure {
        // An init that ends takes its pid namespace along first and can be reaped only then.
        let is_sign = matches!(
            failure.code,
            ttrpc::Code::RESOURCE_EXHAUSTED | ttrpc::Code::NOT_FOUND
        );
        let until = Instant::now()
            + if is_sign {
                END_IS_HEARD
            } else {
                Duration::ZERO
            };
        while !self.has_ended() {
            if Instant::now() >= until {
                return failure;
            }
            sleep(Duration::from_millis(5)).await;
        }
        Failure::new(
            ttrpc::Code::FAILED_PRECONDITION,
            format!("init process is not running: {}", failure.text),
        )
    }

    async fn try_start_exec(&self, exec: &Exec) -> Result<(i32, Launching)> {
        let cancel = self.cancel.for_another();
        let stages = cancel.stages().clone();
        let _noted = self
            .operations
            .begin_in(format!("start of exec {}", exec.id), &stages);
        let process = exec.facts.borrow_mut().process.take();
        let process =
            process.ok_or_else(|| Failure::new(ttrpc::Code::INTERNAL, "exec has no process"))?;
        let (stdio, streams) = {
            let _stage = stages.enter("the other ends of its streams");
            // Whoever does not open them holds up neither other execs nor the end of the container.
            tokio::select! {
                prepared = Stdio::prepare(&exec.streams, &self.sandbox.launch) => prepared?,
                () = self.init_ends() => return Err(too_late()),
            }
        };
        let _permit = {
            let _stage = stages.enter("the starts of other execs");
            self.starts.acquire().await
        };
        if self.has_ended() {
            stdio.force_close().await;
            return Err(too_late());
        }
        // From here on there may be a process, whose exit comes before that of the init.
        let live = self.live();
        let request = ExecRequest {
            process,
            terminal: Some(exec.streams.terminal),
            streams,
            preserve_fds: 0,
            cgroup: None,
            ignore_paused: false,
        };
        let started = match self
            .on_core("exec", move |core| core.exec(&request, &cancel))
            .await
        {
            Ok(started) => started,
            Err(failure) => {
                stdio.force_close().await;
                return Err(failure);
            }
        };
        let pid = started.process.pid();
        if let Err(error) = exec.running(stdio, started.console, started.process) {
            exec.give_up().await;
            return Err(Failure::from(error).during("streams"));
        }
        let _ = super::create::write_atomic(
            &self.bundle.join(format!("{}.pid", exec.id)),
            pid.to_string().as_bytes(),
            0o644,
        );
        live.leave_to_its_exit();
        Ok((pid, started.launching))
    }

    fn live(&self) -> Live<'_> {
        self.live_execs.set(self.live_execs.get() + 1);
        Live(self)
    }

    async fn init_ends(&self) {
        while !self.has_ended() {
            self.ending.notified().await;
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self.state(), Init::Ending | Init::Stopped)
    }

    /// An exec was reaped.
    pub fn exec_exited(&self, exec: &Exec, exit: Exit) {
        exec.set_state(policy::Exec::Stopped);
        self.publish(What::Exited(convert::ended(exec.id.as_str(), &exit)));
        exec.exit.send_replace(Some(exit));
        if let Some(stdio) = exec.stdio() {
            stdio.exited();
        }
        self.exec_is_gone();
    }

    fn exec_is_gone(&self) {
        self.live_execs.set(self.live_execs.get().saturating_sub(1));
        self.exec_gone.notify_waiters();
    }

    /// Forgets an exec; its pid and its exit (none if it never ran).
    pub async fn delete_exec(&self, id: &ExecId) -> Result<(i32, Option<Exit>)> {
        let exec = self.exec_of(id)?;
        policy::exec(self.state(), exec.state(), ExecOp::Delete)?;
        if let Some(stdio) = exec.stdio() {
            let _noted = self.operations.begin(format!("drain of exec {id}"));
            if let io::Drained::Unfinished(streams) = stdio.drain(DrainLimits::default()).await {
                log::warn!(
                    "exec {id} of container {}: output cut off: {}",
                    self.id,
                    streams.join(", ")
                );
            }
        }
        exec.close().await;
        let _ = std::fs::remove_file(self.bundle.join(format!("{id}.pid")));
        self.execs.borrow_mut().remove(id);
        self.sandbox
            .outbox
            .forget_exec(self.id.as_str(), id.as_str());
        let exit = *exec.exit.borrow();
        Ok((
            exec.pid(),
            exit.filter(|_| exec.state() == policy::Exec::Stopped),
        ))
    }
}

fn too_late() -> Failure {
    Failure::new(
        ttrpc::Code::FAILED_PRECONDITION,
        "the init ended before the exec was started",
    )
}

/// An exec that may have a process; counted until it is dropped, or its exit is told.
struct Live<'a>(&'a Owner);

impl Live<'_> {
    fn leave_to_its_exit(self) {
        std::mem::forget(self);
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.exec_is_gone();
    }
}

impl Exec {
    /// Where it is.
    pub fn state(&self) -> policy::Exec {
        self.facts.borrow().state
    }

    /// Host pid, 0 before there is one.
    pub fn pid(&self) -> i32 {
        self.facts.borrow().pid
    }

    fn set_state(&self, state: policy::Exec) {
        self.facts.borrow_mut().state = state;
    }

    fn stdio(&self) -> Option<Rc<Stdio>> {
        self.facts.borrow().stdio.clone()
    }

    fn running(
        &self,
        stdio: Stdio,
        console: Option<std::os::fd::OwnedFd>,
        handle: ProcessHandle,
    ) -> rsrun_core::Result<()> {
        let stdio = Rc::new(stdio);
        let (size, stdin_closed) = {
            let mut facts = self.facts.borrow_mut();
            facts.state = policy::Exec::Running;
            facts.pid = handle.pid();
            facts.handle = Some(handle);
            facts.stdio = Some(Rc::clone(&stdio));
            (facts.size.take(), facts.stdin_closed)
        };
        if let Some(console) = console {
            stdio.attach_console(console)?;
        }
        if let Some((width, height)) = size {
            stdio.resize(width, height)?;
        }
        stdio.start_copy()?;
        if stdin_closed {
            stdio.close_stdin();
        }
        Ok(())
    }

    /// It runs and its output would be lost: it is ended instead, reaped as a stranger and never told of.
    async fn give_up(&self) {
        let handle = {
            let mut facts = self.facts.borrow_mut();
            facts.pid = 0;
            facts.handle.take()
        };
        // One that has ended already is as good.
        let _ = handle.map(|handle| handle.kill(nix::libc::SIGKILL));
        self.close().await;
    }

    /// It could not be started: it stays, as created, until it is deleted; who waits for it need not wait longer.
    fn failed(&self) {
        self.set_state(policy::Exec::Failed);
        self.exit.send_replace(Some(Exit {
            pid: 0,
            code: 255,
            signal: None,
            executed: false,
            at: SystemTime::now(),
        }));
    }

    /// Sends it a signal.
    pub fn kill(&self, of: Init, signal: i32) -> Result<()> {
        policy::exec(of, self.state(), ExecOp::Kill)?;
        match &self.facts.borrow().handle {
            Some(handle) => Ok(handle.kill(signal)?),
            None => Err(Failure::not_found("process already finished")),
        }
    }

    /// Remembers a size until there is a terminal.
    pub fn resize(&self, of: Init, width: u16, height: u16) -> Result<()> {
        policy::exec(of, self.state(), ExecOp::Resize)?;
        if let Some(stdio) = self.stdio() {
            return Ok(stdio.resize(width, height)?);
        }
        self.facts.borrow_mut().size = Some((width, height));
        Ok(())
    }

    /// Its streams, if there are any; otherwise remembers that stdin is to be closed.
    pub(super) fn close_stdin(&self) -> Option<Rc<Stdio>> {
        let mut facts = self.facts.borrow_mut();
        facts.stdin_closed = true;
        facts.stdio.clone()
    }

    /// Closes all its streams at once.
    pub(super) async fn close(&self) {
        let stdio = self.facts.borrow_mut().stdio.take();
        if let Some(stdio) = stdio {
            stdio.force_close().await;
        }
    }

    pub(super) fn snapshot(&self, container: State, bundle: String) -> Snapshot {
        let state = match self.state() {
            policy::Exec::Added | policy::Exec::Starting | policy::Exec::Failed => State::Created,
            policy::Exec::Running if matches!(container, State::Paused | State::Pausing) => {
                container
            }
            policy::Exec::Running => State::Running,
            policy::Exec::Stopped => State::Stopped,
        };
        Snapshot {
            process_id: self.id.to_string(),
            exec_id: self.id.to_string(),
            bundle,
            pid: self.pid(),
            state,
            streams: self.streams.clone(),
            exit: self.exit.borrow().filter(|_| state == State::Stopped),
        }
    }

    pub(super) fn describe(&self) -> Vec<String> {
        let facts = self.facts.borrow();
        let mut lines = vec![format!(
            "  exec {} {:?} pid {}",
            self.id, facts.state, facts.pid
        )];
        if let Some(stdio) = &facts.stdio {
            lines.extend(stdio.describe().lines().map(|line| format!("    {line}")));
        }
        lines
    }
}
