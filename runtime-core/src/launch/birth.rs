//! How the process of a plan is cloned: what it is born with, and where.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::drive::{Attendant, Fallen, Setting};
use super::open::Held;
use super::{placement, report};
use crate::error::{Context, Result};
use crate::freeze::freeze;
use crate::plan::Plan;
use crate::process::ProcessHandle;
use crate::sys::arena::{Arena, SharedPage};
use crate::sys::birth::{Birth, Ending, LaunchThread, When};
use crate::sys::pidfd::pidfd_open;

/// The socket pair that wakes. The child's end is above the numbers that it places.
pub(super) fn wake_pair() -> Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .with(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)")?;
    let theirs =
        crate::sys::fds::duplicate_above(theirs.as_fd(), 16).with(|| "fcntl(F_DUPFD_CLOEXEC)")?;
    Ok((ours, theirs))
}

/// A process that was cloned.
pub(super) struct Born<'a> {
    pub process: ProcessHandle,
    /// Of the thread that it was cloned from.
    pub ending: Ending<'a>,
    /// How what its attendant did meanwhile went.
    pub beside: Result<()>,
}

/// Clones the process of `plan`. What it has open is `held` and the socket `wake`.
pub(super) fn bear<'a>(
    plan: &Plan,
    held: &[Held<'_>],
    page: &'a SharedPage,
    wake: OwnedFd,
    setting: Setting<'_>,
    attendant: &mut dyn Attendant,
) -> std::result::Result<Born<'a>, Fallen> {
    let arena = Arena::new().with(|| "mmap()")?;
    let numbers: Vec<_> = held.iter().map(Held::number).collect();
    let detached = placement::detached(plan, setting.cgroup)?;
    let cgroup = detached.as_ref().map(AsFd::as_fd).or(setting.cgroup);
    let birthplace = cgroup.map_or(-1, |fd| fd.as_raw_fd());
    let frozen = freeze(&arena, plan, &numbers, page, wake.as_raw_fd(), birthplace)?;
    let mut keep = numbers.clone();
    keep.push(wake.as_raw_fd());
    keep.extend(cgroup.map(|fd| fd.as_raw_fd()));
    keep.sort_unstable();
    keep.dedup();
    let joins = plan
        .joins
        .iter()
        .filter_map(|join| Some((*numbers.get(join.fd.0)?, join.flags)))
        .collect();
    let birth = Birth {
        keep,
        joins,
        root: plan.root.and_then(|root| numbers.get(root.0).copied()),
        affinity: plan.thread_affinity.as_deref(),
        keep_capabilities: plan.keep_capabilities,
        flags: plan.clone_flags,
        cgroup,
        frozen,
    };
    let _birth = setting.children.birth();
    let ahead = setting.ahead.and_then(|ahead| ahead.thread_for(plan));
    let thread = match ahead {
        Some(thread) => {
            thread.apart();
            Ok(thread)
        }
        None => LaunchThread::begin(0, When::Sometime),
    };
    let (born, beside) = match thread {
        Ok(thread) => thread.bear(birth, page, || attendant.at_birth()),
        Err(cause) => (Err(cause), Ok(())),
    };
    let (pid, ending) = born.map_err(|cause| Fallen {
        unborn: placement::is_beyond_namespace(plan, cause.errno),
        error: report::stillborn(cause),
    })?;
    setting.children.born(pid);
    let pidfd = pidfd_open(pid).with(|| format!("pidfd_open({pid})"))?;
    Ok(Born {
        process: ProcessHandle::new(pid, pidfd),
        ending,
        beside,
    })
}
