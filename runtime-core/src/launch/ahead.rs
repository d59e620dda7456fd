//! What of a launch can be done before its plan is made?

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use crate::bundle::Bundle;
use crate::plan::Plan;
use crate::plan::namespaces::flag_of;
use crate::sys::birth::{LaunchThread, When};

const NEW_NETWORK: u64 = libc::CLONE_NEWNET as u64;
const NEW_USERS: u64 = libc::CLONE_NEWUSER as u64;

/// What a Create that is under way has made besides a network, which is had by the clone in a tenth of a millisecond.
const BESIDES: [LinuxNamespaceType; 3] = [
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Uts,
];

/// A launch thread that makes the container's network namespace while its plan is still being made: the kernel takes
/// half a millisecond for one.
#[derive(Debug, Default)]
pub struct Ahead(Mutex<Begun>);

#[derive(Debug, Default)]
enum Begun {
    #[default]
    Nothing,
    Launch(LaunchThread),
    /// Somebody reads a config.json for it.
    Reading(JoinHandle<Option<LaunchThread>>),
}

impl Ahead {
    /// Begins one where the plan of this spec will ask for it, with other namespaces of the spec. Where it can't be begun
    /// the launch finds out the same.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        match wanted(spec) {
            0 => Self::default(),
            flags => Self::with(LaunchThread::begin(flags, When::Now).ok()),
        }
    }

    /// Begins one for a bundle that a create will come for.
    #[must_use]
    pub fn expecting(bundle: &Path) -> Self {
        let bundle = bundle.to_owned();
        let read = move || {
            let namespaces = Bundle::open(&bundle).map(|bundle| bundle.namespaces());
            let begins = namespaces.is_ok_and(|namespaces| is_for_us(&namespaces));
            let begin = || LaunchThread::begin(NEW_NETWORK, When::Sometime).ok();
            begins.then(begin).flatten()
        };
        let reader = std::thread::Builder::new().name("expect".into());
        let reader = reader.stack_size(READERS_STACK).spawn(read);
        Self(Mutex::new(reader.map_or(Begun::Nothing, Begun::Reading)))
    }

    fn with(thread: Option<LaunchThread>) -> Self {
        Self(Mutex::new(thread.map_or(Begun::Nothing, Begun::Launch)))
    }

    /// The thread, once, for a plan that can use what it makes.
    pub(super) fn thread_for(&self, plan: &Plan) -> Option<LaunchThread> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = match std::mem::take(&mut *kept) {
            Begun::Nothing => None,
            Begun::Launch(thread) => Some(thread),
            Begun::Reading(reader) => reader.join().ok().flatten(),
        };
        // One that is joined is entered later, whatever the thread is in before.
        let joined = plan.joins.iter().fold(0, |all, join| all | join.flags);
        let leaves = plan.clone_flags | joined;
        let fits = |thread: &LaunchThread| leaves & (NEW_USERS | thread.makes()) == thread.makes();
        match thread {
            Some(thread) if !fits(&thread) => {
                thread.leave_alone();
                None
            }
            thread => thread,
        }
    }
}

/// Who reads a config.json at most.
const READERS_STACK: usize = 512 << 10;

/// A launch thread that was begun before the spec was read.
#[derive(Debug)]
pub struct Soon(Option<LaunchThread>);

impl Soon {
    /// Begins one. What nearly all specs ask for it makes at once, and a network where one is `likely`: made for nothing it
    /// costs the kernel half a millisecond twice.
    #[must_use]
    pub fn begin(likely: bool) -> Self {
        let network = if likely { NEW_NETWORK } else { 0 };
        let at_once = BESIDES
            .into_iter()
            .fold(network, |all, kind| all | flag_of(kind));
        Self(LaunchThread::begin(at_once, When::Soon).ok())
    }

    /// Nobody makes a container after all: it ends when it can, and is not waited for.
    pub fn leave_alone(self) {
        if let Some(thread) = self.0 {
            thread.leave_alone();
        }
    }

    /// Has it make what the plan of this spec will ask for.
    #[must_use]
    pub fn of(self, spec: &Spec) -> Ahead {
        if let Some(thread) = &self.0 {
            thread.make(wanted(spec) & !thread.makes());
        }
        Ahead::with(self.0)
    }
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
