//! A15–A17, B06: words that are taken for more than they are: cgroup paths, ids, settings, users.

use std::fs;
use std::path::Path;

use rsrun_tests::containment::scene::stopped;
use rsrun_tests::containment::suite::Attacks;
use serde_json::{Value, json};

use crate::naive;
use crate::plant;

pub(crate) fn families(all: &mut Attacks) {
    a15_cgroup_paths(all.family("a15"));
    a16_ids(all.family("a16"));
    a17_settings(all.family("a17"));
    b06_users(all.family("b06"));
}

/// crun 1.28 and 1.29: a path with `..` leaves the container's cgroup.
fn a15_cgroup_paths(all: &mut Attacks) {
    let paths = [
        ("climbs_at_once", "/../../escaped"),
        ("climbs_in_between", "a/../../escaped"),
        ("climbs_at_the_end", "/a/b/.."),
        ("is_two_dots", ".."),
        ("climbs_with_two_slashes", "//a//../../escaped"),
        ("is_a_slice_that_climbs", ":..:"),
        ("is_the_root", "/"),
        ("has_a_line_end", "/a\nb"),
        ("has_a_zero_byte", "/a\0b"),
        ("is_the_harness_itself", "/harness/.."),
    ];
    for (what, path) in paths {
        all.contained(format!("a_cgroup_path_that_{what}"), move |s| {
            let mut b = s.bundle();
            b.set("/linux/cgroupsPath", json!(path));
            // Refused, or taken for a name: then below the mount, and gone again after.
            let out = stopped(b.run());
            assert!(out.code != 0 || !path.contains(".."), "accepted");
            assert!(!Path::new("/sys/fs/cgroup/escaped").exists());
            Ok(())
        });
    }
    for path in ["../..", "..", "x/../../..", "/../other"] {
        let name = path.replace('/', "_").replace("..", "up");
        all.contained(format!("an_exec_to_the_cgroup_{name}"), move |s| {
            let mut b = s.bundle();
            b.hold();
            let out = b.on(
                &["exec", "--cgroup", path],
                &["/bin/cat", "/proc/self/cgroup"],
            );
            out.refused();
            Ok(())
        });
    }
    all.control("a_cgroup_by_a_path_of_text", "cgroup escaped", |s| {
        let path = format!("{}/../escaped", s.ground.prefix);
        naive::runtime(&["mkdir", &format!("/sys/fs/cgroup/{path}")]);
        Ok(())
    });
}

/// crun 1646: the id is part of a path.
fn a16_ids(all: &mut Attacks) {
    let ids = [
        ("is_two_dots", ".."),
        ("is_a_dot", "."),
        ("has_a_slash", "a/b"),
        ("climbs", "../../../srv/canary/dir"),
        ("climbs_in_between", "a/../b"),
        ("is_absolute", "/srv/canary/dir"),
        ("is_empty", ""),
        ("has_a_line_end", "a\nb"),
        ("has_a_zero_by_percent", "a%00b"),
        ("is_an_option", "--force"),
        ("is_beyond_ascii", "ä\u{2215}b"),
        ("is_the_profiles_directory", "@seccomp"),
    ];
    for (what, id) in ids {
        all.contained(format!("an_id_that_{what}"), move |s| {
            let b = s.bundle();
            b.write();
            let bundle = b.dir.to_string_lossy();
            for verb in [
                &["run", "--bundle", &bundle][..],
                &["delete", "--force"],
                &["kill"],
            ] {
                let out = b.runtime().call(verb.iter().copied().chain([id]));
                assert!(stopped(out).code != 0, "{verb:?} took {id:?}");
            }
            Ok(())
        });
    }
    all.contained("an_id_of_1025_letters", |s| {
        let b = s.bundle();
        b.write();
        let id = "a".repeat(1025);
        b.runtime()
            .call(["run", "--bundle", &b.dir.to_string_lossy(), &id])
            .refused();
        Ok(())
    });
    all.contained("a_state_directory_that_is_a_link", |s| {
        let mut b = s.bundle();
        std::os::unix::fs::symlink(s.canary("dir"), b.runtime().root.join(&b.id)).expect("a link");
        stopped(b.args(&["/bin/true"]).run());
        stopped(b.on(&["delete", "--force"], &[]));
        let _ = fs::remove_file(b.runtime().root.join(&b.id));
        Ok(())
    });
    all.control("an_id_as_part_of_a_path", "canary/dir/state", |s| {
        let root = s.ground.runtime.root.join("../../../srv/canary/dir");
        naive::runtime(&["mkdir", &root.join("state").to_string_lossy()]);
        Ok(())
    });
}

/// CVE-2022-0811: names and values of settings that hold more than one.
fn a17_settings(all: &mut Attacks) {
    let settings = [
        (
            "a_second_one_behind_a_plus",
            "kernel.shm_rmid_forced",
            "1+kernel.core_pattern=|/x",
        ),
        (
            "a_second_one_behind_a_line_end",
            "kernel.shm_rmid_forced",
            "1\nkernel.core_pattern=|/x",
        ),
        ("core_pattern", "kernel.core_pattern", "|/x"),
        ("core_pattern_with_slashes", "kernel/core_pattern", "|/x"),
        ("a_climbing_name", "net/../kernel/core_pattern", "|/x"),
        (
            "a_climbing_name_of_dots",
            "net.ipv4...kernel.core_pattern",
            "|/x",
        ),
        (
            "a_name_that_climbs_at_the_end",
            "net.ipv4.ip_forward/../../../kernel/core_pattern",
            "|/x",
        ),
        ("modprobe", "kernel.modprobe", "/x"),
        ("vm_overcommit", "vm.overcommit_memory", "1"),
        ("an_empty_name", "", "1"),
        ("a_name_with_a_zero_byte", "net.ipv4.ip_forward\0", "1"),
        ("an_absolute_name", "/kernel/core_pattern", "|/x"),
    ];
    for (what, name, value) in settings {
        all.contained(format!("{what}_as_a_setting"), move |s| {
            let mut b = s.bundle();
            b.set("/linux/sysctl", json!({name: value}));
            b.refused();
            Ok(())
        });
    }
    for (name, value, kind) in [
        ("net.ipv4.ip_forward", "1", "network"),
        ("kernel.msgmax", "1234", "ipc"),
        ("kernel.domainname", "x", "uts"),
    ] {
        all.contained(
            format!("{}_of_the_host", name.replace('.', "_")),
            move |s| {
                let mut b = s.bundle();
                if let Some(list) = b.spec["linux"]["namespaces"].as_array_mut() {
                    list.retain(|n| n["type"] != kind);
                }
                b.remove("/hostname");
                if kind == "ipc" {
                    plant::unmounted(&mut b, "/dev/mqueue");
                }
                b.set("/linux/sysctl", json!({name: value}));
                b.refused();
                Ok(())
            },
        );
    }
    all.control("a_setting_by_replacing_dots", "core_pattern", |_| {
        naive::runtime(&["sysctl", "kernel.core_pattern", "|/escape"]);
        Ok(())
    });
}

/// CVE-2026-30892, CVE-2016-3697, CVE-2024-40635, CVE-2026-46680: numbers and names of users.
fn b06_users(all: &mut Attacks) {
    // What is asked, and the uid and gid that may come of it, if any.
    type Ids = Option<(&'static str, &'static str)>;
    const ASKED: [(&str, &str, Ids); 14] = [
        ("one", "1", Some(("1", "0"))),
        ("one_and_two", "1:2", Some(("1", "2"))),
        ("nothing_behind_a_colon", "1:", None),
        ("nothing_before_a_colon", ":1", None),
        ("minus_one", "-1", None),
        ("the_largest", "4294967295", None),
        ("one_too_large", "4294967296", None),
        ("far_too_large", "18446744073709551616", None),
        ("plus_one", "+1", None),
        ("a_blank_before", " 1", None),
        ("hexadecimal", "0x1", None),
        ("three_parts", "1:1:1", None),
        ("a_group_too_large", "1:4294967296", None),
        ("a_name_that_is_not_there", "nobody-here", None),
    ];
    for (what, asked, wanted) in ASKED {
        all.contained(format!("a_user_of_{what}"), move |s| {
            let mut b = s.bundle();
            // An image whose names are numbers that mean root.
            let names = [
                "4294967296",
                "18446744073709551616",
                "4294967295",
                "-1",
                "+1",
                "0x1",
                " 1",
            ];
            let lines: String = names
                .iter()
                .map(|n| format!("{n}:x:0:0::/:/bin/sh\n"))
                .collect();
            plant::file(&b, "/etc/passwd", &lines);
            plant::file(&b, "/etc/group", &lines.replace(":0::/:/bin/sh", ":"));
            b.hold();
            let out = b.on(
                &["exec", &format!("--user={asked}")],
                &["/bin/probe", "facts"],
            );
            if out.code != 0 {
                assert!(wanted.is_none(), "{}", out.stderr);
                return Ok(());
            }
            let facts = rsrun_tests::cli::facts::Facts::parse(&out.stdout);
            let seen = (facts.status("Uid")[0], facts.status("Gid")[0]);
            match wanted {
                Some(ids) => assert_eq!(seen, ids),
                None => panic!("{asked:?} became {seen:?}"),
            }
            Ok(())
        });
    }
    for uid in [
        json!(-1),
        json!(4_294_967_296u64),
        json!("0"),
        json!(1.5),
        json!(4_294_967_295u64),
        Value::Null,
    ] {
        let name = uid.to_string().replace(['-', '.', '"'], "_");
        all.contained(format!("a_uid_of_{name}_in_the_spec"), move |s| {
            let mut b = s.bundle();
            b.set("/process/user/uid", uid.clone());
            b.refused();
            Ok(())
        });
    }
}
