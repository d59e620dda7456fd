//! What of a launch can be done before its plan is made?

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use crate::bundle::Bundle;
use crate::plan::Plan;
use crate::plan::namespaces::flag_of;
use crate::sys::birth::{LaunchThread, told_soon};
use crate::sys::procfs;

const NEW_NETWORK: u64 = libc::CLONE_NEWNET as u64;
const NEW_USERS: u64 = libc::CLONE_NEWUSER as u64;

/// What Create still has to do, at most, when a network namespace is there.
const AWAKE: Duration = Duration::from_millis(1);

/// What a Create that is under way has made besides, which is had by the clone in a tenth of a millisecond.
const BESIDES: [LinuxNamespaceType; 3] = [
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Uts,
];

/// A launch thread that makes the container's network namespace while its plan is still being made: the kernel takes
/// half a millisecond for one.
#[derive(Debug, Default)]
pub struct Ahead(Mutex<Option<Begun>>);

#[derive(Debug)]
struct Begun {
    /// What it is in (CLONE_NEW* flags): a plan must have new ones of these, or join others.
    needs: u64,
    thread: LaunchThread,
    /// What it finds out besides.
    boot_id: Option<Receiver<String>>,
}

impl Ahead {
    /// Begins one where the plan of this spec will ask for it, with other namespaces of the spec. Where it can't be begun
    /// the launch finds out the same.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        match wanted(spec) {
            0 => Self::default(),
            flags => Self::on(begin(0, AWAKE, move || flags), flags, None),
        }
    }

    /// Begins one for a spec that is about to be read. What nearly all of them ask for it makes before.
    #[must_use]
    pub fn soon() -> Soon {
        let (tells, told) = channel();
        let (finds, boot_id) = channel();
        let makes = move || {
            // Until it is told it has nothing to do, and this is asked for by each create.
            drop(procfs::boot_id().map(|id| finds.send(id)));
            told_soon(&told, AWAKE).unwrap_or(0)
        };
        let at_once = BESIDES.into_iter().fold(0, |all, kind| all | flag_of(kind));
        Soon {
            thread: begin(at_once, AWAKE, makes),
            at_once,
            tells,
            boot_id,
        }
    }

    /// Begins one for a bundle that a create will come for.
    #[must_use]
    pub fn expecting(bundle: &Path) -> Self {
        let bundle = bundle.to_owned();
        let thread = begin(0, Duration::ZERO, move || {
            let namespaces = Bundle::open(&bundle).map(|bundle| bundle.namespaces());
            let begins = namespaces.is_ok_and(|namespaces| is_for_us(&namespaces));
            if begins { NEW_NETWORK } else { 0 }
        });
        Self::on(thread, NEW_NETWORK, None)
    }

    fn on(thread: Option<LaunchThread>, needs: u64, boot_id: Option<Receiver<String>>) -> Self {
        let begun = |thread| Begun {
            needs,
            thread,
            boot_id,
        };
        Self(Mutex::new(thread.map(begun)))
    }

    /// The id of this boot, where it was to be found out ahead and could be.
    #[must_use]
    pub fn boot_id(&self) -> Option<String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.as_mut().and_then(|begun| begun.boot_id.take());
        found.and_then(|found| found.recv().ok())
    }

    /// The thread, once, for a plan that can use what it makes.
    pub(super) fn thread_for(&self, plan: &Plan) -> Option<LaunchThread> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is joined is entered later, whatever the thread is in before.
        let joined = plan.joins.iter().fold(0, |all, join| all | join.flags);
        let leaves = plan.clone_flags | joined;
        let fits = |begun: &mut Begun| leaves & (NEW_USERS | begun.needs) == begun.needs;
        kept.take_if(fits).map(|begun| begun.thread)
    }
}

/// A launch thread that waits for what to make.
#[derive(Debug)]
pub struct Soon {
    thread: Option<LaunchThread>,
    at_once: u64,
    tells: Sender<u64>,
    boot_id: Receiver<String>,
}

impl Soon {
    /// Has it make what the plan of this spec will ask for.
    #[must_use]
    pub fn of(self, spec: &Spec) -> Ahead {
        let more = wanted(spec) & !self.at_once;
        // Nobody hears it where no thread could be begun.
        let _ = self.tells.send(more);
        Ahead::on(self.thread, self.at_once | more, Some(self.boot_id))
    }
}

fn begin(
    at_once: u64,
    awake: Duration,
    makes: impl FnOnce() -> u64 + Send + 'static,
) -> Option<LaunchThread> {
    let thread = LaunchThread::begin(at_once, makes, awake).ok();
    // Who only expects a create is about to sleep.
    thread
        .iter()
        .filter(|_| !awake.is_zero())
        .for_each(LaunchThread::apart);
    thread
}

/// What is made for a Create of this spec that is under way, as CLONE_NEW* flags.
fn wanted(spec: &Spec) -> u64 {
    let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
    namespaces.map_or(0, |namespaces| at_once(namespaces))
}

fn at_once(namespaces: &[LinuxNamespace]) -> u64 {
    if !is_for_us(namespaces) {
        return 0;
    }
    let besides = BESIDES.iter().filter(|kind| is_new(namespaces, **kind));
    besides.fold(NEW_NETWORK, |all, kind| all | flag_of(*kind))
}

/// Whether a new network namespace is asked for that belongs to our own user namespace; with a new user namespace it
/// has to be made by the clone.
fn is_for_us(namespaces: &[LinuxNamespace]) -> bool {
    is_new(namespaces, LinuxNamespaceType::Network)
        && !namespaces
            .iter()
            .any(|n| n.typ() == LinuxNamespaceType::User)
}

fn is_new(namespaces: &[LinuxNamespace], kind: LinuxNamespaceType) -> bool {
    namespaces
        .iter()
        .any(|n| n.typ() == kind && n.path().is_none())
}
