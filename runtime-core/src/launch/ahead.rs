//! What of a launch can be done before its plan is made?

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use crate::bundle::Bundle;
use crate::plan::Plan;
use crate::sys::birth::LaunchThread;

const NEW_NETWORK: u64 = libc::CLONE_NEWNET as u64;
const NEW_USERS: u64 = libc::CLONE_NEWUSER as u64;

/// A launch thread that makes the container's network namespace while its plan is still being made: the kernel takes
/// half a millisecond for one.
#[derive(Debug, Default)]
pub struct Ahead(Mutex<Option<LaunchThread>>);

impl Ahead {
    /// Begins one where the plan of this spec will ask for it. Where it can't be begun the launch finds out the same.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
        if namespaces.is_some_and(|namespaces| is_for_us(namespaces)) {
            Self::begin(|| NEW_NETWORK)
        } else {
            Self::default()
        }
    }

    /// Begins one for a bundle that a create is about to come for. Its config.json is read on the thread; what can't
    /// be read has nothing made, and the create tells why.
    #[must_use]
    pub fn expecting(bundle: &Path) -> Self {
        let bundle = bundle.to_owned();
        Self::begin(move || {
            let namespaces = Bundle::open(&bundle).map(|bundle| bundle.namespaces());
            let begins = namespaces.is_ok_and(|namespaces| is_for_us(&namespaces));
            if begins { NEW_NETWORK } else { 0 }
        })
    }

    fn begin(namespaces: impl FnOnce() -> u64 + Send + 'static) -> Self {
        Self(Mutex::new(LaunchThread::begin(namespaces).ok()))
    }

    /// The thread, once, for a plan that can use what it has made.
    pub(super) fn thread_for(&self, plan: &Plan) -> Option<LaunchThread> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = plan.clone_flags & NEW_NETWORK != 0 && plan.clone_flags & NEW_USERS == 0;
        if fits { kept.take() } else { None }
    }
}

/// Whether a new network namespace is asked for that belongs to our own user namespace; with a new user namespace it
/// has to be made by the clone.
fn is_for_us(namespaces: &[LinuxNamespace]) -> bool {
    let all = || namespaces.iter();
    all().any(|n| n.typ() == LinuxNamespaceType::Network && n.path().is_none())
        && !all().any(|n| n.typ() == LinuxNamespaceType::User)
}
