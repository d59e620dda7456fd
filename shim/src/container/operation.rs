//! Work that blocks: one thread for each operation, and a note of what is waited for, for whom, since when.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use nix::sys::signal::SigSet;
use rsrun_core::stage::Stages;
use tokio::sync::oneshot;
use ttrpc::Code;

use crate::failure::{Failure, Result};
use crate::moment::Moment;
use crate::pending;

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

/// What is waited for on behalf of a container.
#[derive(Debug, Default)]
pub struct Operations {
    next: Cell<u64>,
    open: RefCell<BTreeMap<u64, Noted>>,
}

/// One thing that is waited for.
#[derive(Clone, Debug)]
pub struct Noted {
    /// Number of the request that it is done for; nobody's if something came by itself.
    pub request: Option<u64>,
    what: String,
    since: Moment,
    stages: Stages,
}

impl Operations {
    /// Notes that `what` has begun, until the returned guard is dropped.
    pub fn begin(&self, what: impl Into<String>) -> InProgress<'_> {
        self.begin_in(what, &Stages::default())
    }

    /// The same for what the core does and tells the stages of.
    pub fn begin_in(&self, what: impl Into<String>, stages: &Stages) -> InProgress<'_> {
        let key = self.next.get();
        self.next.set(key + 1);
        let noted = Noted {
            request: pending::current(),
            what: what.into(),
            since: Moment::now(),
            stages: stages.clone(),
        };
        self.open.borrow_mut().insert(key, noted);
        InProgress {
            operations: self,
            key,
        }
    }

    /// All that is under way, what began first first.
    pub fn noted(&self) -> Vec<Noted> {
        self.open.borrow().values().cloned().collect()
    }
}

impl std::fmt::Display for Noted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.what, self.since)?;
        for stage in self.stages.now() {
            write!(f, ": {} {}", stage.what, Moment::of(stage.since))?;
        }
        Ok(())
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
