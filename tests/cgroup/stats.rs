//! Are the statistics those of the kernel, and quick to have?

use std::time::{Duration, Instant};

use rsrun_core::cgroup::stats::UNLIMITED;
use rsrun_tests::cases;
use rsrun_tests::suite::{Case, Check};

use crate::scene::{Scene, until};

pub fn cases() -> Vec<Case<Scene>> {
    cases![60 s:
        time_is_counted_without_any_controller,
        what_has_no_controller_is_absent,
        memory_and_pids_are_those_of_the_files,
        all_files_take_no_longer_than_reading_each_by_path;
    ]
}

fn time_is_counted_without_any_controller(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    s.shell("a", "while :; do :; done")?;
    until("processor time", || {
        let times = cgroup.stats()?.cpu.times;
        Ok(times.usage_usec > 10_000 && times.user_usec + times.system_usec > 0)
    })
}

fn what_has_no_controller_is_absent(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    let stats = cgroup.stats()?;
    let has = |name| cgroup.controllers().has(name);
    assert_eq!(stats.memory.is_some(), has("memory"));
    assert_eq!(stats.memory_events.is_some(), has("memory"));
    assert_eq!(stats.pids.is_some(), has("pids"));
    assert_eq!(stats.io.is_some(), has("io"));
    assert_eq!(stats.hugetlb.is_empty(), !has("hugetlb"));
    Ok(())
}

fn memory_and_pids_are_those_of_the_files(s: &Scene) -> Check {
    s.needs(&["memory", "pids"])?;
    let cgroup = s.cgroup("a")?;
    s.apply(
        &cgroup,
        r#"{"memory":{"limit":104857600},"pids":{"limit":9}}"#,
    )?;
    s.shell("a", "exec sleep 100")?;
    s.shell("a", "exec sleep 100")?;
    until("two processes", || {
        Ok(cgroup.stats()?.pids.is_some_and(|pids| pids.current == 2))
    })?;
    let stats = cgroup.stats()?;
    let memory = stats.memory.ok_or("no memory")?;
    assert_eq!(memory.usage_limit, 104_857_600);
    assert_eq!(stats.pids.map(|pids| pids.limit), Some(9));
    assert!(memory.usage > 0 && memory.stat.pgfault > 0, "{memory:?}");
    if s.dir("a/memory.swap.max").exists() {
        assert_eq!(memory.swap_limit, UNLIMITED);
    }
    assert_eq!(
        memory.psi.is_some(),
        std::path::Path::new("/proc/pressure").exists()
    );
    Ok(())
}

fn all_files_take_no_longer_than_reading_each_by_path(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    s.shell("a", "exec sleep 100")?;
    // Those that every cgroup v2 with these controllers has.
    let files: Vec<_> = [
        "cpu.stat",
        "cpu.pressure",
        "memory.current",
        "memory.max",
        "memory.stat",
        "memory.pressure",
        "memory.events",
        "io.stat",
        "io.pressure",
        "pids.current",
        "pids.max",
    ]
    .iter()
    .map(|file| s.dir("a").join(file))
    .collect();
    // The quickest of many: what else runs on the machine is no property of ours.
    let (mut ours, mut plain) = (Duration::MAX, Duration::MAX);
    for _ in 0..200 {
        let began = Instant::now();
        cgroup.stats()?;
        ours = ours.min(began.elapsed());
        let began = Instant::now();
        for file in &files {
            // One that is lacking costs its open here as it does there.
            std::fs::read_to_string(file).map(drop).unwrap_or_default();
        }
        plain = plain.min(began.elapsed());
    }
    println!("statistics in {ours:?}, the plain files in {plain:?}");
    // An emulated processor pays more for parsing than for entering the kernel; what
    // this is to catch, a file read line by line or a directory walked, costs tens.
    assert!(ours < plain * 4, "{ours:?} against {plain:?}");
    Ok(())
}
