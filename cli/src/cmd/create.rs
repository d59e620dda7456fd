//! `create`: the init stands at the gate when it returns.

use oci_spec::runtime::Spec;
use rsrun_core::bundle::{Bundle, Loaded};
use rsrun_core::launch::{Ahead, Soon};
use rsrun_core::{Cancel, Context, CreateRequest, Created, Result};

use super::{absolute, containers, request, write_pid_file};
use crate::args::{Create, Global};
use crate::signals::Incoming;
use crate::terminal::{self, Ground};

/// `create`
pub fn run(global: &Global, create: &Create, soon: Option<Soon>) -> Result<()> {
    let read = Read::begin(create, soon)?;
    let containers = containers(global)?;
    let mut request = request(global, create)?;
    read.complete(&mut request, create, Ground::Back)?;
    let cancel = Incoming::collect()?.cancel()?;
    let created = containers.create(request, &cancel)?;
    let finished = hand_over(create, &created);
    if finished.is_err() {
        // Nothing is left of a create that failed.
        containers.delete(&created.container, true, &Cancel::new()?)?;
    }
    finished
}

/// A config.json, and what can be done ahead of its create.
pub struct Read {
    loaded: Loaded<Spec>,
    ahead: Ahead,
}

impl Read {
    /// Before all else: `soon` waits for what is in it.
    pub fn begin(create: &Create, soon: Option<Soon>) -> Result<Self> {
        let loaded = Bundle::open(&absolute(&create.bundle)?)
            .and_then(|bundle| bundle.load())
            .with(|| format!("create container {}", create.id))?;
        let ahead = match soon {
            Some(soon) => soon.of(&loaded.document),
            None => Ahead::of(&loaded.document),
        };
        Ok(Self { loaded, ahead })
    }

    /// Gives it to a request, and refuses a terminal that has nowhere to go.
    pub fn complete(
        self,
        request: &mut CreateRequest,
        create: &Create,
        ground: Ground,
    ) -> Result<()> {
        let process = self.loaded.document.process().as_ref();
        let wanted = process.and_then(|process| process.terminal());
        request.ahead = Some(self.ahead);
        request.loaded = Some(self.loaded);
        terminal::vet(
            wanted.unwrap_or(false),
            ground,
            create.console_socket.as_deref(),
        )
    }
}

/// The terminal to its socket, the pid to its file.
pub fn hand_over(create: &Create, created: &Created) -> Result<()> {
    super::warn(&created.warnings);
    terminal::hand_over(created.console.as_ref(), create.console_socket.as_deref())?;
    write_pid_file(create.pid_file.as_deref(), created.container.pid())
}
