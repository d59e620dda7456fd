//! Freezing: a plan becomes what the child reads, texts in one arena and descriptors as numbers.
//!
//! The last allocation before clone. Exhaustive over the steps: a new step does not compile until it
//! is said here how it freezes.
#![allow(
    clippy::disallowed_types,
    reason = "I7: the child has numbers; each is of a descriptor that is held until it is born"
)]

use std::ffi::CStr;
use std::os::fd::RawFd;

use rsrun_init::step::{Param, Step};
use rsrun_init::{Frozen, InArena, Page};

use crate::error::{Context, Result};
use crate::plan::{Plan, PlanStep, Planned};
use crate::sys::arena::Arena;

/// Freezes `plan` into `arena`. `numbers` are those of the descriptors that the plan names; `wake` and `birthplace`
/// (-1 for none) those that it does not.
pub fn freeze<'a>(
    arena: &'a Arena,
    plan: &Plan,
    numbers: &[RawFd],
    page: &'a Page,
    wake: RawFd,
    birthplace: RawFd,
) -> Result<Frozen<'a>> {
    let steps = Freezer { arena, numbers }
        .steps(&plan.steps)
        .with(|| "freeze the plan")?;
    Ok(Frozen {
        steps,
        page,
        wake,
        birthplace,
    })
}

struct Freezer<'a, 'n> {
    arena: &'a Arena,
    numbers: &'n [RawFd],
}

impl<'a> Freezer<'a, '_> {
    fn steps(&self, steps: &[PlanStep]) -> nix::Result<&'a [Step<InArena<'a>>]> {
        let mut frozen = Vec::with_capacity(steps.len());
        for step in steps {
            frozen.push(self.step(step)?);
        }
        self.arena.slice(&frozen)
    }

    fn text(&self, text: &CStr) -> nix::Result<&'a CStr> {
        self.arena.text(text)
    }

    fn number(&self, name: crate::plan::FdName) -> nix::Result<RawFd> {
        self.numbers
            .get(name.0)
            .copied()
            .ok_or(nix::errno::Errno::EBADF)
    }

    fn params(&self, params: &[Param<Planned>]) -> nix::Result<&'a [Param<InArena<'a>>]> {
        let mut frozen = Vec::with_capacity(params.len());
        for param in params {
            frozen.push(match param {
                Param::Flag(key) => Param::Flag(self.text(key)?),
                Param::Text(key, value) => Param::Text(self.text(key)?, self.text(value)?),
            });
        }
        self.arena.slice(&frozen)
    }

    fn step(&self, step: &PlanStep) -> nix::Result<Step<InArena<'a>>> {
        Ok(match step {
            Step::ResetSignals => Step::ResetSignals,
            Step::ResetInherited => Step::ResetInherited,
            Step::AwaitAdoption => Step::AwaitAdoption,
            Step::JoinNamespace { fd, flag } => Step::JoinNamespace {
                fd: self.number(*fd)?,
                flag: *flag,
            },
            Step::Unshare { flags } => Step::Unshare { flags: *flags },
            Step::BecomeRoot => Step::BecomeRoot,
            Step::Reborn => Step::Reborn,
            Step::OpenProc => Step::OpenProc,
            Step::TimeNamespace { offsets } => Step::TimeNamespace {
                offsets: self.text(offsets)?,
            },
            Step::Hostname { name } => Step::Hostname {
                name: self.text(name)?,
            },
            Step::Domainname { name } => Step::Domainname {
                name: self.text(name)?,
            },
            Step::Sysctl { path, value } => Step::Sysctl {
                path: self.text(path)?,
                value: self.text(value)?,
            },
            Step::LoopbackUp => Step::LoopbackUp,
            Step::AttachRoot { tree, at } => Step::AttachRoot {
                tree: self.number(*tree)?,
                at: self.text(at)?,
            },
            Step::OpenRoot => Step::OpenRoot,
            Step::MountFilesystem {
                fstype,
                source,
                params,
                flags,
                target,
                copy_up,
                after,
                becomes_proc,
            } => Step::MountFilesystem {
                fstype: self.text(fstype)?,
                source: self.text(source)?,
                params: self.params(params)?,
                flags: *flags,
                target: self.text(target)?,
                copy_up: *copy_up,
                after: *after,
                becomes_proc: *becomes_proc,
            },
            Step::AttachTree { tree, target } => Step::AttachTree {
                tree: self.number(*tree)?,
                target: self.text(target)?,
            },
            Step::SetMountAttributes { target, change } => Step::SetMountAttributes {
                target: self.text(target)?,
                change: *change,
            },
            Step::MakeDirectory { path } => Step::MakeDirectory {
                path: self.text(path)?,
            },
            Step::MakeNode {
                path,
                mode,
                major,
                minor,
                uid,
                gid,
            } => Step::MakeNode {
                path: self.text(path)?,
                mode: *mode,
                major: *major,
                minor: *minor,
                uid: *uid,
                gid: *gid,
            },
            Step::MakeLink {
                path,
                points_to,
                replace,
            } => Step::MakeLink {
                path: self.text(path)?,
                points_to: self.text(points_to)?,
                replace: *replace,
            },
            Step::MaskPath { path } => Step::MaskPath {
                path: self.text(path)?,
            },
            Step::ReadonlyPath { path } => Step::ReadonlyPath {
                path: self.text(path)?,
            },
            Step::AwaitHooks => Step::AwaitHooks,
            Step::PivotRoot => Step::PivotRoot,
            Step::MoveRoot => Step::MoveRoot,
            Step::OpenConsole {
                rows,
                columns,
                uid,
                bind,
            } => Step::OpenConsole {
                rows: *rows,
                columns: *columns,
                uid: *uid,
                bind: *bind,
            },
            Step::NewSession { terminal } => Step::NewSession {
                terminal: *terminal,
            },
            Step::PlaceFd { fd, to, owner } => Step::PlaceFd {
                fd: self.number(*fd)?,
                to: *to,
                owner: *owner,
            },
            Step::KeepFd { fd } => Step::KeepFd {
                fd: self.number(*fd)?,
            },
            Step::SessionKeyring { name } => Step::SessionKeyring {
                name: self.text(name)?,
            },
            Step::Label { file, value } => Step::Label {
                file: self.text(file)?,
                value: self.text(value)?,
            },
            Step::Rlimit {
                resource,
                soft,
                hard,
            } => Step::Rlimit {
                resource: *resource,
                soft: *soft,
                hard: *hard,
            },
            Step::Umask { mask } => Step::Umask { mask: *mask },
            Step::Personality { persona } => Step::Personality { persona: *persona },
            Step::Scheduler {
                policy,
                nice,
                priority,
                flags,
                runtime,
                deadline,
                period,
            } => Step::Scheduler {
                policy: *policy,
                nice: *nice,
                priority: *priority,
                flags: *flags,
                runtime: *runtime,
                deadline: *deadline,
                period: *period,
            },
            Step::IoPriority { value } => Step::IoPriority { value: *value },
            Step::Affinity { mask } => Step::Affinity {
                mask: self.arena.slice(mask)?,
            },
            Step::MemoryPolicy { mode, nodes } => Step::MemoryPolicy {
                mode: *mode,
                nodes: self.arena.slice(nodes)?,
            },
            Step::BoundingSet { keep } => Step::BoundingSet { keep: *keep },
            Step::Identity { uid, gid, groups } => Step::Identity {
                uid: *uid,
                gid: *gid,
                groups: self.arena.slice(groups)?,
            },
            Step::Capabilities(sets) => Step::Capabilities(*sets),
            Step::NoNewPrivileges => Step::NoNewPrivileges,
            Step::Seccomp {
                filter,
                flags,
                listener,
            } => Step::Seccomp {
                filter: self.arena.slice(filter)?,
                flags: *flags,
                listener: *listener,
            },
            Step::Cwd { path, retry } => Step::Cwd {
                path: self.text(path)?,
                retry: *retry,
            },
            Step::Undumpable => Step::Undumpable,
            Step::FindProgram { candidates } => Step::FindProgram {
                candidates: self.arena.texts(candidates)?,
            },
            Step::Ready { wait } => Step::Ready { wait: *wait },
            Step::Gate { fifo } => Step::Gate {
                fifo: self.number(*fifo)?,
            },
            Step::CloseOnExec { from } => Step::CloseOnExec { from: *from },
            Step::Execute { argv, env } => Step::Execute {
                argv: self.arena.texts(argv)?,
                env: self.arena.texts(env)?,
            },
        })
    }
}
