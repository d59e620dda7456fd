//! Which task or thread carries which stream, and what is closed when it has ended?

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rsrun_core::Result;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::console;
use super::file::{self, Source};
use super::life::Life;
use super::logger::Logger;
use super::meter::{Ending, Meter, Phase};
use super::prepare::{Input, Output, Sink, watch_failed};
use super::relay::{self, Short};
use super::stdio::{Kept, duplicate, lock};

/// The process that is copied for.
pub struct Site<'a> {
    /// Its id, for log lines.
    pub owner: &'a str,
    /// Whether it has ended.
    pub life: &'a Arc<Life>,
    /// What is to be kept until Delete.
    pub kept: &'a Kept,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
}

impl Site<'_> {
    /// Starts to carry stdin. Its end closes the process's pipe; a terminal is left as it is, for an EOT
    /// that nobody typed would end a shell.
    pub fn input(&self, input: Input) -> Result<JoinHandle<()>> {
        let to = match input.to {
            Some(pipe) => pipe,
            None => self.master()?,
        };
        let from = relay::source(input.fifo.read).map_err(watch_failed)?;
        let to = relay::destination(to).map_err(watch_failed)?;
        let ending = Ending(input.meter);
        let owner = self.owner.to_owned();
        Ok(tokio::spawn(async move {
            let result = relay::carry_until_end(&from, &to, Short::Moved, &ending.0).await;
            report(&owner, &ending.0, result);
        }))
    }

    /// Starts to carry output, each stream for itself, those that go to one file on its thread.
    pub fn outputs(&self, outputs: Vec<Output>, files: Vec<File>) -> Result<Vec<JoinHandle<()>>> {
        let mut tasks = Vec::new();
        let mut sources: Vec<Vec<Source>> = files.iter().map(|_| Vec::new()).collect();
        for Output { from, sink, meter } in outputs {
            let terminal = from.is_none();
            let from = match from {
                Some(pipe) => pipe,
                None => self.master()?,
            };
            match sink {
                Sink::File(number) => {
                    relay::set_nonblocking(&from).map_err(watch_failed)?;
                    let source = Source {
                        fd: from,
                        meter,
                        terminal,
                        kept: self.kept.clone(),
                    };
                    if let Some(list) = sources.get_mut(number) {
                        list.push(source);
                    }
                }
                Sink::Null => tasks.push(self.discard(from, meter)?),
                Sink::Fifo(fifo) => {
                    let to = relay::destination(fifo.write).map_err(watch_failed)?;
                    tasks.push(self.relay(from, to, Some(fifo.keep), meter, terminal)?);
                }
                Sink::Pipe(pipe) => {
                    let to = relay::destination(pipe).map_err(watch_failed)?;
                    tasks.push(self.relay(from, to, None, meter, terminal)?);
                }
            }
        }
        for (file, sources) in files.into_iter().zip(sources) {
            file::spawn(self.owner.to_owned(), file, sources, self.life.clone())?;
        }
        Ok(tasks)
    }

    /// Starts to watch a logger.
    pub fn logger(&self, logger: Logger, meter: Arc<Meter>) -> JoinHandle<()> {
        meter.set(Phase::AwaitsInput);
        let life = self.life.clone();
        // Outside of the task: it may be aborted before it runs.
        let ending = Ending(meter);
        tokio::spawn(async move {
            logger.watch(&life, &ending.0).await;
        })
    }

    fn relay(
        &self,
        from: OwnedFd,
        to: AsyncFd<OwnedFd>,
        keep: Option<OwnedFd>,
        meter: Arc<Meter>,
        terminal: bool,
    ) -> Result<JoinHandle<()>> {
        meter.set(Phase::AwaitsInput);
        let ending = Ending(meter);
        let from = relay::source(from).map_err(watch_failed)?;
        let (owner, life, kept) = (self.owner.to_owned(), self.life.clone(), self.kept.clone());
        Ok(tokio::spawn(async move {
            let result = if terminal {
                console::relay_output(&from, &to, &life, &ending.0).await
            } else {
                relay::carry_until_end(&from, &to, Short::Merged, &ending.0).await
            };
            report(&owner, &ending.0, result);
            if terminal {
                lock(&kept).console = None;
            }
            drop((from, ending));
            if let Some(keep) = keep {
                until_read(&keep).await;
            }
            // With the last writer gone a reader sees the end.
            drop(to);
        }))
    }

    fn discard(&self, from: OwnedFd, meter: Arc<Meter>) -> Result<JoinHandle<()>> {
        meter.set(Phase::AwaitsInput);
        let ending = Ending(meter);
        let from = relay::source(from).map_err(watch_failed)?;
        let (owner, life, kept) = (self.owner.to_owned(), self.life.clone(), self.kept.clone());
        Ok(tokio::spawn(async move {
            let result = console::discard_output(&from, &life, &ending.0).await;
            report(&owner, &ending.0, result);
            lock(&kept).console = None;
        }))
    }

    fn master(&self) -> Result<OwnedFd> {
        match &self.console {
            Some(master) => duplicate(master),
            None => Err(rsrun_core::Error::new(
                rsrun_core::ErrorKind::Internal,
                "a stream without a pipe and without a terminal",
            )),
        }
    }
}

/// Longest time that a client which has read everything waits for the end.
const END_WITHIN: Duration = Duration::from_millis(200);

/// Waits until nothing is left in a fifo; Delete ends it where nobody comes to read. Both its ends stay open
/// meanwhile: a client that comes back opens it as one does, and open(2) waits for a writer. Nothing tells of
/// reading from a pipe that was not full, so it is looked at.
async fn until_read(keep: &OwnedFd) {
    let mut pause = Duration::from_millis(1);
    while relay::has_input(keep) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(END_WITHIN);
    }
}

/// Logs why a stream ended, unless its reader or writer simply left.
fn report(owner: &str, meter: &Meter, result: io::Result<()>) {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            log::warn!("{owner}: copy {}: {error}", meter.name());
        }
        _ => {}
    }
}
