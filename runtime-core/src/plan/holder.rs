//! The plan of a process that only holds a user namespace, for id-mapped mounts.

use rsrun_init::step::Step;

use super::namespaces::USER;
use super::{Adoption, IdMaps, Plan};

/// It waits for its maps, which the parent writes, and is then ended: whoever holds the namespace's file
/// keeps it alive.
#[must_use]
pub fn userns_holder(maps: &IdMaps) -> Plan {
    Plan {
        fds: Vec::new(),
        joins: Vec::new(),
        root: None,
        thread_affinity: None,
        keep_capabilities: None,
        clone_flags: USER,
        adoption: Adoption {
            maps: maps.clone(),
            ..Adoption::default()
        },
        steps: vec![Step::ResetSignals, Step::AwaitAdoption],
    }
}
