//! Hooks: launched like any process, with the container's state on stdin and nothing else inherited.

use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollFlags;
use oci_spec::runtime::Hook;

use super::Status;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::Host;
use crate::launch::open::Given;
use crate::launch::{Setting, drive};
use crate::plan::{self, HookPlace, Inside};
use crate::process::{Cancel, Children, ProcessHandle};
use crate::store::Entry;
use crate::store::record::Record;

/// A hook without a time-out of its own still ends.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
/// How often a hook that takes long is asked whether its container is there still.
const PERIOD: Duration = Duration::from_millis(500);
/// What of a hook's output is kept for the error; the rest is read and dropped.
const KEPT_OUTPUT: usize = 4096;

/// Where and for whom hooks run.
#[derive(Clone, Copy, Debug)]
pub struct Runner<'a> {
    /// Finds their exits.
    pub children: &'a Arc<Children>,
    /// Gives them up.
    pub cancel: &'a Cancel,
    /// Where the container's state is: without it, nobody waits for a hook.
    pub entry: &'a Entry,
    /// The container's facts.
    pub record: &'a Record,
    /// The container's init, for hooks that run in its namespaces.
    pub init: Option<&'a ProcessHandle>,
    /// Its cgroup, likewise.
    pub cgroup: Option<&'a Cgroup>,
    /// The machine.
    pub host: &'a Host,
}

impl Runner<'_> {
    /// On the host.
    pub fn on_host(&self) -> HookPlace {
        HookPlace::Host {
            bundle: self.record.bundle.clone(),
        }
    }

    /// In the container's namespaces, with the host's files.
    pub fn before_pivot(&self) -> HookPlace {
        HookPlace::BeforePivot {
            bundle: self.record.bundle.clone(),
            namespaces: self.record.exec.namespaces,
        }
    }

    /// In the container, as its process.
    pub fn inside(&self) -> Result<HookPlace> {
        let process =
            crate::bundle::parse_process(self.record.process.to_string().as_bytes())?.document;
        let (facts, host) = (self.record.exec.clone(), self.host.clone());
        Ok(HookPlace::Container(Box::new(Inside {
            process,
            facts,
            host,
        })))
    }

    /// Runs hooks of one kind in order; the first that fails ends it. `kind` and the index name the
    /// place in config.json.
    pub fn run_all(
        &self,
        kind: &str,
        hooks: &[Hook],
        place: &HookPlace,
        status: Status,
    ) -> Result<()> {
        for (index, hook) in hooks.iter().enumerate() {
            let what = format!("hook {kind} #{index} ({})", hook.path().display());
            let _stage = self.cancel.stages().enter(what);
            self.run(hook, place, status)
                .with(|| format!("error running {kind} hook #{index}"))?;
        }
        Ok(())
    }

    fn run(&self, hook: &Hook, place: &HookPlace, status: Status) -> Result<()> {
        let planned = plan::hook(hook, place, self.host)?;
        let state = state_file(self.record, self.init, status)?;
        let (reader, writer) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).with(|| "pipe2()")?;
        // Only our end must not block.
        nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty()))
            .with(|| "fcntl(F_SETFL)")?;
        let limit = hook
            .timeout()
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs);
        let deadline = Instant::now() + limit.unwrap_or(PATIENCE);
        let cgroup = match place {
            HookPlace::Host { .. } => None,
            // What runs in the container counts as the container's.
            HookPlace::BeforePivot { .. } | HookPlace::Container { .. } => {
                self.cgroup.map(Cgroup::dir)
            }
        };
        let setting = Setting {
            children: self.children,
            cancel: self.cancel,
            deadline,
            cgroup,
            ahead: None,
        };
        let given = Given {
            streams: [
                Some(state.as_fd()),
                Some(writer.as_fd()),
                Some(writer.as_fd()),
            ],
            init: self.init,
            gate: None,
        };
        let timed_out = |e: Error| match e.kind() {
            ErrorKind::Timeout => Error::new(
                ErrorKind::Timeout,
                format!(
                    "hook ran past specified timeout of {:?}",
                    limit.unwrap_or(PATIENCE)
                ),
            ),
            _ => e,
        };
        let launched = drive::launch(
            &planned.plan,
            &planned.program,
            &given,
            setting,
            &mut drive::Nobody,
        )
        .map_err(timed_out)?;
        drop(writer);
        let ended = self.watch(&launched.process, &reader, deadline, status);
        if ended.is_err() {
            // NotFound: it has ended by itself meanwhile.
            let _ = launched.process.kill(libc::SIGKILL);
            let _ = launched.process.wait_ended(
                Some(Instant::now() + Duration::from_secs(5)),
                &Cancel::new()?,
            );
        }
        let exit = self.children.collect(launched.process.pid());
        let output = ended.map_err(timed_out)?;
        match exit {
            Some(exit) if exit.code == 0 => Ok(()),
            Some(exit) => {
                let how = match exit.signal {
                    Some(signal) => format!("signal: {signal}"),
                    None => format!("exit status {}", exit.code),
                };
                let text = format!("{}: {how}, output: {output:?}", hook.path().display());
                Err(Error::new(
                    ErrorKind::Init {
                        step: "run hook".into(),
                        errno: 0,
                    },
                    text,
                ))
            }
            None => Err(Error::new(
                ErrorKind::Internal,
                "the exit of a hook was lost",
            )),
        }
    }

    /// Reads the output until the hook ends. Its own descendants may hold the pipe longer. Before the program
    /// runs, the hook's work is for nothing when the init has ended.
    fn watch(
        &self,
        hook: &ProcessHandle,
        output: &OwnedFd,
        deadline: Instant,
        status: Status,
    ) -> Result<String> {
        let init = self
            .init
            .filter(|_| matches!(status, Status::Creating | Status::Created));
        let mut kept = Vec::new();
        let mut open = true;
        loop {
            let mut fds = vec![(hook.as_fd(), PollFlags::POLLIN)];
            // A pipe that has ended would be ready for ever.
            fds.push(match open {
                true => (output.as_fd(), PollFlags::POLLIN),
                false => (hook.as_fd(), PollFlags::POLLIN),
            });
            fds.extend(init.map(|init| (init.as_fd(), PollFlags::POLLIN)));
            let look = Instant::now() + PERIOD;
            let ready = match self.cancel.wait(&fds, Some(deadline.min(look))) {
                Err(e) if *e.kind() == ErrorKind::Timeout && look < deadline => {
                    match self.entry.is_gone()? {
                        true => return Err(overtaken("the container was deleted")),
                        false => continue,
                    }
                }
                ready => ready?,
            };
            let is_ready = |index: usize| ready.get(index).is_some_and(|flags| !flags.is_empty());
            if open && is_ready(1) {
                open = keep_some(output, &mut kept);
            }
            if is_ready(0) {
                keep_some(output, &mut kept);
                return Ok(String::from_utf8_lossy(&kept).trim().to_owned());
            }
            if is_ready(2) {
                return Err(overtaken("the container's init ended"));
            }
        }
    }
}

fn overtaken(by: &str) -> Error {
    let step = "run hook".into();
    Error::new(
        ErrorKind::Init { step, errno: 0 },
        format!("{by} while the hook ran"),
    )
}

/// Reads what is there, keeps the beginning; false at its end.
fn keep_some(output: &OwnedFd, kept: &mut Vec<u8>) -> bool {
    let mut buffer = [0u8; 4096];
    // Bounded: a hook that writes for ever is watched for its deadline in between.
    for _ in 0..64 {
        match nix::unistd::read(output, &mut buffer) {
            Ok(0) => return false,
            Ok(length) => {
                let room = KEPT_OUTPUT.saturating_sub(kept.len()).min(length);
                kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
            }
            Err(Errno::EAGAIN) => return true,
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// The state as OCI defines it, in a file of memory: a hook that does not read it blocks nobody.
fn state_file(record: &Record, init: Option<&ProcessHandle>, status: Status) -> Result<OwnedFd> {
    let mut state = serde_json::json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "status": status.to_string(),
        "bundle": record.bundle,
        "annotations": record.annotations,
    });
    if let (Some(init), Some(fields)) = (init, state.as_object_mut()) {
        fields.insert("pid".into(), init.pid().into());
    }
    let memory = crate::sys::fds::memfd(c"state.json").with(|| "memfd_create()")?;
    let mut file = std::fs::File::from(memory);
    let written = file
        .write_all(state.to_string().as_bytes())
        .and_then(|()| file.rewind());
    written.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            format!("write the state for a hook: {e}"),
        )
    })?;
    Ok(file.into())
}
