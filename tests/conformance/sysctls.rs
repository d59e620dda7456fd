//! Which kernel settings may a container have, and where do they hold?
use rsrun_tests::cli::suite::Suite;
use serde_json::json;

pub(crate) fn cases(suite: &mut Suite) {
    let good = [
        ("kernel.shm_rmid_forced", "1"),
        ("kernel.msgmax", "4096"),
        ("kernel.sem", "10 100 10 5"),
        ("kernel.shmall", "100000"),
        ("fs.mqueue.msg_max", "7"),
        ("net.ipv4.ip_unprivileged_port_start", "80"),
        ("net.ipv4.ping_group_range", "0 2147483647"),
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.lo.forwarding", "1"),
    ];
    for (key, value) in good {
        suite.case(
            format!(
                "sysctl_{}_holds_inside_and_not_on_the_host",
                key.replace('.', "_")
            ),
            move |g| {
                let path = format!("/proc/sys/{}", key.replace('.', "/"));
                let host = std::fs::read_to_string(&path).unwrap_or_default();
                let mut b = g.bundle();
                b.set("/linux/sysctl", json!({key: value}))
                    .args(&["/bin/cat", &path]);
                let found: Vec<String> = b.printed().split_whitespace().map(String::from).collect();
                assert_eq!(found, value.split_whitespace().collect::<Vec<_>>());
                assert_eq!(
                    std::fs::read_to_string(&path).unwrap_or_default(),
                    host,
                    "the host's {key}"
                );
                Ok(())
            },
        );
    }
    suite.case("a_sysctl_with_slashes_reaches_a_name_with_dots", |g| {
        let mut b = g.bundle();
        b.set("/linux/sysctl", json!({"net/ipv4/conf/lo/forwarding": "1"}))
            .args(&["/bin/cat", "/proc/sys/net/ipv4/conf/lo/forwarding"]);
        let out = b.run();
        // runc before 1.1 knew dots alone.
        assert_eq!(out.ok().stdout.trim(), "1");
        Ok(())
    });
    suite.case("several_sysctls_hold_at_once", |g| {
        let mut b = g.bundle();
        b.set(
            "/linux/sysctl",
            json!({"kernel.msgmax": "4097", "kernel.msgmnb": "5000", "net.ipv4.ip_forward": "1"}),
        );
        b.args(&[
            "/bin/cat",
            "/proc/sys/kernel/msgmax",
            "/proc/sys/kernel/msgmnb",
            "/proc/sys/net/ipv4/ip_forward",
        ]);
        assert_eq!(b.printed(), "4097\n5000\n1");
        Ok(())
    });
    let bad = [
        ("one_of_the_whole_host", "vm.swappiness", "10"),
        ("the_core_pattern", "kernel.core_pattern", "/tmp/core"),
        (
            "one_that_hides_another",
            "kernel.shm_rmid_forced=1+kernel.core_pattern",
            "x",
        ),
        ("one_with_parents", "net/../kernel/core_pattern", "x"),
        (
            "one_with_dots_for_parents",
            "net.ipv4...kernel.core_pattern",
            "x",
        ),
        ("one_that_is_missing", "net.ipv4.no_such_thing", "1"),
        ("the_hostname", "kernel.hostname", "other"),
        ("an_empty_name", "", "1"),
    ];
    for (what, key, value) in bad {
        suite.case(format!("as_a_sysctl_{what}_is_refused"), move |g| {
            let mut b = g.bundle();
            b.set("/linux/sysctl", json!({key: value}));
            b.refused();
            Ok(())
        });
    }
    suite.case("a_value_that_the_kernel_rejects_is_refused_by_name", |g| {
        let mut b = g.bundle();
        b.set("/linux/sysctl", json!({"kernel.msgmax": "a lot"}));
        let said = b.refused();
        assert!(said.contains("msgmax"), "{said}");
        Ok(())
    });
    for (key, kind) in [
        ("net.ipv4.ip_forward", "network"),
        ("kernel.msgmax", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
    ] {
        suite.case(
            format!(
                "sysctl_{}_without_a_{kind}_namespace_is_refused",
                key.replace('.', "_")
            ),
            move |g| {
                let mut b = g.bundle();
                let kept: Vec<&str> = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
                    .into_iter()
                    .filter(|k| *k != kind)
                    .collect();
                b.namespaces(&kept)
                    .remove("/hostname")
                    .set("/linux/sysctl", json!({key: "1"}));
                let said = b.refused();
                assert!(said.contains(key), "{said}");
                Ok(())
            },
        );
    }
}
