//! How does the serving process hear of signals?
//!
//! By descriptors, with the signals blocked: a handler that writes to a socket or a pipe needs memory for it, and a
//! SIGCHLD that was lost for want of it would be an exit that nobody is told of. signalfd(2) reads what the kernel
//! has noted already. Nor does a signal interrupt any call of this process.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::time::sleep;

use crate::io::watch;

/// Has `signals` wait until they are read. Before there is another thread, which would not wait: signals go to
/// any thread of a process that takes them. What is executed for a container begins with an empty mask.
pub fn block(signals: &[Signal]) -> nix::Result<()> {
    signals.iter().copied().collect::<SigSet>().thread_block()
}

/// Signals that are blocked, as they come.
pub struct Signals(AsyncFd<OwnedFd>);

impl Signals {
    /// Of these signals.
    pub fn of(signals: &[Signal]) -> io::Result<Self> {
        let set: SigSet = signals.iter().copied().collect();
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let fd = SignalFd::with_flags(&set, flags)?;
        Ok(Self(watch(fd.into(), Interest::READABLE)?))
    }

    /// Waits for one; takes all that have come.
    pub async fn heard(&self) {
        loop {
            match self.taken().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    log::error!("signals: {error}");
                    sleep(Duration::from_secs(1)).await;
                    // What could not be read may be there.
                    return;
                }
            }
        }
    }

    /// Still counts as ready after an error: no news would come of what is there already.
    async fn taken(&self) -> io::Result<bool> {
        let mut ready = self.0.readable().await?;
        let taken = take_all(self.0.get_ref())?;
        ready.clear_ready_matching(Ready::READABLE);
        Ok(taken)
    }
}

/// Whether there was one.
fn take_all(fd: &OwnedFd) -> io::Result<bool> {
    let mut any = false;
    // A signalfd_siginfo is 128 bytes; of each signal one waits at most.
    let mut notes = [0; 8 * 128];
    loop {
        match nix::unistd::read(fd, &mut notes) {
            Ok(0) | Err(nix::errno::Errno::EAGAIN) => return Ok(any),
            Ok(_) => any = true,
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
