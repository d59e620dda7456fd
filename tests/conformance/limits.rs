//! Is every limit of the spec in the container's cgroup, and refused where its controller is missing?
use rsrun_tests::cli::bundle::wait_exit;
use rsrun_tests::cli::suite::{Suite, skip};
use serde_json::json;
use std::fs;

pub(crate) fn cases(suite: &mut Suite) {
    set(suite);
    devices(suite);
    enforced(suite);
}

struct Limit {
    name: &'static str,
    controller: &'static str,
    resources: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const LIMITS: [Limit; 23] = [
    Limit {
        name: "cpu_shares_1024_is_the_kernel_s_default_weight",
        controller: "cpu",
        resources: r#"{"cpu":{"shares":1024}}"#,
        files: &[("cpu.weight", "100")],
    },
    Limit {
        name: "cpu_shares_2_is_the_least_weight",
        controller: "cpu",
        resources: r#"{"cpu":{"shares":2}}"#,
        files: &[("cpu.weight", "1")],
    },
    Limit {
        name: "cpu_shares_262144_is_the_largest_weight",
        controller: "cpu",
        resources: r#"{"cpu":{"shares":262144}}"#,
        files: &[("cpu.weight", "10000")],
    },
    Limit {
        name: "cpu_quota_and_period",
        controller: "cpu",
        resources: r#"{"cpu":{"quota":50000,"period":200000}}"#,
        files: &[("cpu.max", "50000 200000")],
    },
    Limit {
        name: "cpu_quota_without_a_period",
        controller: "cpu",
        resources: r#"{"cpu":{"quota":50000}}"#,
        files: &[("cpu.max", "50000 100000")],
    },
    Limit {
        name: "cpu_period_without_a_quota",
        controller: "cpu",
        resources: r#"{"cpu":{"period":50000}}"#,
        files: &[("cpu.max", "max 50000")],
    },
    Limit {
        name: "cpu_quota_minus_1_is_no_limit",
        controller: "cpu",
        resources: r#"{"cpu":{"quota":-1}}"#,
        files: &[("cpu.max", "max 100000")],
    },
    Limit {
        name: "cpu_burst",
        controller: "cpu",
        resources: r#"{"cpu":{"quota":50000,"period":100000,"burst":20000}}"#,
        files: &[("cpu.max", "50000 100000"), ("cpu.max.burst", "20000")],
    },
    Limit {
        name: "cpu_idle",
        controller: "cpu",
        resources: r#"{"cpu":{"idle":1}}"#,
        files: &[("cpu.idle", "1")],
    },
    Limit {
        name: "cpuset_cpus_and_mems",
        controller: "cpuset",
        resources: r#"{"cpu":{"cpus":"0","mems":"0"}}"#,
        files: &[("cpuset.cpus", "0"), ("cpuset.mems", "0")],
    },
    Limit {
        name: "memory_limit",
        controller: "memory",
        resources: r#"{"memory":{"limit":67108864}}"#,
        files: &[("memory.max", "67108864")],
    },
    Limit {
        name: "memory_and_swap_less_memory_is_swap",
        controller: "memory",
        resources: r#"{"memory":{"limit":67108864,"swap":100663296}}"#,
        files: &[("memory.max", "67108864"), ("memory.swap.max", "33554432")],
    },
    Limit {
        name: "memory_without_swap",
        controller: "memory",
        resources: r#"{"memory":{"limit":67108864,"swap":67108864}}"#,
        files: &[("memory.swap.max", "0")],
    },
    Limit {
        name: "memory_with_unlimited_swap",
        controller: "memory",
        resources: r#"{"memory":{"limit":67108864,"swap":-1}}"#,
        files: &[("memory.max", "67108864"), ("memory.swap.max", "max")],
    },
    Limit {
        name: "memory_minus_1_is_no_limit",
        controller: "memory",
        resources: r#"{"memory":{"limit":-1}}"#,
        files: &[("memory.max", "max"), ("memory.swap.max", "max")],
    },
    Limit {
        name: "memory_reservation_is_memory_low",
        controller: "memory",
        resources: r#"{"memory":{"reservation":33554432}}"#,
        files: &[("memory.low", "33554432")],
    },
    Limit {
        name: "pids_limit",
        controller: "pids",
        resources: r#"{"pids":{"limit":77}}"#,
        files: &[("pids.max", "77")],
    },
    Limit {
        name: "pids_limit_minus_1_is_no_limit",
        controller: "pids",
        resources: r#"{"pids":{"limit":-1}}"#,
        files: &[("pids.max", "max")],
    },
    Limit {
        name: "hugetlb_2mb",
        controller: "hugetlb",
        resources: r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
        files: &[("hugetlb.2MB.max", "4194304")],
    },
    Limit {
        name: "unified_memory_high",
        controller: "memory",
        resources: r#"{"unified":{"memory.high":"50331648","memory.oom.group":"1"}}"#,
        files: &[("memory.high", "50331648"), ("memory.oom.group", "1")],
    },
    Limit {
        name: "unified_wins_over_the_named_field",
        controller: "pids",
        resources: r#"{"pids":{"limit":77},"unified":{"pids.max":"55"}}"#,
        files: &[("pids.max", "55")],
    },
    Limit {
        name: "unified_cpu_weight",
        controller: "cpu",
        resources: r#"{"unified":{"cpu.weight":"333"}}"#,
        files: &[("cpu.weight", "333")],
    },
    Limit {
        name: "all_at_once",
        controller: "memory",
        resources: r#"{"memory":{"limit":67108864},"cpu":{"shares":1024,"quota":50000},"pids":{"limit":99}}"#,
        files: &[
            ("memory.max", "67108864"),
            ("cpu.max", "50000 100000"),
            ("pids.max", "99"),
        ],
    },
];

fn set(suite: &mut Suite) {
    for limit in LIMITS {
        suite.case(
            format!("limit_{}_is_set_in_the_cgroup", limit.name),
            move |g| {
                g.needs(limit.controller)?;
                if limit.resources.contains("\"shares\":1024") {
                    g.since_runc(1, 4, "the curve of weights in which 1024 is 100")?;
                }
                if limit.resources.contains("burst") || limit.resources.contains("idle") {
                    g.since_runc(1, 2, "burst and idle")?;
                }
                let mut b = g.bundle();
                b.set(
                    "/linux/resources",
                    serde_json::from_str(limit.resources).expect("resources of this suite"),
                );
                b.hold();
                for (file, value) in limit.files {
                    if !b.cgroup(file).exists() {
                        skip(format!("this kernel has no {file}"));
                    }
                    assert_eq!(b.cgroup_file(file), *value, "{file}");
                }
                Ok(())
            },
        );
    }
}

/// `major:minor` of a block device that this machine has.
fn block_device() -> String {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut numbers = entries.filter_map(|e| fs::read_to_string(e.path().join("dev")).ok());
    numbers
        .next()
        .unwrap_or_else(|| skip("needs a block device"))
        .trim()
        .to_string()
}

fn devices(suite: &mut Suite) {
    let kinds = [
        ("throttleReadBpsDevice", "rbps=1048576"),
        ("throttleWriteBpsDevice", "wbps=1048576"),
        ("throttleReadIOPSDevice", "riops=1048576"),
        ("throttleWriteIOPSDevice", "wiops=1048576"),
    ];
    for (field, word) in kinds {
        suite.case(format!("limit_io_{}_is_set_in_the_cgroup", field.to_lowercase()), move |g| {
            g.needs("io")?;
            let number = block_device();
            let (major, minor) = number.split_once(':').expect("two numbers");
            let mut b = g.bundle();
            let one = json!([{"major": major.parse::<u32>().expect("a number"), "minor": minor.parse::<u32>().expect("a number"), "rate": 1_048_576}]);
            b.set(&format!("/linux/resources/blockIO/{field}"), one).hold();
            let text = b.cgroup_file("io.max");
            assert!(text.contains(&number) && text.contains(word), "{text:?}");
            Ok(())
        });
    }
    suite.case("limit_io_weight_is_set_in_the_cgroup", |g| {
        g.needs("io")?;
        let mut b = g.bundle();
        b.set("/linux/resources/blockIO/weight", json!(500)).hold();
        // 10…1000 of version 1 is 1…10000 here; BFQ, where it is, takes the number as it is.
        match ["io.bfq.weight", "io.weight"]
            .iter()
            .find(|f| b.cgroup(f).exists())
        {
            Some(&"io.bfq.weight") => assert!(b.cgroup_file("io.bfq.weight").contains("500")),
            Some(file) => assert!(
                b.cgroup_file(file).contains("4950"),
                "{}",
                b.cgroup_file(file)
            ),
            None => skip("this kernel weighs no I/O"),
        }
        Ok(())
    });
}

fn enforced(suite: &mut Suite) {
    suite.case("a_container_over_its_memory_limit_is_killed", |g| {
        g.needs("memory")?;
        let mut b = g.bundle();
        b.set(
            "/linux/resources/memory",
            json!({"limit": 33_554_432, "swap": 33_554_432}),
        );
        b.shell("dd if=/dev/zero of=/dev/shm/fill bs=1M count=60");
        let code = b.run().code;
        assert!(code == 137 || code == 1, "exit code {code}");
        Ok(())
    });
    suite.case("a_container_at_its_pids_limit_cannot_fork", |g| {
        g.needs("pids")?;
        let mut b = g.bundle();
        b.set("/linux/resources/pids/limit", json!(5))
            .shell("for i in 1 2 3 4 5 6 7 8; do sleep 2 & done; echo $?");
        let out = b.run();
        assert!(out.stderr.contains("fork"), "{}{}", out.stdout, out.stderr);
        Ok(())
    });
    suite.case("a_container_runs_on_its_cpus_alone", |g| {
        g.needs("cpuset")?;
        let mut b = g.bundle();
        b.set("/linux/resources/cpu/cpus", json!("0"));
        assert_eq!(b.facts().status("Cpus_allowed_list"), ["0"]);
        Ok(())
    });
    suite.case("the_events_of_a_container_tell_its_oom_kill", |g| {
        g.needs("memory")?;
        let mut b = g.bundle();
        b.set(
            "/linux/resources/memory",
            json!({"limit": 33_554_432, "swap": 33_554_432}),
        );
        b.shell(
            "touch /tmp/ready; (dd if=/dev/zero of=/dev/shm/fill bs=1M count=60); exec sleep 1000",
        );
        let pid = b.detach();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !b
            .cgroup_file("memory.events")
            .lines()
            .any(|l| l.starts_with("oom_kill ") && l != "oom_kill 0")
        {
            assert!(
                std::time::Instant::now() < deadline,
                "{}",
                b.cgroup_file("memory.events")
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        b.on(&["delete", "--force"], &[]).ok();
        wait_exit(pid);
        Ok(())
    });
}
