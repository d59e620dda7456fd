//! What is a stream doing, and how much has it carried? Written by whoever copies, read by drains
//! and state dumps.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::moment::Moment;

/// What a stream is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Copying has not begun.
    Prepared,
    /// Nothing to copy: the writer has written nothing new.
    AwaitsInput,
    /// The other side is full: its reader has not read.
    AwaitsReader,
    /// Over.
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Now {
    phase: Phase,
    since: Instant,
    copied: u64,
}

/// One stream's phase and counts.
#[derive(Debug)]
pub struct Meter {
    name: &'static str,
    now: Mutex<Now>,
    copied: AtomicU64,
    lost: AtomicU64,
    ends: watch::Sender<u32>,
}

impl Meter {
    /// A stream that is not copied yet; `ends` is told when it is over.
    pub fn new(name: &'static str, ends: watch::Sender<u32>) -> Arc<Self> {
        Arc::new(Self {
            name,
            now: Mutex::new(Now {
                phase: Phase::Prepared,
                since: Instant::now(),
                copied: 0,
            }),
            copied: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            ends,
        })
    }

    /// `stdin`, `stdout`, `stderr`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its phase, and since when.
    pub fn phase(&self) -> (Phase, Instant) {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        (now.phase, now.since)
    }

    /// Notes what it is at; "since when" stays if nothing was copied in between.
    pub fn set(&self, phase: Phase) {
        let copied = self.copied();
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.phase == Phase::Ended || (now.phase == phase && now.copied == copied) {
            return;
        }
        *now = Now {
            phase,
            since: Instant::now(),
            copied,
        };
        drop(now);
        if phase == Phase::Ended {
            self.ends.send_modify(|ends| *ends += 1);
        }
    }

    /// Counts bytes that were handed on.
    pub fn add_copied(&self, bytes: usize) {
        self.copied.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that could not be handed on; their sum so far.
    pub fn add_lost(&self, bytes: usize) -> u64 {
        self.lost.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64
    }

    /// Bytes handed on.
    pub fn copied(&self) -> u64 {
        self.copied.load(Ordering::Relaxed)
    }

    /// Bytes that could not be handed on.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (phase, since) = self.phase();
        let words = match phase {
            Phase::Prepared => "not started",
            Phase::AwaitsInput => "waits for its writer",
            Phase::AwaitsReader => "waits for its reader",
            Phase::Ended => "ended",
        };
        write!(
            f,
            "{} {words} {}, {} bytes copied, {} lost",
            self.name,
            Moment::of(since),
            self.copied(),
            self.lost()
        )
    }
}

/// Ends its stream when the task or thread that copies is over, however that came.
pub struct Ending(pub Arc<Meter>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.set(Phase::Ended);
    }
}
