//! `create`: the init stands at the gate when it returns.

use rsrun_core::{Cancel, Created, Error, Result};

use super::{containers, request, write_pid_file};
use crate::args::{Create, Global};
use crate::terminal;

/// `create`
pub fn run(global: &Global, create: &Create) -> Result<()> {
    let containers = containers(global)?;
    let cancel = Cancel::new()?;
    let created = containers.create(request(global, create)?, &cancel)?;
    let finished = hand_over(create, &created);
    if finished.is_err() {
        // Nothing is left of a create that failed.
        containers.delete(&created.container, true, &cancel)?;
    }
    finished
}

/// The terminal to its socket, the pid to its file.
pub fn hand_over(create: &Create, created: &Created) -> Result<()> {
    super::warn(&created.warnings);
    if created.console.is_some() && create.console_socket.is_none() {
        return Err(Error::invalid(
            "cannot allocate tty for a detached container without a console socket (--console-socket)",
        ));
    }
    terminal::hand_over(created.console.as_ref(), create.console_socket.as_deref())?;
    write_pid_file(create.pid_file.as_deref(), created.container.pid())
}
