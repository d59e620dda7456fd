//! What may come near a container that is being made?
use std::fs;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::runtime::wait_at_most;
use rsrun_tests::cli::suite::Suite;

use crate::life::{PATIENCE, background};

pub(crate) fn cases(suite: &mut Suite) {
    suite.case(
        "nobody_joins_an_init_on_its_way_to_the_program_of_run",
        |g| {
            g.differs_from_runc("that an init on its way is told by a flag of the kernel's")?;
            let mut b = g.bundle();
            b.args(&["/bin/true"]).write();
            // It may be through before it is stopped.
            for _ in 0..200 {
                let mut run = background(&b, "run");
                let Some(init) = stopped_on_its_way(&b, &mut run) else {
                    assert_eq!(wait_at_most(run, PATIENCE), Some(0));
                    continue;
                };
                // Its record may not be there yet, or hold a pid already.
                let status = b.status();
                let joined = b.on(&["exec"], &["/bin/true"]);
                kill(init, Signal::SIGCONT).expect("it lives");
                assert_eq!(wait_at_most(run, PATIENCE), Some(0));
                assert_eq!(status, "creating");
                let said = joined.refused();
                assert!(said.contains("creating"), "{said}");
                return Ok(());
            }
            panic!("no init could be stopped before its execve");
        },
    );
    suite.case(
        "a_word_that_is_not_the_command_makes_nothing_that_stays",
        |g| {
            let mut b = g.bundle();
            b.hold();
            let mut exec = b.runtime().command(["exec"]);
            exec.arg(&b.id)
                .args(["/bin/sh", "-c", "echo runs; read line", "run"]);
            let streams = exec.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut exec = streams.spawn().expect("the runtime starts");
            let mut line = [0; 5];
            let told = exec.stdout.as_mut().map(|out| out.read_exact(&mut line));
            // One that was begun for nothing ends when the kernel has made what it is at.
            let deadline = Instant::now() + PATIENCE;
            let mut alone = false;
            while !alone && Instant::now() < deadline {
                alone = !threads(exec.id()).iter().any(|name| name == "launch\n");
                std::thread::sleep(Duration::from_millis(5));
            }
            // Its program reads to the end.
            drop(exec.stdin.take());
            wait_at_most(exec, PATIENCE);
            assert!(told.is_some_and(|read| read.is_ok()) && &line == b"runs\n");
            assert!(alone, "a launch thread lives beside an exec");
            Ok(())
        },
    );
}

/// Names of the threads of a process.
fn threads(pid: u32) -> Vec<String> {
    let all = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    all.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok())
        .collect()
}

/// Stops the init of a `run` before its execve. `None` where it is through.
fn stopped_on_its_way(b: &Bundle<'_>, run: &mut Child) -> Option<nix::unistd::Pid> {
    let first = || {
        let pids = fs::read_to_string(b.cgroup("cgroup.procs")).ok()?;
        Some(nix::unistd::Pid::from_raw(
            pids.lines().next()?.parse().ok()?,
        ))
    };
    let init = loop {
        match (first(), run.try_wait()) {
            (Some(pid), _) => break pid,
            (None, Ok(None)) => {}
            _ => return None,
        }
    };
    kill(init, Signal::SIGSTOP).ok()?;
    // The parent goes on without it: what it records by itself is there then.
    std::thread::sleep(Duration::from_millis(20));
    let stat = fs::read_to_string(format!("/proc/{init}/stat")).ok()?;
    let flags = stat
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(6)?
        .parse::<u32>();
    let has_executed = flags.ok()? & libc::PF_FORKNOEXEC.cast_unsigned() == 0;
    if has_executed {
        let _ = kill(init, Signal::SIGCONT);
        return None;
    }
    Some(init)
}
