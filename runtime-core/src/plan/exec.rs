//! The plan of a process that is added to a container.

use std::ffi::CString;

use oci_spec::runtime::{ExecCPUAffinity, Linux, Process, Spec};
use rsrun_init::step::{CapabilitySets, Step};

use super::capabilities::{CHOWN, SETGID, SETPCAP, SETUID, SYS_ADMIN, SYS_NICE};
use super::create::{container_scheduling, keyring};
use super::draft::Draft;
use super::facts::{
    CreateFacts, ExecAsk, ExecFacts, ProcessDefaults, ProcessPlan, ProgramWords, SeccompProgram,
};
use super::namespaces::{MOUNT, Namespaces, TIME, USER, maps_of};
use super::process::{End, Ending, Origin, Resolved};
use super::scheduling::mask_of;
use super::{FdSource, Join, checks, scheduling};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, KernelVersion};

/// The plan of an exec in the container of `facts`. JSON pointers in its errors start at the process
/// document.
pub fn exec(
    process: &Process,
    facts: &ExecFacts,
    ask: &ExecAsk,
    host: &Host,
) -> Result<ProcessPlan> {
    let origin = Origin {
        place: "",
        terminal: ask.terminal,
        home: ask.home.as_deref(),
    };
    let resolved = Resolved::read(process, &facts.defaults, &origin, host)?;
    let affinity = process.exec_cpu_affinity().as_ref();
    let score = checks::oom_score_adj(process, "/oomScoreAdj")?.or(facts.oom_score_adj);
    inside(resolved, affinity, facts, (score, ask.preserve_fds), host)
}

/// The plan of a hook that runs in the container: as confined as the container's own process, whose
/// document is `process`, since the hook's file comes with the image.
pub(super) fn hook_inside(
    hook: HookProgram,
    process: &Process,
    facts: &ExecFacts,
    host: &Host,
) -> Result<ProcessPlan> {
    let origin = Origin {
        place: "",
        terminal: Some(false),
        home: None,
    };
    let mut resolved = Resolved::read(process, &facts.defaults, &origin, host)?;
    resolved.program = ProgramWords {
        name: hook.path.to_string_lossy().into_owned(),
        candidates: vec![hook.path],
    };
    resolved.argv = hook.argv;
    resolved.env = hook.env.unwrap_or(resolved.env);
    inside(resolved, None, facts, (facts.oom_score_adj, 0), host)
}

/// What of a hook is executed.
pub(super) struct HookProgram {
    pub(super) path: CString,
    pub(super) argv: Vec<CString>,
    pub(super) env: Option<Vec<CString>>,
}

fn inside(
    resolved: Resolved,
    affinity: Option<&ExecCPUAffinity>,
    facts: &ExecFacts,
    (oom_score_adj, preserve_fds): (Option<i32>, u32),
    host: &Host,
) -> Result<ProcessPlan> {
    let mut draft = Draft::default();
    draft.adoption.oom_score_adj = oom_score_adj;
    draft.adoption.raise = resolved.raised(host);
    draft.keep_capabilities = kept(&resolved, facts);
    enter(&mut draft, facts, &resolved, host);
    draft.step(Step::ResetInherited);
    cpus(&mut draft, affinity.or(facts.defaults.affinity.as_ref()))?;
    if resolved.terminal.is_none() {
        draft.step(Step::NewSession { terminal: false });
    }
    if !facts.no_new_keyring {
        draft.steps(keyring(&facts.id, &resolved)?);
    }
    draft.step(Step::OpenRoot);
    if let Some(size) = resolved.terminal {
        draft.step(Step::OpenConsole {
            rows: size.rows,
            columns: size.columns,
            uid: resolved.uid,
            bind: false,
        });
        draft.step(Step::NewSession { terminal: true });
    }
    resolved.place_streams(&mut draft);
    let (program, warnings) = (resolved.program.clone(), resolved.warnings.clone());
    let end = End {
        seccomp: facts.seccomp.as_ref(),
        preserve_fds,
        scheduling: container_scheduling(facts),
    };
    resolved.finish(&mut draft, Ending::AtOnce, &end);
    Ok(ProcessPlan {
        plan: draft.finish(),
        program,
        warnings,
    })
}

/// Signals, the parent's writes, then what only a process without threads can enter. Always
/// undumpable: whoever is in there already sees the newcomer.
fn enter(draft: &mut Draft, facts: &ExecFacts, process: &Resolved, host: &Host) {
    draft.step(Step::ResetSignals);
    draft.step(Step::Undumpable);
    draft.await_adoption();
    enter_namespaces(draft, facts.namespaces);
    if has_label(process) {
        draft.step(Step::OpenProc);
    }
    // As soon as they are not needed any more.
    if let Some(keep) = own_and_needed(process, facts).filter(|_| needs_to_enter(process, facts)) {
        // capset refuses what we do not have ourselves.
        let keep = keep & host.bounding;
        draft.step(Step::Capabilities(CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: 0,
            ambient: 0,
        }));
    }
}

/// By the init's pidfd: what a thread can join before clone3, time and user in the child. Time
/// first, as it asks for privileges over the user namespace that owns it, which may be ours.
pub(super) fn enter_namespaces(draft: &mut Draft, namespaces: u64) {
    let init = draft.fd(FdSource::InitPidfd);
    let on_thread = namespaces & !(USER | TIME);
    if on_thread != 0 {
        draft.joins.push(Join {
            fd: init,
            flags: on_thread,
        });
    }
    for flag in [TIME, USER] {
        if namespaces & flag != 0 {
            draft.step(Step::JoinNamespace { fd: init, flag });
        }
    }
    if namespaces & USER != 0 {
        draft.step(Step::BecomeRoot);
    }
}

/// What the newcomer may do at most, for the time until its own sets hold. A container with
/// CAP_SYS_PTRACE can take it over, so it is the process's own and what changing the ids (and the
/// owner of its streams) needs. Nothing is dropped where a user namespace is joined: the child has
/// to do that, and undumpable suffices there.
fn kept(process: &Resolved, facts: &ExecFacts) -> Option<u64> {
    let keep = own_and_needed(process, facts)?;
    let to_enter = if needs_to_enter(process, facts) {
        SYS_ADMIN
    } else {
        0
    };
    Some(keep | to_enter)
}

fn own_and_needed(process: &Resolved, facts: &ExecFacts) -> Option<u64> {
    if facts.namespaces & USER != 0 {
        return None;
    }
    // Loading a filter without no_new_privs is for CAP_SYS_ADMIN.
    let filter = facts.seccomp.is_some() && !process.no_new_privileges;
    let filter = if filter { SYS_ADMIN } else { 0 };
    let scheduling = if process.scheduling.is_empty() {
        0
    } else {
        SYS_NICE
    };
    let own = process.capabilities.union();
    Some(own | SETUID | SETGID | SETPCAP | CHOWN | filter | scheduling)
}

/// Joining a time namespace, and a procfs for labels, take CAP_SYS_ADMIN for the first steps. (Where
/// there are labels, confined processes may not trace one that is not confined yet.)
fn needs_to_enter(process: &Resolved, facts: &ExecFacts) -> bool {
    has_label(process) || facts.namespaces & TIME != 0
}

fn has_label(process: &Resolved) -> bool {
    process.apparmor.is_some() || process.selinux.is_some()
}

/// `execCPUAffinity`: `initial` for the thread that clones (the kernel narrows it to the cgroup's
/// cpuset), `final` for the process. Without any, every CPU: what the shim is bound to is its own.
fn cpus(draft: &mut Draft, given: Option<&ExecCPUAffinity>) -> Result<()> {
    let Some(given) = given else {
        draft.step(Step::Affinity { mask: Vec::new() });
        return Ok(());
    };
    let read = |list: &Option<String>, field: &str| {
        let list = list.as_deref().filter(|l| !l.trim().is_empty());
        list.map(|l| mask_of(l, &format!("/execCPUAffinity/{field}")))
            .transpose()
    };
    draft.thread_affinity = read(given.initial(), "initial")?;
    if let Some(mask) = read(given.cpu_affinity_final(), "final")? {
        draft.step(Step::Affinity { mask });
    }
    Ok(())
}

/// What a later exec needs to know of a container that is being created.
pub(super) fn facts_of(
    spec: &Spec,
    facts: &CreateFacts,
    namespaces: &Namespaces,
    resolved: &Resolved,
    host: &Host,
) -> Result<ExecFacts> {
    let linux = spec.linux().as_ref();
    let process = spec.process().as_ref();
    let personality = linux.and_then(|l| l.personality().as_ref());
    let memory_policy = linux.and_then(|l| l.memory_policy().as_ref());
    let label = |field: Option<&Option<String>>| field.cloned().flatten();
    Ok(ExecFacts {
        id: facts.id.clone(),
        namespaces: namespaces.all() | MOUNT,
        maps: maps_of(spec)?,
        seccomp: seccomp_of(linux, facts, host)?,
        no_new_keyring: facts.no_new_keyring,
        personality: personality.map(scheduling::personality).transpose()?,
        memory_policy: memory_policy.map(scheduling::memory_policy).transpose()?,
        oom_score_adj: match spec.process() {
            Some(process) => checks::oom_score_adj(process, "/process/oomScoreAdj")?,
            None => None,
        },
        defaults: ProcessDefaults {
            capabilities: Some(resolved.capabilities),
            rlimits: resolved.rlimits.clone(),
            apparmor: label(process.map(|p| p.apparmor_profile())),
            selinux: label(process.map(|p| p.selinux_label())),
            scheduler: process.and_then(|p| p.scheduler().clone()),
            io_priority: process.and_then(|p| *p.io_priority()),
            affinity: process.and_then(|p| p.exec_cpu_affinity().clone()),
            umask: Some(resolved.umask),
        },
    })
}

/// The profile that the caller compiled; a plan without it, where the spec has one, would run the
/// container unconfined.
fn seccomp_of(
    linux: Option<&Linux>,
    facts: &CreateFacts,
    host: &Host,
) -> Result<Option<SeccompProgram>> {
    const WAIT_KILLABLE_RECV: u32 = 1 << 5;
    let flags = facts.seccomp.as_ref().map_or(0, |program| program.flags);
    if flags & WAIT_KILLABLE_RECV != 0 && host.kernel < KernelVersion(5, 19) {
        return Err(Error::unsupported(
            "/linux/seccomp/flags",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs linux 5.19",
        ));
    }
    let given = linux.is_some_and(|l| l.seccomp().is_some());
    if given != facts.seccomp.is_some() {
        return Err(Error::new(
            ErrorKind::Internal,
            "the seccomp profile was not compiled before the plan was made",
        ));
    }
    Ok(facts.seccomp.clone())
}
