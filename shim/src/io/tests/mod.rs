//! What the tests of streams share: a directory, a client with fifos, and a process that writes.

mod files;
mod loggers;
mod pipes;
mod terminals;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{DrainLimits, Launch, Request};

/// A directory that is removed with everything in it.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rsrun-io-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(fs::canonicalize(path).unwrap())
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn fifo(&self, name: &str) -> String {
        let path = self.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o700)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// How many descriptors of this process lead into the directory.
    pub fn descriptors(&self) -> usize {
        links().filter(|link| link.starts_with(&self.0)).count()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn links() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
}

/// How many descriptors of this process are ends of the pipe that `end` is of.
pub fn ends_of(pipe: &Path) -> usize {
    links().filter(|link| link == pipe).count()
}

/// The name of the pipe that `end` is of.
pub fn name_of(end: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    fs::read_link(format!("/proc/self/fd/{}", end.as_raw_fd())).unwrap()
}

pub fn no_logger() -> Launch {
    Arc::new(|_| panic!("no logger was asked for"))
}

pub fn request() -> Request {
    Request {
        process_id: "box".into(),
        ctr_ns: "tests".into(),
        ..Request::default()
    }
}

pub fn limits(quiet: u64, total: u64) -> DrainLimits {
    DrainLimits {
        quiet: Duration::from_millis(quiet),
        total: Duration::from_millis(total),
    }
}

/// A client's end of a fifo, opened as clients do: without waiting.
pub fn reader(path: &str) -> File {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .unwrap();
    let flags = nix::fcntl::OFlag::empty();
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    file
}

/// Count and digest of everything up to the end.
pub fn digest_of(mut file: File) -> JoinHandle<(usize, [u8; 32])> {
    std::thread::spawn(move || {
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut count = 0;
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => return (count, digest.finalize().into()),
                n => {
                    count += n;
                    digest.update(&buffer[..n]);
                }
            }
        }
    })
}

/// Writes `total` bytes that differ from page to page, in pieces of `piece`, and closes.
pub fn write_pattern(fd: OwnedFd, total: usize, piece: usize) -> JoinHandle<(usize, [u8; 32])> {
    std::thread::spawn(move || {
        let mut file = File::from(fd);
        let mut digest = Sha256::new();
        let mut written = 0;
        let mut state = 0x9e37_79b9_u32;
        let mut bytes = vec![0; piece];
        while written < total {
            for byte in &mut bytes {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                *byte = state as u8;
            }
            let size = piece.min(total - written);
            file.write_all(&bytes[..size]).unwrap();
            digest.update(&bytes[..size]);
            written += size;
        }
        (written, digest.finalize().into())
    })
}

/// How often this thread has gone to sleep so far.
pub fn sleeps() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .unwrap();
    line.trim().parse().unwrap()
}

/// Waits for a thread without blocking the runtime of the test.
pub async fn joined<T>(thread: JoinHandle<T>) -> T {
    while !thread.is_finished() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    thread.join().unwrap()
}
