//! What does a shim do while its container does nothing?

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use rsrun_tests::command;
use rsrun_tests::suite::Check;

/// strace beside one process.
pub struct Watch {
    pid: u32,
    strace: command::Running,
    into: PathBuf,
    before: u64,
}

/// Begins to count the system calls of all threads of `pid`.
pub fn watch(pid: u32, name: &str) -> Check<Watch> {
    let into = PathBuf::from(format!("/run/{name}.strace"));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-p", &pid.to_string(), "-o"]).arg(&into);
    let strace = command::spawn(&mut strace)?;
    // What attaching itself wakes is not counted: calls that were under way are shown as restarted.
    std::thread::sleep(Duration::from_secs(1));
    fs::write(&into, "")?;
    Ok(Watch {
        pid,
        strace,
        into,
        before: rsrun_tests::proc::voluntary_switches(pid),
    })
}

impl Watch {
    /// System calls, and times that a thread went to sleep again, since the beginning.
    pub fn end(self) -> Check<(f64, f64)> {
        let after = rsrun_tests::proc::voluntary_switches(self.pid);
        let lines = fs::read_to_string(&self.into)?;
        let calls = lines.lines().filter(|l| l.contains('(')).count();
        kill(self.strace.pid(), Signal::SIGINT)?;
        self.strace.finish(Duration::from_secs(10))?;
        Ok((calls as f64, after.saturating_sub(self.before) as f64))
    }
}
