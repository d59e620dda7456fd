//! Do limits arrive in the kernel, and what if it refuses one?

use std::fs;

use rsrun_core::ErrorKind;
use rsrun_core::cgroup::MemoryEvents;
use rsrun_tests::cases;
use rsrun_tests::suite::{Case, Check, skip};

use crate::scene::{LONG, Scene, polled, refused};

pub fn cases() -> Vec<Case<Scene>> {
    cases![60 s:
        limits_are_what_the_files_say,
        default_values_change_nothing_and_need_nothing,
        a_period_alone_keeps_the_quota,
        a_burst_above_the_old_quota_comes_with_its_quota,
        an_idle_cgroup_has_its_weight_again_afterwards,
        a_refused_value_names_file_value_and_place,
        a_refused_update_leaves_everything_as_it_was,
        check_before_update_refuses_less_than_is_used,
        unified_values_are_written_line_by_line,
        pids_limit_holds,
        huge_pages_are_limited,
        block_devices_are_limited_and_limits_taken_away,
        an_oom_kill_wakes_a_poll_of_memory_events,
        memory_is_lowered_while_swap_is_still_allowed;
    ]
}

fn limits_are_what_the_files_say(s: &Scene) -> Check {
    s.needs(&["cpu", "memory", "pids"])?;
    let cgroup = s.cgroup("a")?;
    s.apply(
        &cgroup,
        r#"{"cpu":{"shares":512,"quota":50000,"period":200000},
            "memory":{"limit":104857600,"swap":104857600,"reservation":52428800},
            "pids":{"limit":77}}"#,
    )?;
    for (file, value) in [
        ("cpu.weight", "59"),
        ("cpu.max", "50000 200000"),
        ("memory.max", "104857600"),
        ("memory.low", "52428800"),
        ("pids.max", "77"),
    ] {
        assert_eq!(s.read("a", file)?, value, "{file}");
    }
    if s.dir("a/memory.swap.max").exists() {
        assert_eq!(s.read("a", "memory.swap.max")?, "0");
    }
    assert!(
        s.update(&cgroup, r#"{"memory":{"limit":-1},"pids":{"limit":-1}}"#)?
            .is_ok()
    );
    assert_eq!(
        (s.read("a", "memory.max")?, s.read("a", "pids.max")?),
        ("max".into(), "max".into())
    );
    assert_eq!(s.read("a", "cpu.max")?, "50000 200000");
    Ok(())
}

fn default_values_change_nothing_and_need_nothing(s: &Scene) -> Check {
    let cgroup = s.cgroup("a")?;
    s.apply(
        &cgroup,
        r#"{"cpu":{"shares":1024,"quota":-1,"period":100000,"idle":0,"burst":0},
            "memory":{"limit":-1,"swap":-1,"reservation":0},"pids":{"limit":-1}}"#,
    )?;
    for (controller, file, value) in [
        ("cpu", "cpu.weight", "100"),
        ("cpu", "cpu.max", "max 100000"),
        ("memory", "memory.max", "max"),
        ("pids", "pids.max", "max"),
    ] {
        if cgroup.controllers().has(controller) {
            assert_eq!(s.read("a", file)?, value, "{file}");
        }
    }
    Ok(())
}

fn a_period_alone_keeps_the_quota(s: &Scene) -> Check {
    s.needs(&["cpu"])?;
    let cgroup = s.cgroup("a")?;
    s.apply(&cgroup, r#"{"cpu":{"quota":30000}}"#)?;
    assert!(s.update(&cgroup, r#"{"cpu":{"period":60000}}"#)?.is_ok());
    assert_eq!(s.read("a", "cpu.max")?, "30000 60000");
    assert!(s.update(&cgroup, r#"{"cpu":{"quota":20000}}"#)?.is_ok());
    assert_eq!(s.read("a", "cpu.max")?, "20000 60000");
    assert!(s.update(&cgroup, r#"{"cpu":{"quota":-1}}"#)?.is_ok());
    assert_eq!(s.read("a", "cpu.max")?, "max 60000");
    Ok(())
}

fn a_burst_above_the_old_quota_comes_with_its_quota(s: &Scene) -> Check {
    s.needs(&["cpu"])?;
    let cgroup = s.cgroup("a")?;
    if !s.dir("a/cpu.max.burst").exists() {
        return skip("the kernel has no cpu.max.burst");
    }
    s.apply(&cgroup, r#"{"cpu":{"quota":10000,"burst":5000}}"#)?;
    assert!(
        s.update(&cgroup, r#"{"cpu":{"quota":50000,"burst":40000}}"#)?
            .is_ok()
    );
    assert_eq!(s.read("a", "cpu.max.burst")?, "40000");
    // The other way round the quota can only come down after the burst.
    assert!(
        s.update(&cgroup, r#"{"cpu":{"quota":10000,"burst":5000}}"#)?
            .is_ok()
    );
    assert_eq!(s.read("a", "cpu.max.burst")?, "5000");
    assert_eq!(s.read("a", "cpu.max")?, "10000 100000");
    Ok(())
}

fn an_idle_cgroup_has_its_weight_again_afterwards(s: &Scene) -> Check {
    s.needs(&["cpu"])?;
    let cgroup = s.cgroup("a")?;
    if !s.dir("a/cpu.idle").exists() {
        return skip("the kernel has no cpu.idle");
    }
    s.apply(&cgroup, r#"{"cpu":{"idle":1,"shares":512}}"#)?;
    assert_eq!(s.read("a", "cpu.idle")?, "1");
    assert!(
        s.update(&cgroup, r#"{"cpu":{"idle":0,"shares":2048}}"#)?
            .is_ok()
    );
    assert_eq!(
        (s.read("a", "cpu.idle")?, s.read("a", "cpu.weight")?),
        ("0".into(), "174".into())
    );
    Ok(())
}

fn a_refused_value_names_file_value_and_place(s: &Scene) -> Check {
    s.needs(&["cpu"])?;
    let cgroup = s.cgroup("a")?;
    let changes = s.changes(
        r#"{"cpu":{"quota":50000,"period":9}}"#,
        cgroup.controllers(),
    )?;
    let error = refused(cgroup.apply(&changes))?;
    let text = error.to_string();
    assert_eq!(*error.kind(), ErrorKind::InvalidArgument, "{text}");
    for part in [
        "/linux/resources/cpu/quota",
        "\"50000 9\"",
        "cpu.max",
        "invalid argument",
    ] {
        assert!(text.contains(part), "{text}");
    }
    Ok(())
}

fn a_refused_update_leaves_everything_as_it_was(s: &Scene) -> Check {
    s.needs(&["cpu", "memory", "pids"])?;
    let cgroup = s.cgroup("a")?;
    s.apply(
        &cgroup,
        r#"{"cpu":{"shares":512},"memory":{"limit":104857600},"pids":{"limit":50}}"#,
    )?;
    refused(s.update(
        &cgroup,
        r#"{"cpu":{"shares":2,"quota":50000,"period":9},"memory":{"limit":52428800},"pids":{"limit":5}}"#,
    )?)?;
    for (file, value) in [
        ("cpu.weight", "59"),
        ("cpu.max", "max 100000"),
        ("memory.max", "104857600"),
        ("pids.max", "50"),
    ] {
        assert_eq!(s.read("a", file)?, value, "{file}");
    }
    Ok(())
}

fn check_before_update_refuses_less_than_is_used(s: &Scene) -> Check {
    s.needs(&["memory"])?;
    let cgroup = s.cgroup("a")?;
    s.shell("a", "exec sleep 100")?;
    // The kernel charges in batches: a process that has just begun may have used nothing yet.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while s.read("a", "memory.current")?.parse::<u64>()? <= 4096 {
        assert!(std::time::Instant::now() < end, "a shell uses no memory");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let error = refused(s.update(
        &cgroup,
        r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#,
    )?)?;
    assert!(
        error
            .to_string()
            .contains("rejecting memory limit 4096 <= usage"),
        "{error}"
    );
    assert_eq!(s.read("a", "memory.max")?, "max");
    assert!(cgroup.is_populated()?);
    Ok(())
}

fn unified_values_are_written_line_by_line(s: &Scene) -> Check {
    s.needs(&["memory", "pids"])?;
    let cgroup = s.cgroup("a")?;
    s.apply(
        &cgroup,
        r#"{"pids":{"limit":9},"unified":{"pids.max":"10\n11\n","memory.high":"8388608","cgroup.max.depth":"3"}}"#,
    )?;
    assert_eq!(s.read("a", "pids.max")?, "11");
    assert_eq!(s.read("a", "memory.high")?, "8388608");
    assert_eq!(s.read("a", "cgroup.max.depth")?, "3");
    let changes = s.changes(
        r#"{"unified":{"memory.no_such_file":"1"}}"#,
        cgroup.controllers(),
    )?;
    let error = refused(cgroup.apply(&changes))?;
    assert!(
        matches!(error.kind(), ErrorKind::Unsupported { .. }),
        "{error}"
    );
    Ok(())
}

fn pids_limit_holds(s: &Scene) -> Check {
    s.needs(&["pids"])?;
    let cgroup = s.cgroup("a")?;
    s.apply(&cgroup, r#"{"pids":{"limit":0}}"#)?;
    let alone = s.shell("a", "exec true")?;
    assert_eq!(s.wait(alone)?, 0);
    let forking = s.shell("a", "(sleep 0.1) ; exit 0")?;
    assert_ne!(s.wait(forking)?, 0);
    Ok(())
}

fn huge_pages_are_limited(s: &Scene) -> Check {
    s.needs(&["hugetlb"])?;
    let cgroup = s.cgroup("a")?;
    if !s.dir("a/hugetlb.2MB.max").exists() {
        return skip("the kernel has no huge pages of 2 MB");
    }
    s.apply(
        &cgroup,
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
    )?;
    assert_eq!(s.read("a", "hugetlb.2MB.max")?, "4194304");
    let stats = cgroup.stats()?.hugetlb;
    let one = stats.iter().find(|one| one.pagesize == "2MB");
    assert_eq!(one.map(|one| (one.current, one.max)), Some((0, 4_194_304)));
    let changes = s.changes(
        r#"{"hugepageLimits":[{"pageSize":"7MB","limit":1}]}"#,
        cgroup.controllers(),
    )?;
    let error = refused(cgroup.apply(&changes))?;
    assert!(
        matches!(error.kind(), ErrorKind::Unsupported { .. }),
        "{error}"
    );
    Ok(())
}

fn block_devices_are_limited_and_limits_taken_away(s: &Scene) -> Check {
    s.needs(&["io"])?;
    let cgroup = s.cgroup("a")?;
    let Some(number) = fs::read_dir("/sys/block")?
        .filter_map(|device| fs::read_to_string(device.ok()?.path().join("dev")).ok())
        .next()
    else {
        return skip("the machine has no block device");
    };
    let number = number.trim();
    let (major, minor) = number.split_once(':').ok_or("a device number")?;
    let throttle = |read: u32, write: u32| {
        format!(
            r#"{{"blockIO":{{
                "throttleReadBpsDevice":[{{"major":{major},"minor":{minor},"rate":{read}}}],
                "throttleWriteIOPSDevice":[{{"major":{major},"minor":{minor},"rate":{write}}}]}}}}"#
        )
    };
    s.apply(&cgroup, &throttle(1_048_576, 100))?;
    let limits = format!("{number} rbps=1048576 wbps=max riops=max wiops=100");
    assert_eq!(s.read("a", "io.max")?, limits);
    // One more device that is none: nothing changes, not even what was written before it.
    let bad = r#"{"blockIO":{"throttleReadBpsDevice":[
        {"major":MAJOR,"minor":MINOR,"rate":5},{"major":4000,"minor":1,"rate":5}]}}"#;
    let bad = bad.replace("MAJOR", major).replace("MINOR", minor);
    let error = refused(s.update(&cgroup, &bad)?)?;
    assert!(
        error.to_string().contains("throttleReadBpsDevice/1"),
        "{error}"
    );
    assert_eq!(s.read("a", "io.max")?, limits);
    assert!(s.update(&cgroup, &throttle(0, 0))?.is_ok());
    assert_eq!(s.read("a", "io.max")?, "");
    // The same on a device that had no limit at all.
    refused(s.update(&cgroup, &bad)?)?;
    assert_eq!(s.read("a", "io.max")?, "");
    Ok(())
}

/// Takes more than the limit in anonymous memory.
const HOG: &str = "head -c 200000000 /dev/zero | tail -c 150000000 | wc -c";

fn an_oom_kill_wakes_a_poll_of_memory_events(s: &Scene) -> Check {
    s.needs(&["memory"])?;
    let cgroup = s.cgroup("a")?;
    s.apply(&cgroup, r#"{"memory":{"limit":20971520,"swap":20971520}}"#)?;
    fs::create_dir(s.dir("a/below"))?;
    let mut events = MemoryEvents::open(&cgroup)?.ok_or("no memory.events")?;
    assert_eq!(events.now()?.ok_or("gone")?.oom_kill, 0);
    assert!(!polled(&events, std::time::Duration::from_millis(30))?);
    // Below, as in a container that has made sub-cgroups: the counters are hierarchical.
    let pid = s.shell("a/below", HOG)?;
    let mut kills = 0;
    while kills == 0 {
        assert!(polled(&events, LONG)?, "no event");
        kills = events.now()?.ok_or("gone")?.oom_kill;
    }
    s.wait(pid)?;
    assert_eq!(cgroup.memory_counts()?.ok_or("gone")?.oom_kill, kills);
    cgroup.kill(LONG)?;
    cgroup.remove(LONG)?;
    assert_eq!(events.now()?, None);
    Ok(())
}

fn memory_is_lowered_while_swap_is_still_allowed(s: &Scene) -> Check {
    s.needs(&["memory"])?;
    let cgroup = s.cgroup("a")?;
    if !s.dir("a/memory.swap.max").exists() {
        return skip("the kernel has no swap accounting");
    }
    s.apply(
        &cgroup,
        r#"{"memory":{"limit":104857600,"swap":209715200}}"#,
    )?;
    assert_eq!(s.read("a", "memory.swap.max")?, "104857600");
    assert!(
        s.update(&cgroup, r#"{"memory":{"limit":52428800,"swap":62914560}}"#)?
            .is_ok()
    );
    assert_eq!(s.read("a", "memory.swap.max")?, "10485760");
    assert_eq!(s.read("a", "memory.max")?, "52428800");
    Ok(())
}
