//! What does a hostile process do to a shared directory? It exchanges two names as fast as it can.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// Exchanges until it is dropped.
pub(crate) struct Exchange {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Exchange {
    /// Of two names that are there.
    pub(crate) fn of(one: &Path, other: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, one, other) = (stop.clone(), one.to_path_buf(), other.to_path_buf());
        let thread = std::thread::spawn(move || {
            let mut times = 0;
            while !asked.load(Ordering::Relaxed) {
                renameat2(
                    AT_FDCWD,
                    &one,
                    AT_FDCWD,
                    &other,
                    RenameFlags::RENAME_EXCHANGE,
                )
                .expect("two names");
                times += 1;
            }
            times
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends it; gives how often it was done.
    pub(crate) fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("not ended");
        thread.join().expect("the exchange")
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
