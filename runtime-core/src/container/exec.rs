//! Exec: one more process in a container's namespaces and cgroup.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Container, ExecRequest, Started, Status};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::launch::open::Given;
use crate::launch::{Attendant, Launched, Setting, launch};
use crate::plan::{self, ExecAsk, ProcessPlan};
use crate::process::{Cancel, ProcessHandle};
use crate::sys::procfs;

/// From clone to execve.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same of an exec that may have to wait for the container to be resumed.
const UNTIL_RESUMED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Container {
    /// Adds a process; returns when it has executed its program.
    pub fn exec(&self, request: &ExecRequest, cancel: &Cancel) -> Result<Started> {
        self.exec_planned(request, cancel)
            .with(|| format!("exec in container {}", self.id))
    }

    fn exec_planned(&self, request: &ExecRequest, cancel: &Cancel) -> Result<Started> {
        match self.status()? {
            Status::Created | Status::Running => {}
            Status::Paused if request.ignore_paused => {}
            found => return Err(self.wrong_status(found, "created or running")),
        }
        let init = self.running_init()?;
        self.exec_beside(init, request, cancel)
            .map_err(|e| self.unless_stopped(e, init))
    }

    fn exec_beside(
        &self,
        init: &ProcessHandle,
        request: &ExecRequest,
        cancel: &Cancel,
    ) -> Result<Started> {
        let ask = ExecAsk {
            terminal: request.terminal,
            preserve_fds: request.preserve_fds,
            home: home(request, init)?,
        };
        let planned = plan::exec(&request.process, &self.record.exec, &ask, &self.host)?;
        let own = self.need_cgroup()?;
        let launched = match &request.cgroup {
            Some(path) => self.launch(
                &planned,
                request,
                &own.open_sub(&path.to_string_lossy())?,
                init,
                cancel,
            ),
            None => match self.launch(&planned, request, own, init, cancel) {
                // Controllers are enabled below the container's cgroup: processes live in its leaves only.
                Err(e) if is_errno(&e, Errno::EBUSY) => {
                    self.launch(&planned, request, &own.sub_of(init)?, init, cancel)
                }
                other => other,
            },
        };
        let launched = launched?;
        Ok(Started {
            process: launched.process,
            console: launched.console,
            launching: launched.launching,
            warnings: planned.warnings,
        })
    }

    fn launch(
        &self,
        planned: &ProcessPlan,
        request: &ExecRequest,
        cgroup: &Cgroup,
        init: &ProcessHandle,
        cancel: &Cancel,
    ) -> Result<Launched> {
        let streams = &request.streams;
        let given = Given {
            streams: [&streams.stdin, &streams.stdout, &streams.stderr]
                .map(|fd| fd.as_ref().map(AsFd::as_fd)),
            init: Some(init),
            gate: None,
        };
        // Into a frozen cgroup it is born frozen.
        let patience = match request.ignore_paused {
            true => UNTIL_RESUMED,
            false => PATIENCE,
        };
        let deadline = Instant::now() + patience;
        let setting = Setting {
            children: &self.children,
            cancel,
            deadline,
            cgroup: Some(cgroup.dir()),
            ahead: None,
        };
        launch(
            &planned.plan,
            &planned.program,
            &given,
            setting,
            &mut Agent {
                container: self,
                cancel,
            },
        )
    }

    /// A launch into a container that is ending fails in many ways; they all mean that it is stopped.
    fn unless_stopped(&self, error: Error, init: &ProcessHandle) -> Error {
        let may_mean_it = matches!(
            error.kind(),
            ErrorKind::Exhausted
                | ErrorKind::NotFound { .. }
                | ErrorKind::Kernel { .. }
                | ErrorKind::Internal
        );
        if may_mean_it && init.is_ending() {
            return self
                .wrong_status(Status::Stopped, "created or running")
                .caused_by(error);
        }
        error
    }
}

/// Only looked up where the environment has none: the file is the container's to write.
fn home(request: &ExecRequest, init: &ProcessHandle) -> Result<Option<String>> {
    let env = request.process.env();
    if env.iter().flatten().any(|entry| entry.starts_with("HOME=")) {
        return Ok(None);
    }
    let path = format!("{}/root", init.pid());
    let root = procfs::open_link(&path).with(|| format!("open(/proc/{path})"))?;
    crate::passwd::home_below(root.as_fd(), request.process.user().uid())
}

fn is_errno(error: &Error, errno: Errno) -> bool {
    matches!(error.kind(), ErrorKind::Kernel { errno: found } if *found == errno as i32)
}

struct Agent<'a> {
    container: &'a Container,
    cancel: &'a Cancel,
}

impl Attendant for Agent<'_> {
    fn listener(&mut self, process: &ProcessHandle, listener: std::os::fd::OwnedFd) -> Result<()> {
        let record = &self.container.record;
        super::listener::hand_over(
            record.exec.seccomp.as_ref(),
            record,
            process,
            Status::Running,
            &listener,
            self.cancel,
        )
    }
}
