//! How is a logging program started, watched and ended, and what becomes of output when it dies?
//!
//! The container writes into the pipes that the program reads; nothing passes through this process. It keeps
//! a reading end of each all the same: when the program dies, the container gets no SIGPIPE, and what is in the pipes
//! waits for the program's next run. After [`RESTARTS`] of them its output is read and counted as lost.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read};
use rsrun_core::sys::pidfd::pidfd_send_signal;
use rsrun_core::{Context, Error, ErrorKind, Result};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::life::Life;
use super::meter::{Meter, Phase};
use super::relay;
use super::uri::{LoggerUri, Readiness};
use super::{Launch, Program};

/// How long a logger may take to say that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Between SIGTERM and SIGKILL.
const ENDS_WITHIN: Duration = Duration::from_secs(12);
/// How long a logger may go on after the last byte and the end of both pipes.
const LINGERS: Duration = Duration::from_secs(1);
/// How often one that died is started again, after 1, 2 and 3 seconds.
const RESTARTS: u32 = 3;
/// How often the pipes of a container that has ended are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A logging program of one process.
pub struct Logger {
    order: Order,
    /// Our copies of what it reads: stdout, stderr. Never read from while it lives, and left blocking, for
    /// they are the same open files as its own.
    pipes: [OwnedFd; 2],
    process: Process,
}

/// What is started, as often as it must be.
pub struct Order {
    /// For log lines: the process that it logs.
    pub owner: String,
    /// The program.
    pub uri: LoggerUri,
    /// `CONTAINER_ID`, `CONTAINER_NAMESPACE`.
    pub env: Vec<OsString>,
    /// Who launches it.
    pub launch: Launch,
}

impl Logger {
    /// Starts the program on the reading ends of stdout and stderr and waits until it is ready.
    pub async fn start(order: Order, pipes: [OwnedFd; 2]) -> Result<Self> {
        let during = || format!("start logger {}", order.uri.path.display());
        let process = order.launch(&pipes).await.with(during)?;
        Ok(Self {
            order,
            pipes,
            process,
        })
    }

    /// Watches the program until it is over: by itself after the last writer has closed, or because it is
    /// time to stop.
    pub async fn watch(mut self, life: &Life, meter: &Meter) {
        meter.set(Phase::AwaitsInput);
        let mut restarts = 0;
        loop {
            tokio::select! {
                biased;
                () = self.process.ended() => {}
                () = life.stopped() => return self.end().await,
                () = self.finished(life, meter) => return self.end().await,
            }
            if self.pipes.iter().all(at_end) {
                return;
            }
            let owner = &self.order.owner;
            if restarts == RESTARTS {
                log::warn!("{owner}: logger died again, output is lost from here on");
                return discard(self.pipes, life, meter).await;
            }
            restarts += 1;
            log::warn!("{owner}: logger died, it is started again in {restarts} s");
            let again = async {
                sleep(Duration::from_secs(restarts.into())).await;
                self.order.launch(&self.pipes).await
            };
            tokio::select! {
                launched = again => match launched {
                    Ok(process) => self.process = process,
                    Err(error) => log::warn!("{owner}: start logger again: {error}"),
                },
                () = life.stopped() => return,
            }
        }
    }

    /// The container has ended, its output was read to the end, and the program goes on nevertheless.
    async fn finished(&self, life: &Life, meter: &Meter) {
        life.exited().await;
        let mut since = None;
        loop {
            if self.pipes.iter().any(relay::has_input) {
                meter.set(Phase::AwaitsReader);
            } else {
                meter.set(Phase::AwaitsInput);
            }
            if self.pipes.iter().all(at_end) {
                let end = *since.get_or_insert_with(Instant::now);
                if end.elapsed() >= LINGERS {
                    return;
                }
            }
            sleep(LOOK).await;
        }
    }

    async fn end(&self) {
        self.process.signal(libc::SIGTERM);
        if timeout(ENDS_WITHIN, self.process.ended()).await.is_err() {
            log::warn!("{}: logger did not end on SIGTERM", self.order.owner);
            self.process.signal(libc::SIGKILL);
            let deadline = Instant::now() + Duration::from_secs(1);
            let _ = timeout_at(deadline, self.process.ended()).await;
        }
    }
}

impl Order {
    /// Launches the program and waits until it is ready.
    async fn launch(&self, pipes: &[OwnedFd; 2]) -> Result<Process> {
        let (ready, tells) = pipe2(OFlag::O_CLOEXEC).with(|| "pipe2(O_CLOEXEC)")?;
        let mut fds = Vec::with_capacity(3);
        for pipe in pipes {
            let copy = pipe.try_clone().map_err(|error| {
                Error::new(ErrorKind::Exhausted, "duplicate a pipe").caused_by(error)
            })?;
            fds.push(copy);
        }
        fds.push(tells);
        let path = self.uri.path.clone();
        let mut args = vec![path.clone().into_os_string()];
        args.extend(self.uri.args.iter().cloned());
        let program = Program {
            path,
            args,
            env: self.env.clone(),
            fds,
        };
        let process = Process::adopt(on_thread(self.launch.clone(), program).await?)?;
        match timeout(READY_WITHIN, until_ready(ready, self.uri.readiness)).await {
            Ok(result) => result.map(|()| process),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!("it was not ready within {} s", READY_WITHIN.as_secs()),
            )),
        }
    }
}

/// A launch takes milliseconds in which this thread has other containers to serve.
async fn on_thread(launch: Launch, program: Program) -> Result<Unwatched> {
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new()
        .name("launch-logger".into())
        .spawn(move || {
            let launched = launch(program).map(|launched| Unwatched(Some(launched.pidfd)));
            // When nobody waits any more, dropping it kills it.
            let _ = tell.send(launched);
        })
        .map_err(|error| Error::new(ErrorKind::Exhausted, "start a thread").caused_by(error))?;
    told.await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Internal,
            "the launch of a logger panicked",
        ))
    })
}

/// A program that was just launched; killed when dropped.
struct Unwatched(Option<OwnedFd>);

impl Drop for Unwatched {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.0 {
            let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
}

/// A running program; killed when dropped.
struct Process(AsyncFd<OwnedFd>);

impl Process {
    fn adopt(mut launched: Unwatched) -> Result<Self> {
        let pidfd = launched
            .0
            .take()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a logger was adopted twice"))?;
        relay::watch(pidfd, Interest::READABLE)
            .map(Self)
            .map_err(|error| Error::new(ErrorKind::Exhausted, "watch a logger").caused_by(error))
    }

    async fn ended(&self) {
        let _ = self.0.readable().await;
    }

    fn signal(&self, signal: i32) {
        // Fails only when it has ended.
        let _ = pidfd_send_signal(self.0.get_ref().as_fd(), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
    }
}

async fn until_ready(pipe: OwnedFd, readiness: Readiness) -> Result<()> {
    let failed = |error| Error::new(ErrorKind::Internal, "wait for a logger").caused_by(error);
    let pipe: AsyncFd<OwnedFd> = relay::source(pipe).map_err(failed)?;
    loop {
        let mut guard = pipe.readable().await.map_err(failed)?;
        match read(pipe.get_ref(), &mut [0]) {
            Ok(0) if readiness == Readiness::Byte => {
                return Err(Error::invalid(
                    "it did not call ready: its descriptor 5 was closed",
                ));
            }
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN) => guard.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::os(errno, "read(ready pipe)")),
        }
    }
}

/// Empty, and no writer left.
fn at_end(pipe: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::ZERO);
    fds.iter()
        .all(|fd| fd.revents() == Some(PollFlags::POLLHUP))
}

async fn discard(pipes: [OwnedFd; 2], life: &Life, meter: &Meter) {
    let [stdout, stderr] = pipes;
    tokio::select! {
        _ = async { tokio::join!(discard_one(stdout, meter), discard_one(stderr, meter)) } => {}
        () = life.stopped() => {}
    }
}

async fn discard_one(pipe: OwnedFd, meter: &Meter) -> std::io::Result<()> {
    let pipe = relay::source(pipe)?;
    let mut buffer = [0; 4096];
    loop {
        let mut guard = pipe.readable().await?;
        match read(pipe.get_ref(), &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                meter.add_lost(count);
                tokio::task::consume_budget().await;
            }
            Err(Errno::EAGAIN) => guard.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Shares the order's parts that a caller builds from a request.
pub fn order(owner: &str, uri: LoggerUri, ctr_ns: &str, launch: &Launch) -> Order {
    Order {
        owner: owner.to_owned(),
        uri,
        env: vec![
            format!("CONTAINER_ID={owner}").into(),
            format!("CONTAINER_NAMESPACE={ctr_ns}").into(),
        ],
        launch: Arc::clone(launch),
    }
}
