//! What does the kernel keep about the process: limits, scheduling, personality, memory, what a caller hands on?
use rsrun_tests::cli::facts::Facts;
use rsrun_tests::cli::ground::Ground;
use rsrun_tests::cli::suite::Suite;
use serde_json::{Value, json};

pub(crate) fn cases(suite: &mut Suite) {
    limits(suite);
    scheduling(suite);
    rest(suite);
    inherited(suite);
}

/// `sh -c PROLOGUE` and then the runtime's `run` of the probe: what it inherits must not reach the container.
fn run_after(g: &Ground, prologue: &str) -> Facts {
    let mut b = g.bundle();
    b.args(&["/bin/probe", "facts"]).write();
    let runtime = b.runtime();
    let mut command = runtime.command_after(prologue, ["run", "--bundle"]);
    command.arg(&b.dir).arg(&b.id);
    Facts::parse(
        &rsrun_tests::cli::runtime::finish(command, &runtime.root)
            .ok()
            .stdout,
    )
}

fn limits(suite: &mut Suite) {
    const LOWERED: [(&str, u64, u64); 13] = [
        ("CPU", 100, 200),
        ("FSIZE", 1 << 40, 1 << 41),
        ("DATA", 1 << 40, 1 << 41),
        ("STACK", 4 << 20, 8 << 20),
        ("CORE", 0, 0),
        ("RSS", 1 << 40, 1 << 41),
        ("NPROC", 1000, 2000),
        ("NOFILE", 100, 200),
        ("MEMLOCK", 4096, 8192),
        ("AS", 1 << 40, 1 << 41),
        ("LOCKS", 10, 20),
        ("SIGPENDING", 10, 20),
        ("MSGQUEUE", 1000, 2000),
    ];
    for (name, soft, hard) in LOWERED {
        suite.case(
            format!("rlimit_{}_is_set_soft_and_hard", name.to_lowercase()),
            move |g| {
                let mut b = g.bundle();
                b.set(
                    "/process/rlimits",
                    json!([{"type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard}]),
                );
                assert_eq!(b.facts().rlimit(name), (soft, hard));
                Ok(())
            },
        );
    }
    for name in ["NICE", "RTPRIO", "RTTIME"] {
        suite.case(
            format!("rlimit_{}_is_set_soft_and_hard", name.to_lowercase()),
            move |g| {
                let mut b = g.bundle();
                b.set(
                    "/process/rlimits",
                    json!([{"type": format!("RLIMIT_{name}"), "soft": 0, "hard": 0}]),
                );
                assert_eq!(b.facts().rlimit(name), (0, 0));
                Ok(())
            },
        );
    }
    suite.case(
        "more_mounts_than_descriptors_are_made_and_the_limit_stays",
        |g| {
            let mut b = g.bundle();
            for number in 0..1100 {
                let place = format!("/mnt/{number}");
                b.mount(&place, "bind", "/etc/hostname", &["bind"]);
            }
            let note = b.dir.join("limit").to_string_lossy().into_owned();
            b.set(
                "/hooks/createRuntime/-",
                json!({"path": "/bin/sh", "args": ["sh", "-c", format!("ulimit -Sn > {note}")]}),
            )
            .args(&["/bin/probe", "facts"])
            .write();
            let mut command = g
                .runtime
                .command_after("ulimit -Sn 1024; exec", ["run", "--bundle"]);
            command.arg(&b.dir).arg(&b.id);
            let output = rsrun_tests::cli::runtime::finish(command, &g.runtime.root).ok();
            let facts = Facts::parse(&output.stdout);
            assert_eq!(facts.rlimit("NOFILE").0, 1024);
            assert_eq!(
                std::fs::read_to_string(note).expect("a note").trim(),
                "1024"
            );
            Ok(())
        },
    );
    suite.case("oom_score_adj_is_set", |g| {
        let mut b = g.bundle();
        b.set("/process/oomScoreAdj", json!(777));
        assert_eq!(b.facts().text("/oom_score_adj"), "777");
        Ok(())
    });
    suite.case("a_negative_oom_score_adj_is_set", |g| {
        g.may("CAP_SYS_RESOURCE")?;
        let mut b = g.bundle();
        b.set("/process/oomScoreAdj", json!(-500));
        assert_eq!(b.facts().text("/oom_score_adj"), "-500");
        Ok(())
    });
}

fn scheduling(suite: &mut Suite) {
    let refused = |name: &str, scheduler: Value| (name.to_string(), scheduler);
    let policies = [("SCHED_OTHER", 0), ("SCHED_BATCH", 3), ("SCHED_IDLE", 5)];
    for (policy, number) in policies {
        suite.case(
            format!("scheduler_{}_is_set", policy.to_lowercase()),
            move |g| {
                g.since_runc(1, 2, "schedulers")?;
                let mut b = g.bundle();
                let nice = if policy == "SCHED_IDLE" { 0 } else { 7 };
                b.set(
                    "/process/scheduler",
                    json!({"policy": policy, "nice": nice}),
                );
                let facts = b.facts();
                assert_eq!(
                    (
                        facts.number("/scheduler/policy"),
                        facts.number("/scheduler/nice")
                    ),
                    (number, nice)
                );
                Ok(())
            },
        );
    }
    for (policy, number) in [("SCHED_FIFO", 1), ("SCHED_RR", 2)] {
        suite.case(
            format!(
                "scheduler_{}_is_set_with_its_priority",
                policy.to_lowercase()
            ),
            move |g| {
                g.since_runc(1, 2, "schedulers")?;
                g.may("CAP_SYS_NICE")?;
                let mut b = g.bundle();
                b.set(
                    "/process/scheduler",
                    json!({"policy": policy, "priority": 10}),
                );
                let facts = b.facts();
                assert_eq!(
                    (
                        facts.number("/scheduler/policy"),
                        facts.number("/scheduler/priority")
                    ),
                    (number, 10)
                );
                Ok(())
            },
        );
    }
    suite.case("scheduler_flag_reset_on_fork_is_set", |g| {
        g.since_runc(1, 2, "schedulers")?;
        let mut b = g.bundle();
        b.set(
            "/process/scheduler",
            json!({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        );
        let facts = b.facts();
        assert_eq!(
            (
                facts.number("/scheduler/policy"),
                facts.number("/scheduler/flags") & 1
            ),
            (3, 1)
        );
        Ok(())
    });
    let bad = [
        refused(
            "an_unknown_scheduling_policy",
            json!({"policy": "SCHED_WISHFUL"}),
        ),
        refused(
            "an_unknown_scheduling_flag",
            json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_WISHFUL"]}),
        ),
        refused(
            "a_nice_value_beyond_19",
            json!({"policy": "SCHED_OTHER", "nice": 40}),
        ),
    ];
    for (name, scheduler) in bad {
        suite.case(format!("{name}_is_refused"), move |g| {
            g.since_runc(1, 2, "schedulers")?;
            let mut b = g.bundle();
            b.set("/process/scheduler", scheduler);
            b.refused();
            Ok(())
        });
    }
    for (class, number) in [("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)] {
        suite.case(
            format!("io_priority_{}_is_set", class.to_lowercase()),
            move |g| {
                g.since_runc(1, 2, "I/O priorities")?;
                let mut b = g.bundle();
                b.set(
                    "/process/ioPriority",
                    json!({"class": class, "priority": 4}),
                );
                assert_eq!(b.facts().number("/ioprio"), (number << 13) | 4);
                Ok(())
            },
        );
    }
    suite.case("an_io_priority_beyond_7_is_refused", |g| {
        g.since_runc(1, 2, "I/O priorities")?;
        let mut b = g.bundle();
        b.set(
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
        );
        b.refused();
        Ok(())
    });
    suite.case("an_exec_starts_on_the_cpus_of_exec_cpu_affinity", |g| {
        g.since_runc(1, 3, "execCPUAffinity")?;
        let mut b = g.bundle();
        b.set(
            "/process/execCPUAffinity",
            json!({"initial": "0", "final": "0"}),
        );
        b.hold();
        assert_eq!(b.exec_facts(&[]).at("/affinity"), &json!([0]));
        Ok(())
    });
    suite.case(
        "an_exec_cpu_affinity_that_is_no_list_of_cpus_is_refused",
        |g| {
            g.since_runc(1, 3, "execCPUAffinity")?;
            let mut b = g.bundle();
            b.set(
                "/process/execCPUAffinity",
                json!({"initial": "0-", "final": "one"}),
            );
            b.refused();
            Ok(())
        },
    );
}

fn rest(suite: &mut Suite) {
    suite.case("personality_linux32_is_set", |g| {
        g.since_runc(1, 2, "personalities")?;
        let mut b = g.bundle();
        b.set("/linux/personality", json!({"domain": "LINUX32"}));
        assert_eq!(b.facts().number("/personality"), 8);
        Ok(())
    });
    suite.case("personality_linux_is_set", |g| {
        g.since_runc(1, 2, "personalities")?;
        let mut b = g.bundle();
        b.set("/linux/personality", json!({"domain": "LINUX"}));
        assert_eq!(b.facts().number("/personality"), 0);
        Ok(())
    });
    suite.case("an_unknown_personality_is_refused", |g| {
        g.since_runc(1, 2, "personalities")?;
        let mut b = g.bundle();
        b.set("/linux/personality", json!({"domain": "PLAN9"}));
        b.refused();
        Ok(())
    });
    suite.case("memory_policy_is_set_or_refused_by_name", |g| {
        g.since_runc(1, 4, "memory policies")?;
        let mut b = g.bundle();
        b.set(
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": []}),
        );
        b.args(&["/bin/probe", "facts"]);
        let out = b.run();
        if out.code != 0 {
            let numa = std::path::Path::new("/proc/self/numa_maps").exists();
            assert!(
                !numa || out.stderr.contains("memoryPolicy"),
                "the kernel has NUMA: {}",
                out.stderr
            );
            out.refused();
            return Ok(());
        }
        assert_eq!(
            Facts::parse(&out.stdout).at("/mempolicy"),
            &json!({"mode": 3, "nodes": 1})
        );
        Ok(())
    });
    suite.case(
        "a_selinux_label_on_a_host_without_selinux_is_refused",
        |g| {
            if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
                rsrun_tests::cli::suite::skip("SELinux is on here");
            }
            let mut b = g.bundle();
            b.set(
                "/process/selinuxLabel",
                json!("system_u:system_r:container_t:s0:c1,c2"),
            );
            assert!(b.refused().to_lowercase().contains("selinux"));
            Ok(())
        },
    );
    suite.case("an_apparmor_profile_that_is_not_there_is_refused", |g| {
        let mut b = g.bundle();
        b.set("/process/apparmorProfile", json!("no-such-profile"));
        assert!(b.refused().to_lowercase().contains("apparmor"));
        Ok(())
    });
}

fn inherited(suite: &mut Suite) {
    suite.case(
        "ignored_and_blocked_signals_of_the_caller_do_not_reach_it",
        |g| {
            let facts = run_after(g, "trap '' PIPE HUP USR1 TERM INT QUIT; exec");
            let ignored = u64::from_str_radix(facts.status("SigIgn")[0], 16).expect("hexadecimal");
            if g.runtime.runc.is_some() {
                return g.differs_from_runc(
                    "all 64 signals are reset; runc hands on what its caller ignores",
                );
            }
            assert_eq!(
                (ignored, facts.status("SigBlk")[0]),
                (0, "0000000000000000")
            );
            Ok(())
        },
    );
    suite.case("the_caller_s_cpu_affinity_does_not_reach_it", |g| {
        g.since_runc(1, 2, "a reset of the CPU affinity")?;
        let here = std::thread::available_parallelism().expect("cpus").get();
        if here < 2 {
            rsrun_tests::cli::suite::skip("needs two CPUs");
        }
        assert_eq!(
            run_after(g, "exec taskset -c 0")
                .at("/affinity")
                .as_array()
                .map(Vec::len),
            Some(here)
        );
        Ok(())
    });
    suite.case("the_caller_s_nice_value_does_not_reach_it", |g| {
        g.differs_from_runc("what a shim was started with is reset; runc hands on its nice value")?;
        assert_eq!(run_after(g, "exec nice -n 5").number("/scheduler/nice"), 0);
        Ok(())
    });
    suite.case("the_caller_s_environment_does_not_reach_it", |g| {
        let facts = run_after(g, "export LEAKED=yes; exec");
        assert!(!facts.list("/env").iter().any(|v| v.starts_with("LEAKED")));
        Ok(())
    });
    suite.case("the_caller_s_open_files_do_not_reach_it", |g| {
        let facts = run_after(g, "exec 7</etc/passwd 8</; exec");
        let fds = facts.at("/fds").as_object().expect("a map");
        assert!(
            fds.keys()
                .all(|fd| ["0", "1", "2", "3"].contains(&fd.as_str())),
            "{fds:?}"
        );
        Ok(())
    });
    suite.case("preserve_fds_hands_on_that_many_and_no_more", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/probe", "facts"]).write();
        let runtime = b.runtime();
        let mut command = runtime.command_after(
            "exec 3</etc/passwd 4</etc/group 5</dev/null; exec",
            ["run", "--preserve-fds", "2", "--bundle"],
        );
        command.arg(&b.dir).arg(&b.id);
        let facts = Facts::parse(
            &rsrun_tests::cli::runtime::finish(command, &runtime.root)
                .ok()
                .stdout,
        );
        let fds = facts.at("/fds");
        assert_eq!(
            (&fds["3"], &fds["4"]),
            (&json!("/etc/passwd"), &json!("/etc/group")),
            "{fds}"
        );
        // 5 is the descriptor with which the probe reads the list.
        assert_eq!(fds.as_object().map(serde_json::Map::len), Some(6), "{fds}");
        Ok(())
    });
    suite.case("listen_fds_hands_on_sockets_with_its_variable", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/probe", "facts"]).write();
        let runtime = b.runtime();
        let mut command = runtime.command_after(
            "exec 3</etc/passwd; LISTEN_FDS=1 LISTEN_PID=$$ exec",
            ["run", "--bundle"],
        );
        command.arg(&b.dir).arg(&b.id);
        let facts = Facts::parse(
            &rsrun_tests::cli::runtime::finish(command, &runtime.root)
                .ok()
                .stdout,
        );
        assert_eq!(facts.at("/fds")["3"], "/etc/passwd");
        let env = facts.list("/env");
        assert!(
            env.contains("LISTEN_FDS=1") && env.contains("LISTEN_PID=1"),
            "{env:?}"
        );
        Ok(())
    });
}
