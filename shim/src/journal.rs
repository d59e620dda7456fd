//! Lines for containerd's journal: written to its fifo, dropped when nobody reads, never waited for.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::moment;

/// Formats records as containerd's own logger does and writes each with one write(2) to stderr.
struct Journal {
    ctr_ns: String,
    group: String,
    dropped: AtomicU64,
}

/// Makes `fifo` the stderr of this process and sends all records there. Opened for reading too, so that a
/// restart of containerd does not cost us the fifo, and non-blocking: 64 KiB that nobody reads must not stop a pod.
pub fn open(fifo: &Path, ctr_ns: &str, group: &str, debug: bool) {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(fifo);
    if let Ok(file) = opened {
        let _ = nix::unistd::dup2_stderr(file);
    }
    // It lives as long as the process, which needs no `std` feature of the crate.
    let journal: &'static Journal = Box::leak(Box::new(Journal {
        ctr_ns: ctr_ns.to_owned(),
        group: group.to_owned(),
        dropped: AtomicU64::new(0),
    }));
    if log::set_logger(journal).is_ok() {
        log::set_max_level(if debug {
            LevelFilter::Debug
        } else {
            LevelFilter::Info
        });
    }
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = self.line(record, SystemTime::now());
        if std::io::stderr().write_all(line.as_bytes()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

impl Journal {
    fn line(&self, record: &Record<'_>, now: SystemTime) -> String {
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        let dropped = match self.dropped.swap(0, Ordering::Relaxed) {
            0 => String::new(),
            lost => format!(" dropped={lost}"),
        };
        format!(
            "time=\"{}\" level={level} msg={:?} namespace={} id={}{dropped}\n",
            moment::rfc3339(now),
            record.args().to_string(),
            self.ctr_ns,
            self.group,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_whatever_it_says() {
        let journal = Journal {
            ctr_ns: "k8s.io".into(),
            group: "pod".into(),
            dropped: AtomicU64::new(3),
        };
        let line = journal.line(
            &Record::builder()
                .level(Level::Warn)
                .args(format_args!("two\nlines \"quoted\""))
                .build(),
            SystemTime::UNIX_EPOCH,
        );
        assert_eq!(
            line,
            "time=\"1970-01-01T00:00:00.000000000Z\" level=warning msg=\"two\\nlines \\\"quoted\\\"\" namespace=k8s.io id=pod dropped=3\n"
        );
    }
}
