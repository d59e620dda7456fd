//! `create`: the init stands at the gate when it returns.

use rsrun_core::bundle::Bundle;
use rsrun_core::launch::{Ahead, Soon};
use rsrun_core::{Cancel, Context, CreateRequest, Created, Result};

use super::{containers, request, write_pid_file};
use crate::args::{Create, Global};
use crate::signals::Incoming;
use crate::terminal::{self, Ground};

/// `create`
pub fn run(global: &Global, create: &Create) -> Result<()> {
    let soon = Ahead::soon();
    let containers = containers(global)?;
    let mut request = request(global, create)?;
    read(&mut request, create, Ground::Back, soon)?;
    let cancel = Incoming::collect()?.cancel()?;
    let created = containers.create(request, &cancel)?;
    let finished = hand_over(create, &created);
    if finished.is_err() {
        // Nothing is left of a create that failed.
        containers.delete(&created.container, true, &Cancel::new()?)?;
    }
    finished
}

/// Reads config.json, begins what can be done ahead, and refuses a terminal that has nowhere to go.
pub fn read(
    request: &mut CreateRequest,
    create: &Create,
    ground: Ground,
    soon: Soon,
) -> Result<()> {
    let loaded = Bundle::open(&request.bundle)
        .and_then(|bundle| bundle.load())
        .with(|| format!("create container {}", request.id))?;
    request.ahead = Some(soon.of(&loaded.document));
    let process = loaded.document.process().as_ref();
    let wanted = process.and_then(|process| process.terminal());
    request.loaded = Some(loaded);
    terminal::vet(
        wanted.unwrap_or(false),
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
