//! Where is a container's cgroup, what does update change in it, and what is refused?
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::suite::{Suite, skip};
use serde_json::{Value, json};
use std::fs;

pub(crate) fn cases(suite: &mut Suite) {
    updated(suite);
    placed(suite);
    killed_before(suite);
    missing(suite);
}

fn updated(suite: &mut Suite) {
    let flags: [(&str, &str, &[&str], &str, &str); 8] = [
        (
            "memory",
            "memory",
            &["--memory", "50331648", "--memory-swap", "50331648"],
            "memory.max",
            "50331648",
        ),
        (
            "memory_reservation",
            "memory",
            &["--memory-reservation", "1048576"],
            "memory.low",
            "1048576",
        ),
        (
            "pids_limit",
            "pids",
            &["--pids-limit", "33"],
            "pids.max",
            "33",
        ),
        (
            "cpu_quota",
            "cpu",
            &["--cpu-quota", "30000", "--cpu-period", "100000"],
            "cpu.max",
            "30000 100000",
        ),
        ("cpu_share", "cpu", &["--cpu-share", "2"], "cpu.weight", "1"),
        ("cpu_idle", "cpu", &["--cpu-idle", "1"], "cpu.idle", "1"),
        (
            "cpuset_cpus",
            "cpuset",
            &["--cpuset-cpus", "0"],
            "cpuset.cpus",
            "0",
        ),
        (
            "cpuset_mems",
            "cpuset",
            &["--cpuset-mems", "0"],
            "cpuset.mems",
            "0",
        ),
    ];
    for (name, controller, options, file, value) in flags {
        suite.case(
            format!("update_{name}_changes_a_running_container"),
            move |g| {
                g.needs(controller)?;
                if name == "cpu_idle" {
                    g.since_runc(1, 2, "update --cpu-idle")?;
                }
                let mut b = g.bundle();
                b.set("/linux/resources/memory", json!({"limit": 67_108_864}));
                b.hold();
                let verb: Vec<&str> = ["update"].iter().chain(options).copied().collect();
                b.on(&verb, &[]).ok();
                assert_eq!(b.cgroup_file(file), value);
                Ok(())
            },
        );
    }
    suite.case("update_takes_resources_as_a_file_and_as_stdin", |g| {
        g.needs("pids")?;
        let mut b = g.bundle();
        b.hold();
        let file = b.dir.join("resources.json");
        fs::write(&file, r#"{"pids":{"limit":21}}"#).expect("a file");
        b.on(&["update", "--resources", &file.to_string_lossy()], &[])
            .ok();
        assert_eq!(b.cgroup_file("pids.max"), "21");
        fs::write(&file, r#"{"pids":{"limit":22}}"#).expect("a file");
        let mut command = g.runtime.command(["update", "--resources", "-", &b.id]);
        command.stdin(fs::File::open(&file).expect("the file"));
        rsrun_tests::cli::runtime::finish(command, &g.runtime.root).ok();
        assert_eq!(b.cgroup_file("pids.max"), "22");
        Ok(())
    });
    suite.case("update_leaves_the_devices_that_were_allowed", |g| {
        let mut b = g.bundle();
        b.hold();
        let file = b.dir.join("resources.json");
        fs::write(&file, r#"{}"#).expect("a file");
        b.on(&["update", "--resources", &file.to_string_lossy()], &[])
            .ok();
        assert_eq!(
            b.on(&["exec"], &["/bin/probe", "open", "rw:/dev/null"])
                .ok()
                .stdout
                .trim(),
            "[0]"
        );
        Ok(())
    });
    suite.case("update_with_broken_resources_is_refused", |g| {
        let mut b = g.bundle();
        b.hold();
        let file = b.dir.join("resources.json");
        for text in [
            "",
            "{",
            "[]",
            r#"{"memory":"much"}"#,
            r#"{"cpu":{"shares":-5}}"#,
        ] {
            fs::write(&file, text).expect("a file");
            let out = b.on(&["update", "--resources", &file.to_string_lossy()], &[]);
            assert!(out.code != 0, "{text:?} was accepted");
        }
        Ok(())
    });
}

/// Kernels that compare the kill counts of two different cgroups end a child of CLONE_INTO_CGROUP at
/// once where only one of them was ever killed.
fn killed_before(suite: &mut Suite) {
    const WHY: &str = "an exec of runc is killed at birth there";
    suite.case("a_cgroup_that_was_killed_once_serves_again", |g| {
        g.differs_from_runc(WHY)?;
        let mut b = g.bundle();
        let dir = g.cgroup_dir(&b.id);
        fs::create_dir(&dir).expect("a cgroup");
        fs::write(dir.join("cgroup.kill"), "1").expect("a kill of nobody");
        lives_in_its_cgroup(&mut b);
        Ok(())
    });
    for (name, mapped) in [
        (
            "a_caller_whose_cgroup_was_killed_once_creates_and_execs",
            false,
        ),
        (
            "a_caller_whose_cgroup_was_killed_once_makes_user_namespaces",
            true,
        ),
    ] {
        suite.case(name, move |g| {
            g.differs_from_runc(WHY)?;
            let mut b = g.bundle();
            if mapped {
                b.user_namespace(&[(0, 100_000, 65_536)]);
            }
            let caller = g.cgroup_dir("caller");
            let home = own_cgroup();
            fs::create_dir(&caller).expect("a cgroup");
            fs::write(caller.join("cgroup.kill"), "1").expect("a kill of nobody");
            fs::write(caller.join("cgroup.procs"), "0").expect("a move there");
            let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                lives_in_its_cgroup(&mut b);
            }));
            fs::write(home.join("cgroup.procs"), "0").expect("a move back");
            // A client that has answered may still be on its way out.
            let emptied = rsrun_tests::command::eventually(
                "an empty cgroup",
                std::time::Duration::from_secs(10),
                || fs::remove_dir(&caller).is_ok(),
            );
            emptied.expect("an empty cgroup");
            if let Err(panic) = lived {
                std::panic::resume_unwind(panic);
            }
            Ok(())
        });
    }
}

fn own_cgroup() -> std::path::PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").expect("our cgroup");
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    std::path::Path::new("/sys/fs/cgroup").join(path.expect("a v2 line"))
}

/// Its init and an exec are in its cgroup, which is the root of its cgroup namespace.
fn lives_in_its_cgroup(b: &mut Bundle<'_>) {
    let pid = b.hold();
    assert_eq!(b.cgroup_file("cgroup.procs"), pid.to_string());
    for of in ["1", "self"] {
        let file = format!("/proc/{of}/cgroup");
        let seen = b.on(&["exec"], &["/bin/cat", &file]).ok();
        assert!(
            seen.stdout.lines().any(|line| line == "0::/"),
            "{}",
            seen.stdout
        );
    }
}

fn placed(suite: &mut Suite) {
    suite.case("the_process_is_born_in_its_cgroup_and_nowhere_else", |g| {
        let mut b = g.bundle();
        let pid = b.hold();
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
        assert!(
            text.trim_end()
                .ends_with(&format!("0::/{}/{}", g.prefix, b.id)),
            "{text}"
        );
        assert_eq!(b.cgroup_file("cgroup.procs"), pid.to_string());
        Ok(())
    });
    suite.case("a_cgroups_path_of_several_parts_is_made_and_removed", |g| {
        let mut b = g.bundle();
        let path = format!("/{}/a/b/{}", g.prefix, b.id);
        b.set("/linux/cgroupsPath", json!(path)).hold();
        assert!(g.cgroup_dir("a/b").join(&b.id).exists());
        b.on(&["delete", "--force"], &[]).ok();
        assert!(!g.cgroup_dir("a/b").join(&b.id).exists());
        for parent in ["a/b", "a"] {
            let _ = fs::remove_dir(g.cgroup_dir(parent));
        }
        Ok(())
    });
    suite.case(
        "without_a_cgroups_path_the_cgroup_is_named_by_the_id",
        |g| {
            let mut b = g.bundle();
            b.remove("/linux/cgroupsPath");
            let pid = b.hold();
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
            assert!(text.trim_end().ends_with(&format!("/{}", b.id)), "{text}");
            Ok(())
        },
    );
    suite.case("a_cgroups_path_that_climbs_stays_below_the_root", |g| {
        let mut b = g.bundle();
        let path = format!("/{}/x/../../../{}/{}", g.prefix, g.prefix, b.id);
        b.set("/linux/cgroupsPath", json!(path))
            .args(&["/bin/probe", "hold"])
            .write();
        let out = b.call("run", &["--detach"]);
        if out.code == 0 {
            let pid = b.state()["pid"].as_i64().expect("a pid");
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
            assert!(text.contains(&b.id) && !text.contains(".."), "{text}");
        }
        Ok(())
    });
    suite.case(
        "a_cgroup_that_has_processes_is_refused_or_shared_but_never_emptied",
        |g| {
            let mut first = g.bundle();
            first.hold();
            let mut second = g.bundle();
            let path: Value = first.spec["linux"]["cgroupsPath"].clone();
            second.set("/linux/cgroupsPath", path);
            second.run();
            second.on(&["delete", "--force"], &[]);
            assert_eq!(first.status(), "running");
            Ok(())
        },
    );
}

fn missing(suite: &mut Suite) {
    let asked = [
        ("memory", r#"{"memory":{"limit":67108864}}"#),
        ("pids", r#"{"pids":{"limit":77}}"#),
        ("cpu", r#"{"cpu":{"quota":50000,"period":100000}}"#),
        ("cpuset", r#"{"cpu":{"cpus":"0"}}"#),
        ("io", r#"{"blockIO":{"weight":500}}"#),
    ];
    for (controller, resources) in asked {
        suite.case(
            format!("a_limit_of_{controller}_is_refused_by_name_where_the_controller_is_missing"),
            move |g| {
                if g.needs(controller).is_ok() {
                    skip(format!("this machine has the v2 {controller} controller"));
                }
                if controller == "io" {
                    g.differs_from_runc("runc drops a weight without its controller")?;
                }
                let mut b = g.bundle();
                b.set(
                    "/linux/resources",
                    serde_json::from_str(resources).expect("resources of this suite"),
                );
                let said = b.refused();
                assert!(said.contains(controller), "{said}");
                Ok(())
            },
        );
    }
    suite.case("values_that_state_what_the_kernel_does_anyway_need_no_controller", |g| {
        g.differs_from_runc("runc writes them and fails where the controller is missing")?;
        let mut b = g.bundle();
        b.set("/linux/resources", json!({"cpu": {"shares": 1024, "quota": -1}, "memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}}));
        b.run().ok();
        Ok(())
    });
    suite.case("realtime_limits_are_refused", |g| {
        let mut b = g.bundle();
        b.set(
            "/linux/resources/cpu",
            json!({"realtimeRuntime": 1000, "realtimePeriod": 10000}),
        );
        if g.runtime.runc.is_some() {
            return g.differs_from_runc("runc passes over what version 2 does not have");
        }
        let said = b.refused();
        assert!(said.to_lowercase().contains("realtime"), "{said}");
        Ok(())
    });
    suite.case("a_unified_file_of_no_controller_is_refused", |g| {
        for key in ["no.such.file", "../cgroup.procs", "cgroup.procs/x"] {
            let mut b = g.bundle();
            b.set("/linux/resources/unified", json!({key: "1"}));
            b.refused();
        }
        Ok(())
    });
}
