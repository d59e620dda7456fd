//! What of a launch can be done before its plan is made?

use std::sync::{Mutex, PoisonError};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::plan::Plan;
use crate::sys::birth::LaunchThread;

const NEW_NETWORK: u64 = libc::CLONE_NEWNET as u64;
const NEW_USERS: u64 = libc::CLONE_NEWUSER as u64;

/// A launch thread that makes the container's network namespace while its plan is still being made: the kernel takes
/// half a millisecond for one.
#[derive(Debug, Default)]
pub struct Ahead(Mutex<Option<LaunchThread>>);

impl Ahead {
    /// Begins one where a new network namespace belongs to our own user namespace; with a new user namespace it has to
    /// be made by the clone. Where it can't be begun the launch finds out the same.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let listed = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
        let is_new = |kind: LinuxNamespaceType| {
            let mut all = listed.into_iter().flatten();
            all.any(|n| n.typ() == kind && n.path().is_none())
        };
        let has_users = listed
            .into_iter()
            .flatten()
            .any(|n| n.typ() == LinuxNamespaceType::User);
        let begins = is_new(LinuxNamespaceType::Network) && !has_users;
        let thread = begins
            .then(|| LaunchThread::begin(NEW_NETWORK).ok())
            .flatten();
        Self(Mutex::new(thread))
    }

    /// The thread, once, for a plan that makes what it has made.
    pub(super) fn thread_for(&self, plan: &Plan) -> Option<LaunchThread> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = plan.clone_flags & NEW_NETWORK != 0 && plan.clone_flags & NEW_USERS == 0;
        if fits { kept.take() } else { None }
    }
}
