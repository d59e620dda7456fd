//! Create: from a bundle to an init that stands at the gate, and back to nothing when it fails.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use oci_spec::runtime::Spec;
use rsrun_init::step::Step;

use super::hooks::Runner;
use super::{Container, Containers, CreateRequest, Created, KILL_PATIENCE, Status};
use super::{hooks, lookups};
use crate::bundle::Bundle;
use crate::cgroup::devices::{Filter, Program};
use crate::cgroup::{self, Cgroup};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::Host;
use crate::launch::open::Given;
use crate::launch::{Ahead, Attendant, Launched, Setting, launch};
use crate::plan::{self, ContainerPlan, CreateFacts, IdMaps, IdRange};
use crate::process::{Cancel, Children, ProcessHandle};
use crate::seccomp::Cache;
use crate::store::Entry;
use crate::store::record::{CgroupFacts, FORMAT, InitFacts, Record};
use crate::sys::procfs::{self, Stat};

/// A create that takes longer is given up, unless hooks say that they need more.
const PATIENCE: Duration = Duration::from_secs(120);

impl Containers {
    /// Creates a container: its init stands before execve, behind the gate. Blocks the calling
    /// thread (hooks may take seconds); on failure nothing is left behind.
    pub fn create(&self, request: CreateRequest, cancel: &Cancel) -> Result<Created> {
        let id = request.id.clone();
        self.create_named(request, cancel)
            .with(|| format!("create container {id}"))
    }

    fn create_named(&self, mut request: CreateRequest, cancel: &Cancel) -> Result<Created> {
        let loaded = match request.loaded.take() {
            Some(loaded) => loaded,
            None => Bundle::open(&request.bundle)?.load()?,
        };
        let mut spec = loaded.document;
        let ahead = request.ahead.take().unwrap_or_else(|| Ahead::of(&spec));
        let host = self.host()?;
        add_environment(&mut spec, &request.extra_env);
        self.fill_in_maps(&mut spec, cancel)?;
        let kept = || {
            // They are kept below it or beside it.
            let _ = self.store.make_root();
            lookups::kept_profiles(&self.profiles)
        };
        let plan = self.plan_for(&request, &spec, &host, kept)?;
        let warnings: Vec<_> = loaded
            .warnings
            .iter()
            .chain(&plan.warnings)
            .cloned()
            .collect();
        let record = intent(&request, &spec, &plan)?;
        // Until all of it is there or gone again: a delete waits for that.
        let (entry, _lock) = self.store.reserve(&request.id, cancel)?;
        let id = request.id.clone();
        let mut creation = Creation {
            request: &request,
            plan: &plan,
            entry: &entry,
            record,
            cgroup: None,
            limits: cgroup::Changes::default(),
            host: &host,
            children: &self.children,
            cancel,
            ahead: &ahead,
        };
        match creation.run() {
            Ok(launched) => {
                let Creation { record, cgroup, .. } = creation;
                let init = Some(launched.process);
                let children = Arc::clone(&self.children);
                let container = Container {
                    id,
                    entry,
                    record,
                    init,
                    cgroup,
                    runs_already: AtomicBool::new(!plan.is_gated()),
                    children,
                    host,
                };
                Ok(Created {
                    container,
                    console: launched.console,
                    launching: launched.launching,
                    warnings,
                })
            }
            Err(error) => {
                let undone = creation.undo();
                let undone = undone.and_then(|()| self.store.remove(&id, &entry));
                Err(match undone {
                    Ok(()) => error,
                    Err(left) => {
                        error.during(format!("(and its remains could not be removed: {left})"))
                    }
                })
            }
        }
    }

    /// What create would do and what it would refuse, and nothing done: `rsrun run --explain`.
    pub fn explain(&self, request: &CreateRequest) -> Result<String> {
        let host = self.host()?;
        let mut spec = Bundle::open(&request.bundle)?.load()?.document;
        self.fill_in_maps(&mut spec, &Cancel::new()?)?;
        let plan = self.plan_for(request, &spec, &host, || None)?;
        let mount = cgroup::Mount::find()?;
        let path = cgroup_path(&mount, request, &plan)?;
        let limits = match &plan.cgroup.resources {
            Some(resources) => cgroup::writes(resources, mount.controllers())?,
            None => cgroup::Changes::default(),
        };
        Ok(plan::explain_container(&plan, &path, &limits))
    }

    fn plan_for(
        &self,
        request: &CreateRequest,
        spec: &Spec,
        host: &Host,
        kept: impl FnOnce() -> Option<Cache>,
    ) -> Result<ContainerPlan> {
        let facts = CreateFacts {
            id: request.id.as_str().to_owned(),
            bundle: request.bundle.clone(),
            terminal: request.terminal,
            no_pivot: request.no_pivot,
            no_new_keyring: request.no_new_keyring,
            preserve_fds: request.preserve_fds,
            systemd_cgroup: request.systemd_cgroup,
            starts_at_once: request.starts_at_once,
            ..CreateFacts::default()
        };
        let rootfs = rootfs_of(request, spec)?;
        plan::create(spec, &lookups::look_up(facts, spec, &rootfs, kept)?, host)
    }
}

fn intent(request: &CreateRequest, spec: &Spec, plan: &ContainerPlan) -> Result<Record> {
    let boot_id = procfs::boot_id().with(|| "read(/proc/sys/kernel/random/boot_id)")?;
    let annotations = spec.annotations().clone().unwrap_or_default();
    Ok(Record {
        format: FORMAT,
        oci_version: spec.version().clone(),
        id: request.id.as_str().to_owned(),
        bundle: request.bundle.clone(),
        rootfs: rootfs_of(request, spec)?,
        annotations: annotations.into_iter().collect(),
        created: SystemTime::now(),
        boot_id,
        cgroup: None,
        init: None,
        group: request.group.clone(),
        rootfs_mounts: request.rootfs_mounts.clone(),
        hooks: plan.hooks.clone(),
        exec: plan.exec.clone(),
        has_private_pid_namespace: plan.has_private_pid_namespace,
        steps_after_gate: steps_after_gate(plan),
        program: plan.program.name.clone(),
        process: serde_json::to_value(spec.process())
            .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?,
        owner: nix::unistd::getuid().as_raw(),
    })
}

/// Variables that belong to this call and not to the bundle, such as LISTEN_FDS.
fn add_environment(spec: &mut Spec, extra: &[String]) {
    if let Some(process) = spec.process_mut().as_mut().filter(|_| !extra.is_empty()) {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend_from_slice(extra);
        process.set_env(Some(env));
    }
}

/// The host ids of the container's root: whom its fifo belongs to.
fn root_owner(maps: &IdMaps) -> (u32, u32) {
    let root = |ranges: &[IdRange]| {
        ranges
            .iter()
            .find(|range| range.inside == 0)
            .map_or(0, |range| range.outside)
    };
    (root(&maps.uid), root(&maps.gid))
}

/// Where its cgroup is to be, below the mount.
fn cgroup_path(
    mount: &cgroup::Mount,
    request: &CreateRequest,
    plan: &ContainerPlan,
) -> Result<String> {
    let asked = plan.cgroup.path.as_deref();
    // An absolute path does not depend on it.
    let own = match asked {
        Some(path) if path.starts_with('/') => None,
        _ => mount.own_cgroup()?,
    };
    cgroup::resolve(
        plan.cgroup.driver,
        asked,
        request.id.as_str(),
        own.as_deref(),
    )
}

/// What the hooks of create may take, by their own time-outs.
fn time_of_hooks(plan: &ContainerPlan) -> Duration {
    let hooks = &plan.hooks;
    let all = hooks
        .prestart
        .iter()
        .chain(&hooks.create_runtime)
        .chain(&hooks.create_container);
    all.map(|hook| {
        let seconds = hook
            .timeout()
            .and_then(|seconds| u64::try_from(seconds).ok());
        seconds.map_or(hooks::PATIENCE, Duration::from_secs)
    })
    .sum()
}

/// `root.path`, relative to the bundle.
fn rootfs_of(request: &CreateRequest, spec: &Spec) -> Result<PathBuf> {
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| Error::spec("/root", "there is no root filesystem"))?;
    Ok(request.bundle.join(root.path()))
}

fn steps_after_gate(plan: &ContainerPlan) -> std::collections::BTreeMap<u32, String> {
    let steps = plan.init.steps.iter().zip(0u32..);
    steps
        .skip_while(|(step, _)| !matches!(step, Step::Gate { .. }))
        .map(|(step, index)| (index, plan::step_words(step)))
        .collect()
}

/// A creation under way: what has been made so far can be undone.
struct Creation<'a> {
    request: &'a CreateRequest,
    plan: &'a ContainerPlan,
    entry: &'a Entry,
    record: Record,
    cgroup: Option<Cgroup>,
    limits: cgroup::Changes,
    host: &'a Host,
    children: &'a Arc<Children>,
    cancel: &'a Cancel,
    ahead: &'a Ahead,
}

impl Creation<'_> {
    fn run(&mut self) -> Result<Launched> {
        let program = Program::compile(&self.plan.cgroup.devices)?;
        let mount = cgroup::Mount::find()?;
        let path = cgroup_path(&mount, self.request, self.plan)?;
        // The intent goes to disk first: whatever kills us from here on, delete finds the cgroup.
        self.record.cgroup = Some(CgroupFacts {
            path: path.clone(),
            inode: None,
        });
        self.entry.write_record(&self.record)?;
        // Kept before anything else can fail: undo removes it.
        let cgroup = self.cgroup.insert(Cgroup::create(&mount, &path)?);
        self.record.cgroup = Some(CgroupFacts {
            path,
            inode: Some(cgroup.inode()),
        });
        self.entry.link_cgroup(cgroup.path(), cgroup.inode())?;
        if let Some(resources) = &self.plan.cgroup.resources {
            self.limits = cgroup::writes(resources, cgroup.controllers())?;
        }
        if let Some(owner) = self.plan.cgroup.owner {
            cgroup.delegate(owner)?;
        }
        let fifo = if self.plan.is_gated() {
            let (uid, gid) = root_owner(&self.plan.exec.maps);
            Some(self.entry.make_fifo(uid, gid)?)
        } else {
            None
        };
        self.launch(fifo.as_ref().map(AsFd::as_fd), &program)
    }

    fn launch(&mut self, gate: Option<BorrowedFd<'_>>, program: &Program) -> Result<Launched> {
        let Some(cgroup) = &self.cgroup else {
            return Err(Error::invalid("the cgroup is missing"));
        };
        let streams = &self.request.streams;
        let given = Given {
            streams: [&streams.stdin, &streams.stdout, &streams.stderr]
                .map(|fd| fd.as_ref().map(AsFd::as_fd)),
            init: None,
            gate,
        };
        let setting = Setting {
            children: self.children,
            cancel: self.cancel,
            deadline: Instant::now() + PATIENCE + time_of_hooks(self.plan),
            cgroup: Some(cgroup.dir()),
            ahead: Some(self.ahead),
        };
        let mut attendant = Steward {
            plan: self.plan,
            cgroup,
            limits: &self.limits,
            program,
            filter: None,
            host: self.host,
            entry: self.entry,
            record: &mut self.record,
            children: self.children,
            cancel: self.cancel,
            done: Done::default(),
        };
        launch(
            &self.plan.init,
            &self.plan.program,
            &given,
            setting,
            &mut attendant,
        )
    }

    /// The process is gone already (launch saw to that); what it started may not be.
    fn undo(&mut self) -> Result<()> {
        let Some(cgroup) = self.cgroup.take() else {
            return Ok(());
        };
        cgroup.kill(KILL_PATIENCE)?;
        cgroup.remove(KILL_PATIENCE)
    }
}

/// Does the parent's part at each turn of the conversation.
struct Steward<'a> {
    plan: &'a ContainerPlan,
    cgroup: &'a Cgroup,
    limits: &'a cgroup::Changes,
    program: &'a Program,
    /// The program, once it is loaded.
    filter: Option<Filter>,
    host: &'a Host,
    entry: &'a Entry,
    record: &'a mut Record,
    children: &'a Arc<Children>,
    cancel: &'a Cancel,
    done: Done,
}

/// What of the last things has been done before the init was ready.
#[derive(Debug, Default)]
struct Done {
    devices: bool,
    staged: bool,
    committed: bool,
}

impl Steward<'_> {
    /// The whole record is written while the child is at its mounts; it holds when there is nothing left to do for it.
    fn stage(&mut self, init: &ProcessHandle) -> Result<()> {
        let stat = Stat::of(init.pid()).with(|| format!("read(/proc/{}/stat)", init.pid()))?;
        self.record.init = Some(InitFacts {
            pid: init.pid(),
            start_time: stat.start_time,
        });
        self.entry.stage_record(self.record)?;
        self.done.staged = true;
        Ok(())
    }

    fn set_devices(&mut self) -> Result<()> {
        if !self.done.devices {
            match self.filter.take() {
                Some(filter) => self.cgroup.attach_devices(&filter)?,
                None => self.cgroup.set_devices(self.program)?,
            }
            self.done.devices = true;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        if !self.done.committed {
            self.entry.commit_record()?;
            self.done.committed = true;
        }
        Ok(())
    }

    fn runner<'s>(&'s self, init: &'s ProcessHandle) -> Runner<'s> {
        let (children, cancel, cgroup) = (self.children, self.cancel, Some(self.cgroup));
        let host = self.host;
        Runner {
            children,
            cancel,
            entry: self.entry,
            record: self.record,
            init: Some(init),
            cgroup,
            host,
        }
    }
}

impl Attendant for Steward<'_> {
    /// The kernel takes a third of a millisecond to verify and translate a device program. Once the child runs, it
    /// would have to share a processor with that: it is woken where its waker is.
    fn at_birth(&mut self) -> Result<()> {
        self.done = Done::default();
        self.filter = Some(self.program.load()?);
        Ok(())
    }

    /// Beside the child's mounts; it charges nothing of its set-up to limits that are not there yet.
    fn meanwhile(&mut self, init: &ProcessHandle) -> Result<()> {
        self.cgroup.apply(self.limits)?;
        if self.program.lets_pass(&self.plan.init.steps) {
            self.set_devices()?;
        }
        // One that is born again in a joined pid namespace is another process when it is ready.
        if self.plan.init.steps.contains(&Step::Reborn) {
            return Ok(());
        }
        match self.stage(init) {
            // It may have been reaped already. Why it has ended is what the conversation tells.
            Err(_) if init.has_ended() => Ok(()),
            staged => staged,
        }
    }

    fn hooks_due(&mut self, init: &ProcessHandle) -> Result<()> {
        let hooks = &self.plan.hooks;
        let runner = self.runner(init);
        runner.run_all(
            "prestart",
            &hooks.prestart,
            &runner.on_host(),
            Status::Creating,
        )?;
        runner.run_all(
            "createRuntime",
            &hooks.create_runtime,
            &runner.on_host(),
            Status::Creating,
        )?;
        runner.run_all(
            "createContainer",
            &hooks.create_container,
            &runner.before_pivot(),
            Status::Creating,
        )
    }

    /// The device program comes last where it would deny what the child has just done, such as a node.
    fn ready(&mut self, init: &ProcessHandle) -> Result<()> {
        self.set_devices()?;
        if !self.done.staged {
            self.stage(init)?;
        }
        self.commit()
    }

    fn ready_ahead(&mut self, _init: &ProcessHandle) -> Result<bool> {
        let is_all = self.done.devices && self.done.staged;
        if is_all {
            self.commit()?;
        }
        Ok(is_all)
    }

    fn listener(&mut self, init: &ProcessHandle, listener: OwnedFd) -> Result<()> {
        super::listener::hand_over(
            self.plan.exec.seccomp.as_ref(),
            self.record,
            init,
            Status::Creating,
            &listener,
            self.cancel,
        )
    }
}
