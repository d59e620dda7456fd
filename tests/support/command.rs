//! How does a test run a program? With a deadline, and with all it said kept.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rsrun_core::sys::pidfd::pidfd_open;

use crate::pace::patient;
use crate::suite::{Check, fail};

/// Named here, it is linked in, and the standard library starts programs by posix_spawn also where they have a working
/// directory. In a static program it forks without it, which costs a large process milliseconds.
const CHANGES_DIRECTORY: unsafe extern "C" fn(
    *mut libc::posix_spawn_file_actions_t,
    *const libc::c_char,
) -> libc::c_int = libc::posix_spawn_file_actions_addchdir_np;

/// What a program left.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// The same as it came, for what is no text.
    pub bytes: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// The outcome itself when the code is 0.
    pub fn ok(self) -> Check<Outcome> {
        self.code(0)
    }

    /// The outcome itself when the code is `code`.
    pub fn code(self, code: i32) -> Check<Outcome> {
        if self.code == code {
            return Ok(self);
        }
        fail(format!(
            "exit code {} instead of {code}; stdout: {}; stderr: {}",
            self.code, self.stdout, self.stderr
        ))
    }

    /// The outcome itself when the program failed and `word` is in its stderr.
    pub fn refused(self, word: &str) -> Check<Outcome> {
        let said = self.stderr.to_lowercase();
        if self.code != 0 && said.contains(&word.to_lowercase()) {
            return Ok(self);
        }
        fail(format!(
            "exit code {}, no {word:?} in stderr: {}",
            self.code, self.stderr
        ))
    }
}

/// A program that runs beside the test. Killed when dropped.
pub struct Running {
    child: Child,
    shown: String,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

/// Starts `command` with its output kept; stdin stays as the caller set it.
pub fn spawn(command: &mut Command) -> Check<Running> {
    spawn_with(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
}

/// Starts `command` with stdin, stdout and stderr as the caller set them.
pub fn spawn_with(command: &mut Command) -> Check<Running> {
    std::hint::black_box(CHANGES_DIRECTORY);
    let shown = format!("{command:?}");
    let mut child = command.spawn().map_err(|e| format!("start {shown}: {e}"))?;
    let stdout = child.stdout.take().map(drain);
    let stderr = child.stderr.take().map(drain);
    Ok(Running {
        child,
        shown,
        stdout,
        stderr,
    })
}

/// Runs `command` to its end, without input, within `limit`.
pub fn run(command: &mut Command, limit: Duration) -> Check<Outcome> {
    spawn(command.stdin(Stdio::null()))?.finish(limit)
}

impl Running {
    /// The program's pid.
    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap_or(i32::MAX))
    }

    /// Writes to the program's stdin, which must be piped.
    pub fn write(&mut self, bytes: &[u8]) -> Check {
        match self.child.stdin.as_mut() {
            Some(stdin) => Ok(stdin.write_all(bytes)?),
            None => fail("stdin is not piped"),
        }
    }

    /// Closes the program's stdin.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end; past `limit` the program is killed and the test fails.
    pub fn finish(mut self, limit: Duration) -> Check<Outcome> {
        let status = match self.ended_within(patient(limit))? {
            Some(status) => status,
            None => {
                // SIGKILL, not SIGTERM: ctr hands signals on to the container.
                let _ = self.child.kill();
                let _ = self.child.wait();
                let said = [self.stdout.take(), self.stderr.take()].map(collect);
                let said = said.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                return fail(format!(
                    "no end after {limit:?}: {}; it said {said:?}",
                    self.shown
                ));
            }
        };
        use std::os::unix::process::ExitStatusExt;
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let bytes = collect(self.stdout.take());
        let stderr = collect(self.stderr.take());
        Ok(Outcome {
            code,
            stdout: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }

    /// How it ended, told at once: measurements of whole programs go through here.
    fn ended_within(&mut self, limit: Duration) -> Check<Option<ExitStatus>> {
        let pidfd = pidfd_open(self.pid().as_raw())?;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut ends = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            let _ = poll(
                &mut ends,
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
            );
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        // An error ends the output like an end of file: the rest is lost anyway.
        let _ = from.read_to_end(&mut all);
        all
    })
}

fn collect(reader: Option<JoinHandle<Vec<u8>>>) -> Vec<u8> {
    reader.and_then(|r| r.join().ok()).unwrap_or_default()
}

/// Waits until `ready` holds, looking every 10 ms.
pub fn eventually(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Check {
    let deadline = Instant::now() + patient(limit);
    while !ready() {
        if Instant::now() > deadline {
            return fail(format!("not within {limit:?}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
