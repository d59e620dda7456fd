//! Create and Start of a container: what is made in which order, and undone when it fails.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rsrun_core::container::Created;
use rsrun_core::plan::{IdMaps, IdRange};
use rsrun_core::process::Launching;
use rsrun_core::{Cancel, Containers, CreateRequest, Streams};

use super::operation::blocking;
use super::policy::{self, Init, Op};
use super::{CreateCall, Owner};
use crate::event::What;
use crate::failure::{Failure, Result};
use crate::io::Stdio;
use crate::mounts;
use crate::sandbox::Tracked;

/// File in the bundle that tells `delete` where the record is, whatever the options said.
pub const STATE_ROOT_FILE: &str = "rsrun-state-root";

impl Owner {
    /// Creates the container; returns the host pid of its init, which waits at the gate.
    pub async fn create(self: &Rc<Self>, call: CreateCall) -> Result<i32> {
        let created = self.try_create(call).await;
        if created.is_ok() {
            self.set_state(Init::Created);
        }
        self.decided.send_replace(true);
        let (pid, launching) = created?;
        // Only now: an init that is dead already ends a container that is there.
        self.sandbox.track(
            pid,
            Tracked {
                owner: Rc::clone(self),
                exec: None,
            },
            launching,
        );
        self.watch_memory();
        Ok(pid)
    }

    async fn try_create(self: &Rc<Self>, call: CreateCall) -> Result<(i32, Launching)> {
        let cancel = self.cancel.for_another();
        let _noted = self.operations.begin_in("create", cancel.stages());
        // Before anything is written: the request names a directory, and it may be any of the host's.
        if !self.bundle.join("config.json").is_file() {
            let text = format!("bundle {} has no config.json", self.bundle.display());
            return Err(Failure::not_found(text));
        }
        let root = call.options.state_root(&self.sandbox.ctr_ns);
        write_atomic(
            &self.bundle.join(STATE_ROOT_FILE),
            root.as_os_str().as_encoded_bytes(),
            0o600,
        )?;
        let containers = self.sandbox.containers(&root)?;
        let (stdio, streams) = tokio::select! {
            prepared = self.prepared(&cancel) => prepared?,
            () = self.cancelled.notified() => return Err(Failure::new(ttrpc::Code::CANCELLED, "create was given up")),
        };
        let target = self.bundle.join("rootfs");
        let request = CreateRequest {
            id: call.id,
            bundle: call.bundle,
            streams,
            terminal: Some(call.streams.terminal),
            no_pivot: call.options.no_pivot,
            no_new_keyring: call.options.no_new_keyring,
            preserve_fds: 0,
            extra_env: Vec::new(),
            systemd_cgroup: call.options.systemd_cgroup,
            group: Some(self.sandbox.group.clone()),
            rootfs_mounts: if self.mounted {
                vec![target.clone()]
            } else {
                Vec::new()
            },
            loaded: None,
            ahead: self.sandbox.take_ahead(),
            starts_at_once: false,
        };
        let rootfs = call.rootfs.clone();
        let core = Arc::clone(&containers);
        let made = blocking("create", move || {
            make(&core, request, &rootfs, &target, &cancel)
        })
        .await?;
        let created = match made {
            Ok(created) => created,
            Err(failure) => {
                stdio.force_close().await;
                return Err(failure);
            }
        };
        let pid = created.container.pid();
        {
            let mut facts = self.facts.borrow_mut();
            facts.core = Some(Arc::new(created.container));
            facts.containers = Some(containers);
        }
        if let Err(failure) = self.finish_create(&stdio, created.console, pid) {
            self.undo_create().await;
            return Err(failure);
        }
        {
            let mut facts = self.facts.borrow_mut();
            facts.pid = pid;
            facts.stdio = Some(Rc::new(stdio));
        }
        self.publish(What::Created {
            bundle: self.bundle.display().to_string(),
            rootfs: call.rootfs,
            stdin: call.streams.stdin,
            stdout: call.streams.stdout,
            stderr: call.streams.stderr,
            terminal: call.streams.terminal,
            pid,
        });
        Ok((pid, created.launching))
    }

    async fn prepared(&self, cancel: &Cancel) -> Result<(Stdio, Streams)> {
        let _stage = cancel.stages().enter("the other ends of its streams");
        Ok(Stdio::prepare(&self.streams, &self.sandbox.launch).await?)
    }

    fn finish_create(&self, stdio: &Stdio, console: Option<OwnedFd>, pid: i32) -> Result<()> {
        if let Some(console) = console {
            stdio.attach_console(console)?;
        }
        stdio.start_copy()?;
        write_atomic(
            &self.bundle.join("init.pid"),
            pid.to_string().as_bytes(),
            0o644,
        )
    }

    async fn undo_create(&self) {
        let deleted = self.delete_core().await;
        let unmounted = self.unmount_rootfs().await;
        for failure in [deleted, unmounted]
            .into_iter()
            .filter_map(std::result::Result::err)
        {
            log::error!("container {}: undoing a failed create: {failure}", self.id);
        }
    }

    pub(super) async fn unmount_rootfs(&self) -> Result<()> {
        if !self.mounted {
            return Ok(());
        }
        let target = self.bundle.join("rootfs");
        let _noted = self.operations.begin("unmount");
        blocking("unmount", move || mounts::unmount_own(&target))
            .await?
            .map_err(Failure::from)
    }

    /// Lets the init execute its program; returns its host pid.
    pub async fn start(self: &Rc<Self>) -> Result<i32> {
        policy::init(self.state(), Op::Start)?;
        self.set_state(Init::Starting);
        let cancel = self.cancel.for_another();
        let stages = cancel.stages().clone();
        let started = self
            .on_core_in("start", &stages, move |core| core.start(&cancel))
            .await;
        // The exit that came meanwhile is told after the start that it followed.
        let early_exit = self.facts.borrow_mut().early_exit.take();
        match &started {
            Ok(()) => {
                self.set_state(Init::Running);
                self.publish(What::Started { pid: self.pid() });
            }
            // Its init has been killed, or could not execute its program: the exit is on its way.
            Err(_) => self.set_state(Init::Created),
        }
        if let Some(exit) = early_exit {
            self.init_exited(exit);
        }
        started.map_err(|failure| failure.during("OCI runtime start failed"))?;
        Ok(self.pid())
    }
}

/// Mounts the root filesystem and creates the container; undoes the mounts when that fails.
fn make(
    containers: &Containers,
    request: CreateRequest,
    rootfs: &[mounts::Mount],
    target: &Path,
    cancel: &Cancel,
) -> Result<Created> {
    if !rootfs.is_empty() {
        let _stage = cancel.stages().enter("the mounts of its root filesystem");
        mounts::mount_all(rootfs, target, &|map| {
            user_namespace(containers, map, cancel)
        })
        .map_err(|e| Failure::from(e).during("mount rootfs"))?;
    }
    containers.create(request, cancel).map_err(|e| {
        if !rootfs.is_empty()
            && let Err(left) = mounts::unmount_all(target)
        {
            log::error!("undoing a failed create: {left}");
        }
        Failure::from(e).during("OCI runtime create failed")
    })
}

/// A user namespace whose owners the files of a mount get.
pub fn user_namespace(
    containers: &Containers,
    map: &mounts::IdMap,
    cancel: &Cancel,
) -> rsrun_core::Result<OwnedFd> {
    let ranges = |lines: &[[u32; 3]]| {
        let range = |[container, host, size]: &[u32; 3]| IdRange {
            inside: *container,
            outside: *host,
            count: *size,
        };
        lines.iter().map(range).collect()
    };
    containers.user_namespace(
        &IdMaps {
            uid: ranges(&map.uids),
            gid: ranges(&map.gids),
        },
        cancel,
    )
}

/// Writes a file that is there as a whole or not at all.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}"));
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        std::io::Write::write_all(&mut file, content)?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Failure::unknown(format!("write {}: {e}", path.display()))
    })
}

/// Removes what [`write_atomic`] leaves in `bundle` when it is killed half-way.
pub fn remove_half_written(bundle: &Path) {
    for entry in fs::read_dir(bundle).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let of_ours = |name: &str| {
            let notes = ["address", STATE_ROOT_FILE, crate::mode::delete::EXIT_FILE];
            notes.contains(&name) || name.ends_with(".pid")
        };
        if name
            .to_str()
            .and_then(|name| name.strip_prefix('.'))
            .is_some_and(of_ours)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
