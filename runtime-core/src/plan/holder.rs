//! The plans of processes that only stand in a user namespace for a moment: in a new one, which whoever holds its
//! file then keeps alive, or in one that exists, to see its maps.

use std::path::Path;

use rsrun_init::step::Step;

use super::draft::Draft;
use super::namespaces::USER;
use super::{Adoption, FdSource, IdMaps, Plan};

/// It waits for its maps, which the parent writes, and is then ended.
#[must_use]
pub fn userns_holder(maps: &IdMaps) -> Plan {
    let mut draft = Draft::default();
    draft.clone_flags = USER;
    draft.adoption = Adoption {
        maps: maps.clone(),
        ..Adoption::default()
    };
    draft.step(Step::ResetSignals);
    draft.step(Step::AwaitAdoption);
    draft.finish()
}

/// It joins the namespace whose file is at `path`, and is ended when the parent has read its maps.
#[must_use]
pub fn userns_visitor(path: &Path) -> Plan {
    let mut draft = Draft::default();
    draft.step(Step::ResetSignals);
    // Whoever is root in there must not take it over.
    draft.step(Step::Undumpable);
    let fd = draft.fd(FdSource::Namespace {
        path: path.to_owned(),
        flag: USER,
    });
    draft.step(Step::JoinNamespace { fd, flag: USER });
    draft.step(Step::AwaitAdoption);
    draft.finish()
}
