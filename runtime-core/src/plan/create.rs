//! The plan of a container: from clone3 to the gate and execve, in order.
//!
//! The order is the point of this file; each section says why it is where it is. It starts in the
//! host's mount namespace copy with all privileges, and gives them up as it goes.

use oci_spec::runtime::Spec;
use rsrun_init::step::{MountAttributes, Step};

use super::devices::Way;
use super::draft::Draft;
use super::facts::{ContainerHooks, ContainerPlan, CreateFacts, ExecFacts, ProcessDefaults};
use super::mounts::{Later, Mounts, SLAVE_TREE};
use super::namespaces::{NET, Namespaces, PID, TIME, USER, maps_of};
use super::options::{self, PRIVATE};
use super::process::{End, Ending, Origin, Resolved};
use super::text::{entry, inside, literal, text};
use super::{FdSource, Join, PlanStep, cgroup, checks, devices, exec, hooks, sysctl};
use crate::error::{Error, Result};
use crate::host::Host;

/// The plan of a new container.
pub fn create(spec: &Spec, facts: &CreateFacts, host: &Host) -> Result<ContainerPlan> {
    checks::version(spec.version())?;
    checks::nothing_unsupported(spec, host)?;
    let namespaces = Namespaces::read(spec, facts.own_namespaces)?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::spec("/process", "there is no process to run"))?;
    let origin = Origin {
        place: "/process",
        terminal: facts.terminal,
        home: facts.home.as_deref(),
    };
    let resolved = Resolved::read(process, &ProcessDefaults::default(), &origin, host)?;
    let hooks = hooks::of_spec(spec.hooks().as_ref(), &resolved)?;
    // Something is to be done in between where its terminal has a size or hooks come before the program.
    let at_once =
        facts.starts_at_once && resolved.terminal.is_none() && hooks.start_container.is_empty();
    let ending = if at_once { Ending::Ready } else { Ending::Gate };
    let exec = exec::facts_of(spec, facts, &namespaces, &resolved, host)?;
    let (program, warnings) = (resolved.program.clone(), resolved.warnings.clone());
    let creation = Creation {
        spec,
        facts,
        host,
        mounts: Mounts::read(spec, facts, &namespaces, host)?,
        namespaces: &namespaces,
        draft: Draft::default(),
    };
    Ok(ContainerPlan {
        cgroup: cgroup::request(spec, facts, &namespaces, &exec.maps)?,
        init: creation.write(resolved, &hooks, &exec, ending)?.finish(),
        has_private_pid_namespace: namespaces.new & PID != 0,
        hooks,
        program,
        exec,
        warnings,
    })
}

struct Creation<'a> {
    spec: &'a Spec,
    facts: &'a CreateFacts,
    host: &'a Host,
    namespaces: &'a Namespaces,
    mounts: Mounts<'a>,
    draft: Draft,
}

impl Creation<'_> {
    fn write(
        mut self,
        process: Resolved,
        hooks: &ContainerHooks,
        exec: &ExecFacts,
        ending: Ending,
    ) -> Result<Draft> {
        self.draft.adoption.oom_score_adj = exec.oom_score_adj;
        self.draft.adoption.raise = process.raised(self.host);
        self.birth()?;
        let own_proc = self.procfs_for_both(&process);
        self.surroundings(&process, own_proc.is_none())?;
        let later = self.root(own_proc)?;
        self.console(&process)?;
        self.before_pivot(&process, hooks)?;
        let (early, late) = self.covers()?;
        self.draft.steps(early);
        self.draft.step(match self.facts.no_pivot {
            true => Step::MoveRoot,
            false => Step::PivotRoot,
        });
        self.reborn_in_joined_pid();
        self.draft.steps(later.proc);
        self.draft.steps(late);
        self.draft.steps(later.read_only);
        self.seal_root()?;
        self.loopback_up();
        process.place_streams(&mut self.draft);
        let end = End {
            seccomp: exec.seccomp.as_ref(),
            preserve_fds: self.facts.preserve_fds,
            scheduling: container_scheduling(exec),
        };
        process.finish(&mut self.draft, ending, &end);
        Ok(self.draft)
    }

    /// Signals first: until then a parked process could not be killed. Then what makes it a process
    /// of the container: maps and scores written by the parent, namespaces.
    fn birth(&mut self) -> Result<()> {
        let (new, foreign_user) = (self.namespaces.new, self.namespaces.joins(USER));
        self.draft.step(Step::ResetSignals);
        if new & PID == 0 {
            // Seen by processes that are not ours; execve undoes it.
            self.draft.step(Step::Undumpable);
        }
        if new & USER != 0 && !foreign_user {
            self.draft.adoption.maps = maps_of(self.spec)?;
        }
        self.draft.await_adoption();
        self.join_on_thread()?;
        if self.namespaces.joins(TIME) {
            self.join_in_child(TIME)?;
        }
        if foreign_user {
            // What is new has to belong to the foreign user namespace, so it is made inside.
            self.join_in_child(USER)?;
            self.draft.step(Step::BecomeRoot);
            self.draft.step(Step::Unshare { flags: new & !TIME });
            // One that is joined was entered by the thread: this process is in it already.
            if new & PID != 0 {
                self.draft.step(Step::Reborn);
            }
            return Ok(());
        }
        // Never with TIME: its offsets would be fixed at birth.
        self.draft.clone_flags = new & !TIME;
        if new & USER != 0 {
            self.draft.step(Step::BecomeRoot);
        }
        Ok(())
    }

    /// What exists and can be joined by a thread, before clone3. User and time can't; a pid
    /// namespace without a user namespace is entered only when the root has been changed, as its
    /// processes could reach into a newcomer that still sees the host.
    fn join_on_thread(&mut self) -> Result<()> {
        for (flag, path) in &self.namespaces.joined {
            let later = *flag == PID && !self.namespaces.has(USER);
            if *flag & (USER | TIME) != 0 || later {
                continue;
            }
            let fd = self.draft.fd(FdSource::Namespace {
                path: path.clone(),
                flag: *flag,
            });
            self.draft.joins.push(Join { fd, flags: *flag });
        }
        Ok(())
    }

    fn join_in_child(&mut self, flag: u64) -> Result<()> {
        let joined = self
            .namespaces
            .joined
            .iter()
            .find(|(kind, _)| *kind == flag);
        if let Some((flag, path)) = joined {
            let fd = self.draft.fd(FdSource::Namespace {
                path: path.clone(),
                flag: *flag,
            });
            self.draft.step(Step::JoinNamespace { fd, flag: *flag });
        }
        Ok(())
    }

    /// The mount that is the container's procfs and the child's own: an instance is made and taken away in 0.1 ms. Not
    /// where the child needs one before its mounts, or to read a file that may be covered when its root changes.
    fn procfs_for_both(&self, process: &Resolved) -> Option<usize> {
        let is_needed_before =
            process.selinux.is_some() || self.namespaces.time_offsets(self.spec).is_some();
        let is_later = self.namespaces.joins(PID);
        if is_needed_before || is_later || self.facts.no_pivot {
            return None;
        }
        self.mounts.usable_procfs()
    }

    /// What surrounds the process beside files: inherited state, session, keyring, clocks, names.
    /// A procfs of its own comes before the root is changed and covered, where a user namespace may have one.
    fn surroundings(&mut self, process: &Resolved, opens_proc: bool) -> Result<()> {
        self.draft.step(Step::ResetInherited);
        self.draft.step(Step::Affinity { mask: Vec::new() });
        if process.terminal.is_none() {
            self.draft.step(Step::NewSession { terminal: false });
        }
        if opens_proc {
            self.draft.step(Step::OpenProc);
        }
        if !self.facts.no_new_keyring {
            self.draft.steps(keyring(&self.facts.id, process)?);
        }
        if let Some(offsets) = self.namespaces.time_offsets(self.spec) {
            self.draft.step(Step::TimeNamespace {
                offsets: literal(&offsets),
            });
        }
        let given = |field: &Option<String>| field.clone().filter(|name| !name.is_empty());
        if let Some(name) = given(self.spec.hostname()) {
            let name = text("/hostname", name)?;
            self.draft.step(Step::Hostname { name });
        }
        if let Some(name) = given(self.spec.domainname()) {
            let name = text("/domainname", name)?;
            self.draft.step(Step::Domainname { name });
        }
        Ok(())
    }

    /// The root, the mounts in it, and devices in what was mounted at /dev.
    fn root(&mut self, own_proc: Option<usize>) -> Result<Later> {
        let root = self
            .spec
            .root()
            .as_ref()
            .ok_or_else(|| Error::spec("/root", "there is no root filesystem"))?;
        if root.path().as_os_str().is_empty() {
            return Err(Error::spec("/root/path", "the path is empty"));
        }
        text("/root/path", root.path())?;
        let apart = match propagation_of(self.spec)? {
            Some(change) if change.propagation & (PRIVATE | options::UNBINDABLE) != 0 => {
                MountAttributes {
                    propagation: PRIVATE,
                    recursive: true,
                    ..MountAttributes::default()
                }
            }
            _ => SLAVE_TREE,
        };
        let path = self.facts.bundle.join(root.path());
        // Without pivot_root the tree has to be on top of `/` in the end.
        let at = match self.facts.no_pivot {
            true => literal("/"),
            false => text("/root/path", &path)?,
        };
        let tree = self.draft.fd(FdSource::Tree {
            path,
            recursive: true,
            changes: vec![apart],
            idmap: None,
            idmap_recursive: false,
        });
        self.draft.step(Step::AttachRoot { tree, at });
        let proc_later = self.namespaces.joins(PID) && !self.namespaces.has(USER);
        let later = self.mounts.attach(&mut self.draft, proc_later, own_proc)?;
        if !self.mounts.dev_is_bound() {
            let in_user_namespace = self.namespaces.has(USER) || self.host.in_user_namespace;
            let way = if in_user_namespace {
                Way::Attach
            } else {
                Way::Make
            };
            devices::steps(&mut self.draft, self.spec, self.host, way)?;
        }
        Ok(later)
    }

    fn console(&mut self, process: &Resolved) -> Result<()> {
        let Some(size) = process.terminal else {
            return Ok(());
        };
        if !self.mounts.has_devpts() {
            return Err(Error::spec(
                "/process/terminal",
                "a terminal needs a devpts at /dev/pts among the mounts",
            ));
        }
        self.draft.step(Step::OpenConsole {
            rows: size.rows,
            columns: size.columns,
            uid: process.uid,
            bind: true,
        });
        self.draft.step(Step::NewSession { terminal: true });
        Ok(())
    }

    fn before_pivot(&mut self, process: &Resolved, hooks: &ContainerHooks) -> Result<()> {
        let linux = self.spec.linux().as_ref();
        let sysctls = linux.and_then(|l| l.sysctl().as_ref());
        self.draft.steps(sysctl::steps(sysctls, self.namespaces)?);
        if process.cwd.as_bytes() != b"/" {
            self.draft.step(Step::MakeDirectory {
                path: process.cwd.clone(),
            });
        }
        let due = [
            &hooks.prestart,
            &hooks.create_runtime,
            &hooks.create_container,
        ];
        if due.iter().any(|hooks| !hooks.is_empty()) {
            self.loopback_up();
            self.draft.step(Step::AwaitHooks);
        }
        Ok(())
    }

    /// Hooks find it up, such as those that make a network. Else it is late: the thread that has cloned this process does it
    /// meanwhile.
    fn loopback_up(&mut self) {
        if self.namespaces.new & NET != 0 && !self.draft.has(&Step::LoopbackUp) {
            self.draft.step(Step::LoopbackUp);
        }
    }

    /// Paths to hide and to make read-only: after the hooks, which may have mounted more. Those in a
    /// procfs that is mounted only after pivot_root come after it (second part).
    fn covers(&self) -> Result<(Vec<PlanStep>, Vec<PlanStep>)> {
        let linux = self.spec.linux().as_ref();
        let read = |paths: Option<&Vec<String>>, place: &str| {
            let path = |(index, path): (usize, &String)| {
                let place = entry(place, index);
                if !path.starts_with('/') {
                    return Err(Error::spec(
                        place,
                        format!("{path:?} is not an absolute path"),
                    ));
                }
                text(&place, inside(path.as_ref()))
            };
            let paths = paths.map(Vec::as_slice).unwrap_or_default();
            paths
                .iter()
                .enumerate()
                .map(path)
                .collect::<Result<Vec<_>>>()
        };
        let readonly = linux.and_then(|l| l.readonly_paths().as_ref());
        let masked = linux.and_then(|l| l.masked_paths().as_ref());
        let readonly = read(readonly, "/linux/readonlyPaths")?;
        let masked = read(masked, "/linux/maskedPaths")?;
        let steps = readonly.into_iter().map(|path| Step::ReadonlyPath { path });
        let steps = steps.chain(masked.into_iter().map(|path| Step::MaskPath { path }));
        let proc_later = self.namespaces.joins(PID) && !self.namespaces.has(USER);
        let waits = |step: &PlanStep| match step {
            Step::MaskPath { path } | Step::ReadonlyPath { path } => {
                proc_later && path.as_bytes().starts_with(b"/proc/")
            }
            _ => false,
        };
        let (late, early) = steps.partition(waits);
        Ok((early, late))
    }

    /// Without a user namespace a foreign pid namespace is entered now: nothing of the host is left
    /// to be seen through the newcomer. Its procfs is mounted by who is in it.
    fn reborn_in_joined_pid(&mut self) {
        if !self.namespaces.joins(PID) || self.namespaces.has(USER) {
            return;
        }
        let joined = self.namespaces.joined.iter().find(|(kind, _)| *kind == PID);
        if let Some((flag, path)) = joined {
            let fd = self.draft.fd(FdSource::Namespace {
                path: path.clone(),
                flag: *flag,
            });
            self.draft.step(Step::JoinNamespace { fd, flag: *flag });
            self.draft.step(Step::Reborn);
            self.draft.step(Step::OpenProc);
        }
    }

    /// The last changes of the root's own mount.
    fn seal_root(&mut self) -> Result<()> {
        let change = |change| Step::SetMountAttributes {
            target: literal("/"),
            change,
        };
        let read_only = self.spec.root().as_ref().and_then(|r| r.readonly());
        if read_only.unwrap_or(false) {
            self.draft.step(change(MountAttributes {
                set: options::RDONLY,
                ..MountAttributes::default()
            }));
        }
        if let Some(propagation) = propagation_of(self.spec)? {
            self.draft.step(change(propagation));
        }
        Ok(())
    }
}

/// A session keyring named as runc names it: agents look for `_ses.<id>`. With SELinux it gets the
/// label of the process, or the process could not use it.
pub(super) fn keyring(id: &str, process: &Resolved) -> Result<Vec<PlanStep>> {
    let label = process.selinux.clone().map(|value| Step::Label {
        file: literal("keycreate"),
        value,
    });
    let join = Step::SessionKeyring {
        name: text("", format!("_ses.{id}"))?,
    };
    Ok(label.into_iter().chain([join]).collect())
}

/// Settings of the container that hold for each of its processes.
pub(super) fn container_scheduling(facts: &ExecFacts) -> Vec<PlanStep> {
    let personality = facts
        .personality
        .map(|persona| Step::Personality { persona });
    let memory = facts.memory_policy.clone();
    let memory = memory.map(|(mode, nodes)| Step::MemoryPolicy { mode, nodes });
    personality.into_iter().chain(memory).collect()
}

/// `linux.rootfsPropagation` as a change of `/`.
fn propagation_of(spec: &Spec) -> Result<Option<MountAttributes>> {
    let linux = spec.linux().as_ref();
    let word = linux.and_then(|l| l.rootfs_propagation().as_deref());
    let Some(word) = word.filter(|word| !word.is_empty()) else {
        return Ok(None);
    };
    let options = options::Options::read(&[word.to_owned()]);
    match options.propagations().next() {
        Some(change) => Ok(Some(change)),
        None => Err(Error::spec(
            "/linux/rootfsPropagation",
            format!("{word:?} is no mount propagation"),
        )),
    }
}
