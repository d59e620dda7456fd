//! What if a process can't be born in its cgroup?
//!
//! Kernels since the fix of the race of fork with cgroup.kill (6.14, and in the stable ones of that time:
//! seen on 6.1.176 and 6.18) kill a child of CLONE_INTO_CGROUP before it does anything when its
//! cgroup was ever written to by cgroup.kill and the caller's was not, or the other way round: they
//! compare the counts of two different cgroups. Then the process is born where we are, and moved while
//! it waits for its adoption. A cgroup namespace is rooted where its maker is, so it is made after that.
//!
//! And where cgroup2 is mounted with nsdelegate, as systemd does, whoever has joined a cgroup namespace may
//! start a process only below its root, and only from there: ENOENT for a launch thread, which comes from
//! outside (cgroups(7); seen on 6.1.176 for every exec).

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use rsrun_init::step::Step;

use crate::error::{Context, Error, Result};
use crate::plan::namespaces::{CGROUP, PID};
use crate::plan::{Plan, PlanStep};
use crate::sys::mount::{OPEN_TREE_CLONE, open_tree};

/// What clone3 is given in place of `cgroup`, if that would be in sight: the directory again, by a mount of its own
/// that is attached nowhere, so nothing is above it.
///
/// The child closes it first of all, but who is born in a joined pid namespace can be looked at, and stopped, before
/// that: `/proc/PID/fd/N/../..` of the host's mount is the host. 45 µs on 6.18, so only there.
pub fn detached(plan: &Plan, cgroup: Option<BorrowedFd<'_>>) -> Result<Option<OwnedFd>> {
    let in_sight = plan.joins.iter().any(|join| join.flags & PID != 0);
    match cgroup {
        Some(cgroup) if in_sight => open_tree(cgroup, c"", OPEN_TREE_CLONE)
            .with(|| "open_tree(cgroup)")
            .map(Some),
        _ => Ok(None),
    }
}

/// Whether the birth failed because the thread had joined a cgroup namespace that it is not below.
pub fn is_beyond_namespace(plan: &Plan, errno: Errno) -> bool {
    let joined = plan.joins.iter().any(|join| join.flags & CGROUP != 0);
    errno == Errno::ENOENT && joined
}

/// The same plan for a process that is moved when it is adopted.
pub fn after_birth(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let mut steps = plan.steps.iter();
    let waits = match steps.position(|step| matches!(step, Step::AwaitAdoption)) {
        Some(waits) => waits,
        // Nothing is to be written for it, and it has to wait all the same.
        None => {
            let is_first = |step: &&PlanStep| matches!(step, Step::ResetSignals | Step::Undumpable);
            let first = plan.steps.iter().take_while(is_first).count();
            plan.steps.insert(first, Step::AwaitAdoption);
            first
        }
    };
    if plan.clone_flags & CGROUP != 0 {
        plan.clone_flags &= !CGROUP;
        plan.steps
            .insert(waits + 1, Step::Unshare { flags: CGROUP });
    }
    plan
}

/// Moves a process that waits for its adoption.
pub fn place(cgroup: BorrowedFd<'_>, pid: i32) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mode = nix::sys::stat::Mode::empty();
    let file =
        nix::fcntl::openat(cgroup, "cgroup.procs", flags, mode).with(|| "openat(cgroup.procs)")?;
    match nix::unistd::write(&file, pid.to_string().as_bytes()) {
        Ok(_) => Ok(()),
        Err(errno) => Err(Error::os(errno, format!("write \"{pid}\" to cgroup.procs"))),
    }
}
