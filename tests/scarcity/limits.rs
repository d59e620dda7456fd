//! A shim in a cgroup with little in it. Needs the controllers.

use std::fs;
use std::path::PathBuf;

use nix::unistd::Pid;
use rsrun_tests::by_hand::ByHand;
use rsrun_tests::cases;
use rsrun_tests::ground;
use rsrun_tests::life::{Life, STEPS, Went};
use rsrun_tests::pace;
use rsrun_tests::suite::{Case, Check, fail, skip};
use rsrun_tests::task::{INIT, Streams};

use crate::squeezed::sweep;

/// What a shim may take in all, with what the kernel keeps for it.
const MEMORY: u64 = 6 << 20;
const EXECS: usize = 200;

/// Processes and memory.
pub fn cases() -> Vec<Case<ByHand>> {
    cases![600 s: no_processes, six_megabytes]
}

fn no_processes(s: &ByHand) -> Check {
    let group = limited(s)?;
    sweep(s, &[0, 1, 2, 3], |shim, left| {
        enter(&group, shim)?;
        let now: u64 = fs::read_to_string(group.join("pids.current"))?
            .trim()
            .parse()?;
        fs::write(group.join("pids.max"), (now + left).to_string())?;
        let file = group.join("pids.max");
        Ok(Box::new(move || Ok(fs::write(file, "max")?)))
    })
}

fn six_megabytes(s: &ByHand) -> Check {
    let group = limited(s)?;
    fs::write(group.join("memory.max"), MEMORY.to_string())?;
    let life = Life::prepare(s, format!("{}-0", s.ctr_ns()))?;
    let started = s.start(&life.id)?;
    let (task, shim) = life.connect(&started)?;
    // What it took before is with who started it; what it takes from here on counts.
    enter(&group, shim)?;
    for step in STEPS {
        match life.step(step, &task)? {
            Went::Well => {}
            other => return fail(format!("{step}: {other:?}: {}", events(&group))),
        }
        if step != "Exec" {
            continue;
        }
        for n in 0..pace::fewer(EXECS) {
            let id = format!("e{n}");
            let out = life.out.join(&id);
            let streams = Streams {
                stdout: format!("file://{}", out.display()),
                ..Streams::default()
            };
            task.exec(&id, &["/bin/sh", "-c", "seq 10000"], &streams)?;
            task.start(&id)?;
            assert_eq!(task.wait(&id)?.status, 0);
            task.delete(&id)?;
            let lines = fs::read_to_string(&out)?.lines().count();
            assert_eq!(lines, 10_000, "of {id}");
            fs::remove_file(&out)?;
        }
    }
    let _ = task.state(INIT);
    let (events, peak) = (
        events(&group),
        fs::read_to_string(group.join("memory.peak")),
    );
    println!("peak {} bytes", peak.unwrap_or_default().trim());
    life.give_up(&started, shim)?;
    life.over()?;
    match events.contains("oom_kill 0") {
        true => Ok(()),
        false => fail(events),
    }
}

fn events(group: &std::path::Path) -> String {
    fs::read_to_string(group.join("memory.events")).unwrap_or_default()
}

/// A cgroup beside those of the containers.
fn limited(s: &ByHand) -> Check<PathBuf> {
    if !ground::has_controllers() {
        return skip("needs the controllers on cgroup v2");
    }
    let group = PathBuf::from(format!("/sys/fs/cgroup/{}-shims", s.ctr_ns()));
    fs::create_dir(&group)?;
    Ok(group)
}

fn enter(group: &std::path::Path, shim: Pid) -> Check {
    Ok(fs::write(group.join("cgroup.procs"), shim.to_string())?)
}
