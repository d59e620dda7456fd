//! One process's streams as its actor sees them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rsrun_core::{Context, Error, ErrorKind, Result, Streams};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::copy;
use super::life::Life;
use super::meter::{Meter, Phase};
use super::prepare::{self, Prepared};
use super::{DrainLimits, Drained, Launch, Request};

/// How long the thread of a log file may go on after it was told to stop: its disk may not answer.
const THREAD_ENDS_WITHIN: Duration = Duration::from_secs(2);

/// The streams of one process. See the module's drawing for the order of calls.
pub struct Stdio {
    owner: String,
    terminal: bool,
    life: Arc<Life>,
    ends: watch::Sender<u32>,
    state: Mutex<State>,
    kept: Kept,
}

/// What outlives the copying until Delete: the terminal's master, for its size.
pub type Kept = Arc<Mutex<KeptFds>>;

/// See [`Kept`].
#[derive(Default)]
pub struct KeptFds {
    /// For resize.
    pub console: Option<OwnedFd>,
}

struct State {
    prepared: Option<Prepared>,
    /// Keeps the end of stdin from being seen.
    stdin_open: Option<OwnedFd>,
    size: Option<(u16, u16)>,
    stdin: Option<(Arc<Meter>, Option<JoinHandle<()>>)>,
    outputs: Vec<Arc<Meter>>,
    tasks: Vec<JoinHandle<()>>,
    logger: Option<JoinHandle<()>>,
}

impl Stdio {
    /// Checks the request, opens what it names and makes the pipes; the process's ends are in
    /// [`Streams`]. Waits up to 30 s for a reader of a fifo, and for a logger to be ready; dropping
    /// the future gives up and closes everything.
    ///
    /// `InvalidArgument` for a string that is no path or URI that we serve, `Denied` for a logger or
    /// file that the policy does not allow, `Timeout` where nobody reads.
    pub async fn prepare(request: &Request, launch: &Launch) -> Result<(Self, Streams)> {
        let ends = watch::Sender::new(0);
        let (mut prepared, streams) = prepare::prepare(request, launch, &ends).await?;
        let stdin_open = prepared
            .stdin
            .as_mut()
            .and_then(|stdin| stdin.fifo.keep.take());
        let outputs = prepared
            .outputs
            .iter()
            .map(|output| output.meter.clone())
            .chain(prepared.logger.iter().map(|(_, meter)| meter.clone()))
            .collect();
        let state = State {
            stdin: prepared
                .stdin
                .as_ref()
                .map(|stdin| (stdin.meter.clone(), None)),
            prepared: Some(prepared),
            stdin_open,
            size: None,
            outputs,
            tasks: Vec::new(),
            logger: None,
        };
        let stdio = Self {
            owner: request.process_id.clone(),
            terminal: request.terminal,
            life: Arc::new(Life::new()?),
            ends,
            state: Mutex::new(state),
            kept: Kept::default(),
        };
        Ok((stdio, streams))
    }

    /// Takes the master of the terminal; a size that was set before is applied now.
    pub fn attach_console(&self, master: OwnedFd) -> Result<()> {
        if let Some((width, height)) = self.state().size {
            set_size(&master, width, height)?;
        }
        lock(&self.kept).console = Some(master);
        Ok(())
    }

    /// Begins to copy. After the core has the process's ends, so that their closing is seen.
    pub fn start_copy(&self) -> Result<()> {
        let mut state = self.state();
        let Some(prepared) = state.prepared.take() else {
            return Ok(());
        };
        let console = match (self.terminal, &lock(&self.kept).console) {
            (false, _) => None,
            (true, Some(master)) => Some(duplicate(master)?),
            (true, None) => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "copying of a terminal began without its master",
                ));
            }
        };
        let site = copy::Site {
            owner: &self.owner,
            life: &self.life,
            kept: &self.kept,
            console,
        };
        if let Some(input) = prepared.stdin {
            let task = site.input(input)?;
            if let Some((_, slot)) = &mut state.stdin {
                *slot = Some(task);
            }
        }
        state.tasks = site.outputs(prepared.outputs, prepared.files)?;
        state.logger = prepared
            .logger
            .map(|(logger, meter)| site.logger(logger, meter));
        Ok(())
    }

    /// Lets the process see the end of stdin once the client has closed its end. Idempotent.
    pub fn close_stdin(&self) {
        self.state().stdin_open = None;
    }

    /// Sets the size of the terminal, or remembers it until there is one; without a terminal no effect.
    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        if !self.terminal {
            return Ok(());
        }
        self.state().size = Some((width, height));
        match &lock(&self.kept).console {
            Some(master) => set_size(master, width, height),
            None => Ok(()),
        }
    }

    /// The process has ended. A terminal is read until it is empty and then closed, even if another
    /// process still has it open; pipes end when their last writer closes them.
    pub fn exited(&self) {
        if self.terminal {
            self.stop_stdin();
        }
        self.life.set_exited();
    }

    /// Waits until all output has been handed on, within `limits`. Several callers may wait.
    pub async fn drain(&self, limits: DrainLimits) -> Drained {
        self.stop_stdin();
        self.life.set_exited();
        let began = Instant::now();
        let last = began + limits.total;
        let mut ends = self.ends.subscribe();
        loop {
            ends.borrow_and_update();
            let unfinished = self.unfinished();
            if unfinished.is_empty() {
                return Drained::Complete;
            }
            let patience = unfinished
                .iter()
                .map(|meter| match meter.phase() {
                    (Phase::AwaitsInput, since) => began.max(since.into()) + limits.quiet,
                    _ => last,
                })
                .max()
                .map_or(last, |until| until.min(last));
            if Instant::now() >= patience {
                return Drained::Unfinished(unfinished.iter().map(ToString::to_string).collect());
            }
            let _ = timeout_at(patience, ends.changed()).await;
        }
    }

    /// Closes everything at once, whatever is still under way; a logger is told to end (SIGTERM, SIGKILL
    /// after 12 s). Returns when all descriptors are closed. Idempotent.
    pub async fn force_close(&self) {
        self.stop_stdin();
        self.life.set_exited();
        self.life.set_stopped();
        let (prepared, tasks, logger) = {
            let mut state = self.state();
            (
                state.prepared.take(),
                std::mem::take(&mut state.tasks),
                state.logger.take(),
            )
        };
        drop(prepared);
        for task in &tasks {
            task.abort();
        }
        for task in tasks.into_iter().chain(logger) {
            let _ = task.await;
        }
        self.threads_ended().await;
        *lock(&self.kept) = KeptFds::default();
    }

    /// Nothing is being copied any more (or never was).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.unfinished().is_empty()
    }

    /// One line per stream for a state dump: what it waits for, since when, bytes copied and lost.
    #[must_use]
    pub fn describe(&self) -> String {
        let state = self.state();
        state
            .stdin
            .iter()
            .map(|(meter, _)| meter)
            .chain(&state.outputs)
            .map(|meter| format!("{} {meter}\n", self.owner))
            .collect()
    }

    fn unfinished(&self) -> Vec<Arc<Meter>> {
        let state = self.state();
        let open = |meter: &&Arc<Meter>| !matches!(meter.phase().0, Phase::Ended | Phase::Prepared);
        state.outputs.iter().filter(open).cloned().collect()
    }

    fn stop_stdin(&self) {
        let mut state = self.state();
        state.stdin_open = None;
        if let Some(prepared) = &mut state.prepared {
            prepared.stdin = None;
        }
        if let Some((_, Some(task))) = &state.stdin {
            task.abort();
        }
    }

    async fn threads_ended(&self) {
        let deadline = Instant::now() + THREAD_ENDS_WITHIN;
        let mut ends = self.ends.subscribe();
        while !self.is_idle() {
            if timeout_at(deadline, ends.changed()).await.is_err() {
                log::warn!("{}: a log file's disk does not answer", self.owner);
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        self.life.set_stopped();
        self.stop_stdin();
        let state = self.state();
        for task in state.tasks.iter().chain(&state.logger) {
            task.abort();
        }
    }
}

/// The value behind a lock; whoever panicked left it as good as any other.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A copy with a number of its own.
pub fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().map_err(|error| {
        Error::new(ErrorKind::Exhausted, "duplicate a descriptor").caused_by(error)
    })
}

fn set_size(master: &OwnedFd, width: u16, height: u16) -> Result<()> {
    rsrun_core::sys::terminal::set_window_size(master.as_fd(), width, height)
        .with(|| format!("ioctl(master, TIOCSWINSZ, {width}x{height})"))
}
