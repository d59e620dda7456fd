//! `create`: the init stands at the gate when it returns.

use rsrun_core::{Created, Error, Result};

use super::{containers, never_cancelled, request, write_pid_file};
use crate::args::{Create, Global};
use crate::terminal;

/// `create`
pub fn run(global: &Global, create: &Create) -> Result<()> {
    let containers = containers(global)?;
    let cancel = never_cancelled()?;
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
    match (&created.console, &create.console_socket) {
        (Some(master), Some(socket)) => terminal::send_master(socket, master)?,
        (Some(_), None) => {
            return Err(Error::invalid(
                "cannot allocate tty for a detached container without a console socket (--console-socket)",
            ));
        }
        (None, Some(_)) => {
            return Err(Error::invalid(
                "cannot use a console socket (--console-socket): process.terminal is false",
            ));
        }
        (None, None) => {}
    }
    write_pid_file(create.pid_file.as_deref(), created.container.pid())
}
