//! How is a terminal's output carried to a fifo or logger, up to the last byte and not beyond?
//!
//! A master reads EIO when no slave is open. That is the end only after the process's exit: before,
//! somebody may open `/dev/console` again (an init system does). After the exit whatever the kernel still holds is
//! read, and "nothing there" is the end as well, for a process left in the background may hold the slave for ever
//! while the client waits for the end of output before it asks for Delete.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use super::life::Life;
use super::meter::{Meter, Phase};
use super::relay::{self, Room};

/// How often a terminal that nobody has open is looked at. The descriptor reports a hang-up for as long as
/// it lasts, so there is no event to wait for.
const REOPENED_WITHIN: Duration = Duration::from_millis(250);
/// Bytes taken at once from output that goes nowhere; the kernel hands out no more per call.
const DISCARDED_AT_ONCE: usize = 4096;

/// Carries output from `master` to `to` (a pipe or fifo) until the terminal is over.
pub async fn relay_output(
    master: &AsyncFd<OwnedFd>,
    to: &AsyncFd<OwnedFd>,
    life: &Life,
    meter: &Meter,
) -> io::Result<()> {
    let mut room = Room::new();
    meter.set(Phase::AwaitsInput);
    loop {
        let exited = life.is_exited();
        let input = readable(master, life).await?;
        let mut output = to.writable().await?;
        match relay::splice_once(master.get_ref(), to.get_ref()) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                meter.add_copied(count);
                tokio::task::consume_budget().await;
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EIO) if exited => return Ok(()),
            Err(Errno::EIO) => all_closed(life).await,
            Err(Errno::EAGAIN) => {
                // Both are asked: a reader may have made room since, and that is no reason to think that there is
                // no input.
                let ready = relay::ready(master.as_fd(), to.as_fd())?;
                if !ready.output {
                    if !room.grow(to) {
                        meter.set(Phase::AwaitsReader);
                        output.clear_ready();
                    }
                } else if ready.input {
                    tokio::task::yield_now().await;
                } else if let Some(mut guard) = input {
                    meter.set(Phase::AwaitsInput);
                    guard.clear_ready();
                } else if exited {
                    return Ok(());
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reads and forgets a terminal's output, so that its processes do not block on a full one.
pub async fn discard_output(
    master: &AsyncFd<OwnedFd>,
    life: &Life,
    meter: &Meter,
) -> io::Result<()> {
    let mut buffer = [0; DISCARDED_AT_ONCE];
    meter.set(Phase::AwaitsInput);
    loop {
        let exited = life.is_exited();
        let input = readable(master, life).await?;
        match nix::unistd::read(master, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                meter.add_copied(count);
                tokio::task::consume_budget().await;
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EIO) if exited => return Ok(()),
            Err(Errno::EIO) => all_closed(life).await,
            Err(Errno::EAGAIN) => match input {
                Some(mut guard) => {
                    meter.set(Phase::AwaitsInput);
                    guard.clear_ready();
                }
                None if exited => return Ok(()),
                None => {}
            },
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Waits for input; None once the process has exited, when what is there is there.
async fn readable<'a>(
    master: &'a AsyncFd<OwnedFd>,
    life: &Life,
) -> io::Result<Option<AsyncFdReadyGuard<'a, OwnedFd>>> {
    if life.is_exited() {
        return Ok(None);
    }
    tokio::select! {
        guard = master.readable() => guard.map(Some),
        () = life.exited() => Ok(None),
    }
}

async fn all_closed(life: &Life) {
    let _ = tokio::time::timeout(REOPENED_WITHIN, life.exited()).await;
}
