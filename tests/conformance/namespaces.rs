//! Which namespaces is a container in: new ones, the host's, or those of others?
use nix::unistd::Pid;
use rsrun_tests::cli::bundle::wait_exit;
use rsrun_tests::cli::suite::Suite;
use serde_json::json;
use std::fs;
use std::process::Command;

/// Name in the spec and name below /proc/PID/ns.
const KINDS: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
];

pub(crate) fn cases(suite: &mut Suite) {
    new_and_host(suite);
    joined(suite);
    refused(suite);
    pods(suite);
    time(suite);
}

fn link(pid: &str, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}"))
        .map(|p| p.display().to_string())
        .unwrap_or_default()
}

fn new_and_host(suite: &mut Suite) {
    for (kind, file) in KINDS {
        suite.case(format!("a_new_{kind}_namespace_is_made"), move |g| {
            assert_ne!(g.bundle().facts().ns(file), link("self", file));
            Ok(())
        });
    }
    for (kind, file) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
        suite.case(
            format!("without_a_{kind}_namespace_it_is_the_host_s"),
            move |g| {
                let mut b = g.bundle();
                let kept: Vec<&str> = KINDS
                    .iter()
                    .map(|(k, _)| *k)
                    .filter(|k| k != kind)
                    .collect();
                b.namespaces(&kept);
                if *kind == "uts" {
                    b.remove("/hostname");
                }
                if *kind == "network" {
                    // sysfs may be mounted only in a network namespace of one's own user namespace: it is, here.
                    b.remove("/hostname");
                }
                assert_eq!(b.facts().ns(file), link("self", file));
                Ok(())
            },
        );
    }
    suite.case(
        "the_first_process_of_a_new_pid_namespace_is_1_and_sees_itself_alone",
        |g| {
            let facts = g.bundle().facts();
            assert_eq!(
                (facts.number("/pid"), facts.at("/processes")),
                (1, &json!([1]))
            );
            Ok(())
        },
    );
    suite.case("a_new_network_namespace_has_its_loopback_up", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/cat", "/sys/class/net/lo/flags"]);
        assert_eq!(b.printed(), "0x9");
        Ok(())
    });
    suite.case(
        "a_new_ipc_namespace_has_no_message_queues_of_the_host",
        |g| {
            let mut b = g.bundle();
            b.args(&["/bin/ls", "-A", "/dev/mqueue"]);
            assert_eq!(b.printed(), "");
            Ok(())
        },
    );
    suite.case("in_a_cgroup_namespace_the_own_cgroup_is_the_root", |g| {
        assert_eq!(
            g.bundle().facts().text("/cgroup").rsplit('\n').next(),
            Some("0::/")
        );
        Ok(())
    });
    suite.case(
        "without_a_cgroup_namespace_the_own_cgroup_has_its_full_path",
        |g| {
            let mut b = g.bundle();
            b.namespaces(&["pid", "network", "ipc", "uts", "mount"]);
            let path = b.spec["linux"]["cgroupsPath"]
                .as_str()
                .map(String::from)
                .expect("a path");
            assert!(b.facts().text("/cgroup").ends_with(&format!("0::{path}")));
            Ok(())
        },
    );
    suite.case("hostname_and_domainname_are_set_inside_only", |g| {
        g.since_runc(1, 2, "domain names")?;
        let mut b = g.bundle();
        b.set("/hostname", json!("a-host"))
            .set("/domainname", json!("a.domain"));
        let facts = b.facts();
        assert_eq!(
            (
                facts.text("/uname/nodename"),
                facts.text("/uname/domainname")
            ),
            ("a-host", "a.domain")
        );
        Ok(())
    });
}

fn joined(suite: &mut Suite) {
    for (kind, file) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
        suite.case(
            format!("a_{kind}_namespace_is_joined_by_the_path_of_a_process"),
            move |g| {
                let mut holder = g.bundle();
                let pid = holder.hold().to_string();
                let mut b = g.bundle();
                b.join(kind, &format!("/proc/{pid}/ns/{file}"));
                if *kind == "uts" {
                    b.remove("/hostname");
                }
                assert_eq!(b.facts().ns(file), link(&pid, file));
                Ok(())
            },
        );
    }
    suite.case(
        "a_network_namespace_is_joined_by_a_bind_mount_after_its_maker_went",
        |g| {
            let mut holder = g.bundle();
            let pid = holder.hold().to_string();
            let ns = link(&pid, "net");
            let point = g.work.join("netns");
            fs::write(&point, "").expect("a file");
            use nix::mount::{MntFlags, MsFlags, mount, umount2};
            mount(
                Some(format!("/proc/{pid}/ns/net").as_str()),
                &point,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .expect("a bind");
            drop(holder);
            let mut b = g.bundle();
            b.join("network", &point.to_string_lossy());
            let facts = b.facts();
            umount2(&point, MntFlags::MNT_DETACH).expect("an umount");
            fs::remove_file(&point).expect("removed");
            assert_eq!(facts.ns("net"), ns);
            Ok(())
        },
    );
    suite.case(
        "the_loopback_of_a_joined_network_namespace_is_left_as_it_is",
        |g| {
            let point = g.work.join("netns");
            fs::write(&point, "").expect("a file");
            // A new one, which nobody is in: its loopback is down.
            let made = Command::new("unshare")
                .arg(format!("--net={}", point.display()))
                .arg("true")
                .status();
            assert!(made.expect("unshare").success());
            let mut b = g.bundle();
            b.join("network", &point.to_string_lossy());
            b.args(&["/bin/cat", "/sys/class/net/lo/flags"]);
            // Whoever raises it does so beside the container, perhaps after it has looked.
            let seen = [b.printed(), b.printed()];
            nix::mount::umount2(&point, nix::mount::MntFlags::MNT_DETACH).expect("an umount");
            fs::remove_file(&point).expect("removed");
            assert_eq!(seen, ["0x8", "0x8"]);
            Ok(())
        },
    );
    suite.case("the_host_s_namespace_is_joined_by_its_path", |g| {
        let mut b = g.bundle();
        b.join("ipc", &format!("/proc/{}/ns/ipc", std::process::id()));
        assert_eq!(b.facts().ns("ipc"), link("self", "ipc"));
        Ok(())
    });
    suite.case("five_namespaces_of_one_process_are_joined_at_once", |g| {
        let mut holder = g.bundle();
        let pid = holder.hold().to_string();
        let mut b = g.bundle();
        b.remove("/hostname");
        for (kind, file) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
            b.join(kind, &format!("/proc/{pid}/ns/{file}"));
        }
        let facts = b.facts();
        for (_, file) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
            assert_eq!(facts.ns(file), link(&pid, file), "{file}");
        }
        Ok(())
    });
}

fn refused(suite: &mut Suite) {
    suite.case(
        "a_namespace_path_that_is_not_there_is_refused_by_name",
        |g| {
            let mut b = g.bundle();
            b.join("network", "/proc/self/ns/no-such");
            assert!(b.refused().contains("/proc/self/ns/no-such"));
            Ok(())
        },
    );
    suite.case("a_namespace_of_another_kind_is_refused", |g| {
        let mut b = g.bundle();
        b.join("ipc", &format!("/proc/{}/ns/net", std::process::id()));
        b.refused();
        Ok(())
    });
    suite.case("a_file_that_is_no_namespace_is_refused", |g| {
        let mut b = g.bundle();
        b.join("network", "/etc/passwd");
        b.refused();
        Ok(())
    });
    suite.case("a_namespace_named_twice_is_refused", |g| {
        let mut b = g.bundle();
        b.set("/linux/namespaces/-", json!({"type": "ipc"}));
        b.refused();
        Ok(())
    });
    suite.case("a_hostname_without_a_uts_namespace_is_refused", |g| {
        let mut b = g.bundle();
        b.namespaces(&["pid", "network", "ipc", "mount", "cgroup"]);
        assert!(b.refused().to_lowercase().contains("uts"));
        Ok(())
    });
    suite.case("a_domainname_without_a_uts_namespace_is_refused", |g| {
        g.since_runc(1, 2, "domain names")?;
        let mut b = g.bundle();
        b.namespaces(&["pid", "network", "ipc", "mount", "cgroup"])
            .remove("/hostname")
            .set("/domainname", json!("a.domain"));
        assert!(b.refused().to_lowercase().contains("uts"));
        Ok(())
    });
}

fn pods(suite: &mut Suite) {
    suite.case(
        "two_containers_of_a_pod_see_each_other_in_a_shared_pid_namespace",
        |g| {
            let mut first = g.bundle();
            let pid = first.hold();
            let mut second = g.bundle();
            second.join("pid", &format!("/proc/{pid}/ns/pid"));
            let facts = second.facts();
            assert!(facts.number("/pid") > 1);
            assert_eq!(facts.at("/processes").as_array().map(Vec::len), Some(2));
            // /proc shows the joined namespace, not one of the launcher's.
            assert_eq!(facts.ns("pid"), link(&pid.to_string(), "pid"));
            Ok(())
        },
    );
    suite.case(
        "a_forced_delete_ends_what_a_container_left_in_a_shared_pid_namespace",
        |g| {
            g.since_runc(
                1,
                2,
                "the end of all processes of a cgroup without a pid namespace",
            )?;
            let mut first = g.bundle();
            let pid = first.hold();
            let mut second = g.bundle();
            second.join("pid", &format!("/proc/{pid}/ns/pid"));
            second.shell("sleep 1000 & sleep 1000 & exit 3");
            let init = second.detach();
            assert_eq!(wait_exit(init), 3);
            second.wait_for("stopped");
            second.on(&["delete", "--force"], &[]).ok();
            assert!(
                !second.cgroup("").exists(),
                "the cgroup of the second is still there"
            );
            assert_eq!(first.status(), "running");
            Ok(())
        },
    );
    suite.case(
        "the_end_of_a_pid_namespace_s_first_process_ends_those_that_joined",
        |g| {
            let mut first = g.bundle();
            let pid = first.hold();
            let mut second = g.bundle();
            second.join("pid", &format!("/proc/{pid}/ns/pid"));
            let joined = second.hold();
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("a signal");
            assert_eq!(wait_exit(joined), 137);
            let _: (i32, Pid) = (wait_exit(pid), joined);
            Ok(())
        },
    );
}

fn time(suite: &mut Suite) {
    suite.case("time_namespace_offsets_hold_for_the_container_and_its_execs", |g| {
        g.since_runc(1, 2, "time namespaces")?;
        let mut b = g.bundle();
        b.set("/linux/namespaces/-", json!({"type": "time"}));
        b.set("/linux/timeOffsets", json!({"monotonic": {"secs": 7200, "nanosecs": 0}, "boottime": {"secs": 1_000_000, "nanosecs": 5}}));
        let words = |facts: &rsrun_tests::cli::facts::Facts| {
            facts.text("/timens_offsets").split_whitespace().map(String::from).collect::<Vec<_>>()
        };
        let own = std::process::Command::new(b.rootfs("/bin/probe")).arg("facts").output().expect("the probe on the host");
        let own = rsrun_tests::cli::facts::Facts::parse(&String::from_utf8_lossy(&own.stdout));
        let facts = b.facts();
        assert_ne!(facts.ns("time"), link("self", "time"));
        let wanted = ["monotonic", "7200", "0", "boottime", "1000000", "5"];
        assert_eq!(words(&facts), wanted);
        let ahead = facts.number("/boottime") - own.number("/boottime");
        assert!((1_000_000..1_000_300).contains(&ahead), "boot time is {ahead} s ahead");
        b.hold();
        let exec = b.exec_facts(&[]);
        assert_eq!(words(&exec), wanted);
        assert!(exec.number("/monotonic") - own.number("/monotonic") >= 7200);
        Ok(())
    });
    suite.case("a_time_namespace_is_joined_by_its_path", |g| {
        g.since_runc(1, 2, "time namespaces")?;
        let mut holder = g.bundle();
        holder.set("/linux/namespaces/-", json!({"type": "time"}));
        holder.set("/linux/timeOffsets", json!({"boottime": {"secs": 500_000}}));
        let pid = holder.hold().to_string();
        let mut b = g.bundle();
        b.join("time", &format!("/proc/{pid}/ns/time"));
        let facts = b.facts();
        assert_eq!(facts.ns("time"), link(&pid, "time"));
        Ok(())
    });
    suite.case("time_offsets_without_a_time_namespace_are_refused", |g| {
        g.since_runc(1, 2, "time namespaces")?;
        let mut b = g.bundle();
        b.set("/linux/timeOffsets", json!({"monotonic": {"secs": 7200}}));
        assert!(b.refused().to_lowercase().contains("time"));
        Ok(())
    });
    suite.case("an_offset_of_an_unknown_clock_is_refused", |g| {
        g.since_runc(1, 2, "time namespaces")?;
        let mut b = g.bundle();
        b.set("/linux/namespaces/-", json!({"type": "time"}));
        b.set("/linux/timeOffsets", json!({"realtime": {"secs": 7200}}));
        b.refused();
        Ok(())
    });
}
