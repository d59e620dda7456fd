//! `create`: the init stands at the gate when it returns.

use rsrun_core::bundle::Bundle;
use rsrun_core::launch::Ahead;
use rsrun_core::{Cancel, Created, Result};

use super::{absolute, containers, request, write_pid_file};
use crate::args::{Create, Global};
use crate::signals::Incoming;
use crate::terminal::{self, Ground};

/// `create`
pub fn run(global: &Global, create: &Create) -> Result<()> {
    let containers = containers(global)?;
    let mut request = request(global, create)?;
    request.ahead = Some(Ahead::of_bundle(&request.bundle));
    vet_terminal(create, Ground::Back)?;
    let cancel = Incoming::collect()?.cancel()?;
    let created = containers.create(request, &cancel)?;
    let finished = hand_over(create, &created);
    if finished.is_err() {
        // Nothing is left of a create that failed.
        containers.delete(&created.container, true, &Cancel::new()?)?;
    }
    finished
}

/// Refuses a terminal that has nowhere to go.
pub fn vet_terminal(create: &Create, ground: Ground) -> Result<()> {
    let bundle = Bundle::open(&absolute(&create.bundle)?)?;
    terminal::vet(
        bundle.wants_terminal(),
        ground,
        create.console_socket.as_deref(),
    )
}

/// The terminal to its socket, the pid to its file.
pub fn hand_over(create: &Create, created: &Created) -> Result<()> {
    super::warn(&created.warnings);
    terminal::hand_over(created.console.as_ref(), create.console_socket.as_deref())?;
    write_pid_file(create.pid_file.as_deref(), created.container.pid())
}
