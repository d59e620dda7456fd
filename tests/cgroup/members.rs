//! Who is in a cgroup, and does a signal reach them all?

use std::fs;
use std::time::Duration;

use rsrun_core::ErrorKind;
use rsrun_tests::cases;
use rsrun_tests::suite::{Case, Check};

use crate::scene::{LONG, Scene, refused, until};

pub fn cases() -> Vec<Case<Scene>> {
    cases![30 s:
        pids_are_those_of_all_levels,
        pids_of_a_threaded_branch_are_its_roots,
        a_signal_reaches_all_levels_and_later_ones,
        signal_zero_asks_and_sigkill_kills,
        a_frozen_cgroup_stays_frozen_after_a_signal;
    ]
}

fn pids_are_those_of_all_levels(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    assert!(cgroup.pids()?.is_empty());
    fs::create_dir_all(s.dir("a/b/c"))?;
    fs::create_dir_all(s.dir("a/empty"))?;
    let mut started: Vec<i32> = Vec::new();
    for name in ["a", "a/b", "a/b/c", "a/b/c"] {
        started.push(i32::try_from(s.shell(name, "exec sleep 100")?)?);
    }
    started.sort_unstable();
    assert_eq!(cgroup.pids()?, started);
    // More than one page of cgroup.procs.
    for _ in 0..50 {
        s.shell("a", "exec sleep 100")?;
    }
    assert_eq!(cgroup.pids()?.len(), 54);
    Ok(())
}

fn pids_of_a_threaded_branch_are_its_roots(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    fs::create_dir(s.dir("a/threads"))?;
    fs::write(s.dir("a/threads/cgroup.type"), "threaded")?;
    let pid = s.shell("a", "exec sleep 100")?;
    fs::write(s.dir("a/threads/cgroup.threads"), pid.to_string())?;
    assert_eq!(cgroup.pids()?, [i32::try_from(pid)?]);
    Ok(())
}

fn a_signal_reaches_all_levels_and_later_ones(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    fs::create_dir(s.dir("a/b"))?;
    let first = s.shell("a", "exec sleep 100")?;
    let second = s.shell("a/b", "exec sleep 100")?;
    s.shell("a/b", "while :; do (exec sleep 100 &) ; done")?;
    std::thread::sleep(Duration::from_millis(50));
    cgroup.signal_all(libc::SIGTERM)?;
    until("the end of all", || Ok(!cgroup.is_populated()?))?;
    assert_eq!((s.wait(first)?, s.wait(second)?), (-1, -1));
    Ok(())
}

fn signal_zero_asks_and_sigkill_kills(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    for signal in [0, libc::SIGKILL] {
        let error = refused(cgroup.signal_all(signal))?;
        assert!(
            matches!(error.kind(), ErrorKind::NotFound { .. }),
            "{error}"
        );
    }
    s.shell("a", "exec sleep 100")?;
    cgroup.signal_all(0)?;
    assert!(cgroup.is_populated()?);
    cgroup.signal_all(libc::SIGKILL)?;
    until("the end of all", || Ok(!cgroup.is_populated()?))
}

fn a_frozen_cgroup_stays_frozen_after_a_signal(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    let pid = s.shell("a", "trap 'exit 7' USR1; while :; do sleep 0.01; done")?;
    until("the trap", || caught_by(pid, libc::SIGUSR1))?;
    cgroup.freeze(LONG)?;
    cgroup.signal_all(libc::SIGUSR1)?;
    std::thread::sleep(Duration::from_millis(20));
    assert!(cgroup.is_frozen()? && cgroup.is_populated()?);
    cgroup.thaw(LONG)?;
    assert_eq!(s.wait(pid)?, 7);
    Ok(())
}

/// Whether the process has a handler for `signal`.
fn caught_by(pid: u32, signal: i32) -> Check<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .ok_or("no SigCgt")?;
    Ok(u64::from_str_radix(mask.trim(), 16)? & (1 << (signal - 1)) != 0)
}
