//! What does a container in a user namespace of its own see and own?
use rsrun_tests::cli::facts::namespace_of;
use rsrun_tests::cli::suite::Suite;
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;

pub(crate) const ONE: [(u32, u32, u32); 1] = [(0, 100_000, 65_536)];

pub(crate) fn cases(suite: &mut Suite) {
    mapped(suite);
    file_systems(suite);
    refused(suite);
}

pub(crate) fn map(text: &str) -> Vec<Vec<u32>> {
    text.lines()
        .map(|l| {
            l.split_whitespace()
                .map(|w| w.parse().expect("a number"))
                .collect()
        })
        .collect()
}

fn mapped(suite: &mut Suite) {
    suite.case("a_user_namespace_has_the_mapping_of_the_spec", |g| {
        let mut b = g.bundle();
        b.user_namespace(&ONE);
        let facts = b.facts();
        assert_eq!(map(facts.text("/uid_map")), [[0, 100_000, 65_536]]);
        assert_eq!(map(facts.text("/gid_map")), [[0, 100_000, 65_536]]);
        assert_eq!(facts.text("/setgroups"), "allow");
        assert_eq!((facts.status("Uid")[0], facts.status("Gid")[0]), ("0", "0"));
        Ok(())
    });
    suite.case("several_ranges_are_mapped_each", |g| {
        let ranges = [
            (0, 100_000, 1000),
            (1000, 200_000, 1),
            (1001, 300_000, 64_000),
            (100_000, 500_000, 10),
        ];
        let mut b = g.bundle();
        b.user_namespace(&ranges).set(
            "/process/user",
            json!({"uid": 1000, "gid": 100_005, "additionalGids": [1001]}),
        );
        let facts = b.facts();
        let wanted: Vec<Vec<u32>> = ranges.iter().map(|(a, b, c)| vec![*a, *b, *c]).collect();
        assert_eq!(map(facts.text("/uid_map")), wanted);
        assert_eq!(
            (
                facts.status("Uid")[0],
                facts.status("Gid")[0],
                facts.status("Groups")
            ),
            ("1000", "100005", vec!["1001"])
        );
        Ok(())
    });
    suite.case("the_process_is_the_mapped_user_on_the_host", |g| {
        let mut b = g.bundle();
        b.user_namespace(&ONE)
            .set("/process/user", json!({"uid": 7, "gid": 8}));
        let pid = b.hold();
        let meta = fs::metadata(format!("/proc/{pid}")).expect("a process");
        assert_eq!((meta.uid(), meta.gid()), (100_007, 100_008));
        Ok(())
    });
    suite.case(
        "files_that_root_makes_inside_belong_to_the_mapped_root",
        |g| {
            let mut b = g.bundle();
            b.user_namespace(&ONE)
                .args(&["/bin/touch", "/tmp/made"])
                .run()
                .ok();
            let meta = fs::metadata(b.rootfs("/tmp/made")).expect("a file");
            assert_eq!((meta.uid(), meta.gid()), (100_000, 100_000));
            Ok(())
        },
    );
    suite.case("an_exec_is_in_the_user_namespace_with_the_same_ids", |g| {
        let mut b = g.bundle();
        b.user_namespace(&ONE);
        let pid = b.hold();
        let facts = b.exec_facts(&["--user", "5:6"]);
        assert_eq!((facts.status("Uid")[0], facts.status("Gid")[0]), ("5", "6"));
        assert_eq!(facts.ns("user"), namespace_of(pid, "user"));
        Ok(())
    });
    suite.case("capabilities_hold_in_the_user_namespace_only", |g| {
        let mut b = g.bundle();
        let list = json!(["CAP_SYS_ADMIN", "CAP_SYS_TIME", "CAP_MKNOD"]);
        b.user_namespace(&ONE).set("/process/capabilities", json!({"bounding": list, "effective": list, "permitted": list}));
        b.shell("mkdir /tmp/m && mount -t tmpfs none /tmp/m && echo mounted; mknod /tmp/null c 1 3 || echo no device");
        assert_eq!(b.printed(), "mounted\nno device");
        Ok(())
    });
}

fn file_systems(suite: &mut Suite) {
    suite.case("the_default_mounts_are_there_in_a_user_namespace", |g| {
        let mut b = g.bundle();
        b.user_namespace(&ONE);
        let facts = b.facts();
        for (point, kind) in [
            ("/proc", "proc"),
            ("/dev", "tmpfs"),
            ("/dev/pts", "devpts"),
            ("/dev/shm", "tmpfs"),
            ("/dev/mqueue", "mqueue"),
            ("/sys", "sysfs"),
        ] {
            assert_eq!(facts.mount(point).kind, kind, "{point}");
        }
        assert!(facts.mount("/sys").has("ro"));
        Ok(())
    });
    suite.case("default_devices_are_the_host_s_by_bind_mounts", |g| {
        let mut b = g.bundle();
        b.user_namespace(&ONE);
        let stat = b.probe(&[
            "stat",
            "/dev/null",
            "/dev/zero",
            "/dev/full",
            "/dev/random",
            "/dev/urandom",
            "/dev/tty",
        ]);
        let numbers: Vec<&str> = stat
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|s| s["device"].as_str())
            .collect();
        assert_eq!(numbers, ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"]);
        assert_eq!(
            b.probe(&["open", "rw:/dev/null", "r:/dev/zero", "r:/dev/urandom"]),
            json!([0, 0, 0])
        );
        assert!(b.facts().is_mounted("/dev/null"));
        Ok(())
    });
    suite.case("a_device_of_the_spec_is_there_in_a_user_namespace", |g| {
        let mut b = g.bundle();
        b.user_namespace(&ONE).set(
            "/linux/devices/-",
            json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}),
        );
        if !std::path::Path::new("/dev/fuse").exists() {
            rsrun_tests::cli::suite::skip("needs /dev/fuse");
        }
        assert_eq!(b.probe(&["stat", "/dev/fuse"])[0]["device"], "10:229");
        Ok(())
    });
    suite.case("masked_and_readonly_paths_hold_in_a_user_namespace", |g| {
        let mut b = g.bundle();
        b.user_namespace(&ONE)
            .set("/linux/maskedPaths", json!(["/proc/keys", "/proc/bus"]))
            .set("/linux/readonlyPaths", json!(["/proc/sys"]));
        let facts = b.facts();
        assert!(facts.mount("/proc/sys").has("ro"));
        assert_eq!(b.probe(&["stat", "/proc/keys"])[0]["device"], "1:3");
        b.args(&["/bin/ls", "-A", "/proc/bus"]);
        assert_eq!(b.printed(), "");
        Ok(())
    });
    suite.case("the_cgroup_of_a_user_namespace_is_mounted_and_its_own", |g| {
        g.differs_from_runc("a writable cgroup mount in an own cgroup namespace is delegated; runc does it with systemd alone")?;
        let mut b = g.bundle();
        b.user_namespace(&ONE).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "rw"]);
        b.shell("mkdir /sys/fs/cgroup/below && rmdir /sys/fs/cgroup/below && echo delegated");
        assert_eq!(b.printed(), "delegated");
        Ok(())
    });
    suite.case("a_read_only_root_holds_in_a_user_namespace", |g| {
        let mut b = g.bundle();
        b.user_namespace(&ONE).set("/root/readonly", json!(true));
        assert!(b.facts().mount("/").has("ro"));
        Ok(())
    });
    suite.case(
        "a_sysctl_of_an_own_network_namespace_is_set_in_a_user_namespace",
        |g| {
            let mut b = g.bundle();
            b.user_namespace(&ONE).set(
                "/linux/sysctl",
                json!({"net.ipv4.ip_unprivileged_port_start": "80"}),
            );
            b.args(&["/bin/cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"]);
            assert_eq!(b.printed(), "80");
            Ok(())
        },
    );
    suite.case(
        "a_bind_mount_keeps_the_flags_that_a_user_namespace_may_not_clear",
        |g| {
            g.since_runc(1, 2, "a bind mount with locked flags")?;
            use nix::mount::{MntFlags, MsFlags, mount, umount2};
            let source = g.work.join("locked");
            fs::create_dir(&source).expect("a directory");
            mount(
                Some("locked"),
                &source,
                Some("tmpfs"),
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
                None::<&str>,
            )
            .expect("a tmpfs");
            let mut b = g.bundle();
            b.user_namespace(&ONE).mount(
                "/locked",
                "bind",
                &source.to_string_lossy(),
                &["rbind", "ro"],
            );
            let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| b.facts()));
            umount2(&source, MntFlags::MNT_DETACH).expect("an umount");
            fs::remove_dir(&source).expect("removed");
            let mount = seen
                .unwrap_or_else(|p| std::panic::resume_unwind(p))
                .mount("/locked");
            assert!(
                ["ro", "nosuid", "nodev", "noexec"]
                    .iter()
                    .all(|f| mount.has(f)),
                "{:?}",
                mount.options
            );
            Ok(())
        },
    );
}

fn refused(suite: &mut Suite) {
    suite.case("a_new_user_namespace_without_mappings_is_refused", |g| {
        let mut b = g.bundle();
        b.set("/linux/namespaces/-", json!({"type": "user"}));
        assert!(b.refused().to_lowercase().contains("mapping"));
        Ok(())
    });
    suite.case("a_uid_outside_the_mappings_is_refused", |g| {
        let mut b = g.bundle();
        b.user_namespace(&[(0, 100_000, 10)])
            .set("/process/user", json!({"uid": 11, "gid": 0}));
        b.refused();
        Ok(())
    });
    suite.case("overlapping_mappings_are_refused", |g| {
        g.since_runc(1, 2, "a clean end of a failed mapping")?;
        let mut b = g.bundle();
        b.user_namespace(&[(0, 100_000, 10), (5, 200_000, 10)]);
        b.refused();
        Ok(())
    });
}
