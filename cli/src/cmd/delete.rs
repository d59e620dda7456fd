//! `delete`

use rsrun_core::{Cancel, ContainerId, Result};

use super::containers;
use crate::args::{Delete, Global};

/// `delete`
pub fn run(global: &Global, delete: &Delete) -> Result<()> {
    let containers = containers(global)?;
    let id = ContainerId::parse(&delete.id)?;
    let cancel = Cancel::new()?;
    if delete.force {
        return containers.force_delete(&id, &cancel).map(drop);
    }
    containers
        .delete(&containers.get(&id)?, false, &cancel)
        .map(drop)
}
