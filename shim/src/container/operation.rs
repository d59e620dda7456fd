//! Work that blocks: one thread for each operation, and a note of what waits since when.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Instant;

use nix::sys::signal::SigSet;
use tokio::sync::oneshot;
use ttrpc::Code;

use crate::failure::{Failure, Result};

/// Only touched pages cost anything; the deepest caller is the parser of config.json.
const STACK: usize = 1 << 20;

/// Runs `act` on a thread of its own, never on one of a pool that others could fill. A caller that is dropped
/// does not stop it. A panic in it is an Internal failure of this operation alone.
pub async fn blocking<T: Send + 'static>(
    name: &'static str,
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    let body = move || {
        // Signals are for the main thread: an operation need not be interrupted by every SIGCHLD.
        let _ = SigSet::all().thread_block();
        let _ = answer.send(act());
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(body)
        .map_err(|e| {
            Failure::new(
                Code::RESOURCE_EXHAUSTED,
                format!("no thread to {name} on: {e}"),
            )
        })?;
    answered
        .await
        .map_err(|_| Failure::new(Code::INTERNAL, format!("{name} panicked")))
}

/// What a container is waiting for, for the state dump.
#[derive(Debug, Default)]
pub struct Operations {
    next: Cell<u64>,
    open: RefCell<BTreeMap<u64, (String, Instant)>>,
}

impl Operations {
    /// Notes that `what` has begun, until the returned guard is dropped.
    pub fn begin(&self, what: impl Into<String>) -> InProgress<'_> {
        let key = self.next.get();
        self.next.set(key + 1);
        self.open
            .borrow_mut()
            .insert(key, (what.into(), Instant::now()));
        InProgress {
            operations: self,
            key,
        }
    }

    /// One text for each that is under way.
    pub fn describe(&self) -> Vec<String> {
        let open = self.open.borrow();
        open.values()
            .map(|(what, since)| format!("{what} for {:.1} s", since.elapsed().as_secs_f32()))
            .collect()
    }
}

/// An operation under way.
#[derive(Debug)]
pub struct InProgress<'a> {
    operations: &'a Operations,
    key: u64,
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.operations.open.borrow_mut().remove(&self.key);
    }
}
