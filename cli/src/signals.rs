//! Signals by name or number, and their way to a container in the foreground.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rsrun_core::{Cancel, Context, Error, Result};

/// A signal as users write it: `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub fn parse(text: &str) -> Result<i32> {
    let unknown = || Error::invalid(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    for (name_of_base, base) in [("RTMIN", 34), ("RTMAX", 64)] {
        let Some(rest) = name.strip_prefix(name_of_base) else {
            continue;
        };
        let offset = match rest {
            "" => Ok(0),
            _ => rest.parse::<i32>().map_err(|_| unknown()),
        }?;
        let signal = offset.checked_add(base);
        return signal
            .filter(|signal| (34..=64).contains(signal))
            .ok_or_else(unknown);
    }
    format!("SIG{name}")
        .parse::<Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| unknown())
}

const FLAGS: SfdFlags = SfdFlags::SFD_CLOEXEC.union(SfdFlags::SFD_NONBLOCK);

/// All signals of this process as a descriptor, so that they can be forwarded.
pub struct Incoming(SignalFd);

impl Incoming {
    /// Blocks and collects them. Those that tell of faults in this process stay as they are.
    pub fn collect() -> Result<Self> {
        let mut set = SigSet::all();
        for own in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGTRAP,
            Signal::SIGABRT,
        ] {
            set.remove(own);
        }
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).with(|| "sigprocmask()")?;
        Ok(Self(
            SignalFd::with_flags(&set, FLAGS).with(|| "signalfd()")?,
        ))
    }

    /// Gives an operation up when a signal comes that asks this process to end. It stays to be read.
    pub fn cancel(&self) -> Result<Cancel> {
        let mut set = SigSet::empty();
        for end in [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
        ] {
            set.add(end);
        }
        let ends = SignalFd::with_flags(&set, FLAGS).with(|| "signalfd()")?;
        let ends = ends.as_fd().try_clone_to_owned();
        let ends = ends.map_err(|e| Error::invalid(format!("dup(signalfd): {e}")))?;
        Ok(Cancel::when_readable(ends))
    }

    /// The next that has come.
    pub fn next(&self) -> Result<Option<i32>> {
        match self.0.read_signal() {
            Ok(Some(signal)) => Ok(i32::try_from(signal.ssi_signo).ok()),
            Ok(None) | Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(Error::os(errno, "read(signalfd)")),
        }
    }
}

impl AsFd for Incoming {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGKILL", 9),
            ("usr1", 10),
            ("0", 0),
            ("64", 64),
            ("RTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in [
            "", "-1", "65", "NOPE", "SIG", "9x", "RTMIN-33", "RTMIN+31", "RTMAX+1",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
