//! Which devices are there, and which of them open?
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::suite::Suite;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

const EPERM: i64 = -1;
const ENXIO: i64 = -6;

pub(crate) fn cases(suite: &mut Suite) {
    nodes(suite);
    extra(suite);
    rules(suite);
}

fn nodes(suite: &mut Suite) {
    suite.case("the_six_default_devices_are_there_and_open", |g| {
        let mut b = g.bundle();
        let paths = [
            "/dev/null",
            "/dev/zero",
            "/dev/full",
            "/dev/random",
            "/dev/urandom",
            "/dev/tty",
        ];
        let stat = b.probe(&[&["stat"], &paths[..]].concat());
        for (one, number) in stat
            .as_array()
            .expect("a list")
            .iter()
            .zip(["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"])
        {
            assert_eq!(
                (&one["type"], &one["device"], &one["mode"], &one["uid"]),
                (&json!("char"), &json!(number), &json!(0o666), &json!(0))
            );
        }
        // The terminal is there but the process has none: ENXIO.
        let open = b.probe(&[
            "open",
            "rw:/dev/null",
            "rw:/dev/zero",
            "rw:/dev/full",
            "r:/dev/random",
            "r:/dev/urandom",
            "rw:/dev/tty",
        ]);
        assert_eq!(open, json!([0, 0, 0, 0, 0, -6]));
        Ok(())
    });
    suite.case("the_default_links_lead_where_they_should", |g| {
        let mut b = g.bundle();
        let links = [
            ("/dev/fd", "/proc/self/fd"),
            ("/dev/stdin", "/proc/self/fd/0"),
            ("/dev/stdout", "/proc/self/fd/1"),
            ("/dev/stderr", "/proc/self/fd/2"),
            ("/dev/ptmx", "pts/ptmx"),
        ];
        let paths: Vec<&str> = links.iter().map(|(path, _)| *path).collect();
        let stat = b.probe(&[&["stat"], &paths[..]].concat());
        let found: Vec<&str> = stat
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|s| s["link"].as_str())
            .collect();
        assert_eq!(found, links.map(|(_, target)| target));
        Ok(())
    });
    suite.case("a_terminal_can_be_made_inside", |g| {
        let mut b = g.bundle();
        assert_eq!(
            b.probe(&["open", "rw:/dev/ptmx", "rw:/dev/pts/ptmx"]),
            json!([0, 0])
        );
        Ok(())
    });
    suite.case("no_device_but_the_default_ones_is_in_dev", |g| {
        let facts = g.bundle().facts();
        let mut found: Vec<String> = facts
            .list("/dev")
            .into_iter()
            .filter(|n| n != "core")
            .collect();
        found.sort();
        let wanted = [
            "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
            "stdout", "tty", "urandom", "zero",
        ];
        assert_eq!(found, wanted);
        Ok(())
    });
    suite.case("a_dev_bound_from_the_host_gets_no_devices_made", |g| {
        g.since_runc(1, 2, "a /dev without null")?;
        let mut b = g.bundle();
        fs::create_dir(b.dir.join("dev")).expect("a directory");
        let source = b.dir.join("dev");
        b.spec["mounts"]
            .as_array_mut()
            .expect("a list")
            .retain(|m| {
                !m["destination"]
                    .as_str()
                    .unwrap_or_default()
                    .starts_with("/dev")
            });
        b.mount("/dev", "bind", &source.to_string_lossy(), &["rbind"]);
        b.run().ok();
        assert_eq!(
            fs::read_dir(&source).expect("a directory").count(),
            0,
            "the host's directory was written"
        );
        Ok(())
    });
}

fn extra(suite: &mut Suite) {
    suite.case("a_device_of_the_spec_is_made_with_mode_and_owner", |g| {
        let mut b = g.bundle();
        b.set("/linux/devices", json!([
            {"path": "/dev/one", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
            {"path": "/dev/deep/two", "type": "b", "major": 7, "minor": 99, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
            {"path": "/dev/raw", "type": "u", "major": 1, "minor": 3}
        ]));
        let stat = b.probe(&["stat", "/dev/one", "/dev/deep/two", "/dev/pipe", "/dev/raw"]);
        let short = |v: &Value| (v["type"].clone(), v["device"].clone(), v["mode"].clone(), v["uid"].clone(), v["gid"].clone());
        assert_eq!(short(&stat[0]), (json!("char"), json!("1:5"), json!(0o640), json!(3), json!(4)));
        assert_eq!(short(&stat[1]), (json!("block"), json!("7:99"), json!(0o600), json!(0), json!(0)));
        assert_eq!((&stat[2]["type"], &stat[2]["mode"]), (&json!("fifo"), &json!(0o622)));
        assert_eq!((&stat[3]["type"], &stat[3]["device"]), (&json!("char"), &json!("1:3")));
        Ok(())
    });
    suite.case(
        "a_device_that_the_image_has_already_with_that_number_is_kept",
        |g| {
            let mut b = g.bundle();
            b.spec["mounts"]
                .as_array_mut()
                .expect("a list")
                .retain(|m| {
                    !m["destination"]
                        .as_str()
                        .unwrap_or_default()
                        .starts_with("/dev")
                });
            nix::sys::stat::mknod(
                &b.rootfs("/dev/null"),
                nix::sys::stat::SFlag::S_IFCHR,
                nix::sys::stat::Mode::from_bits_truncate(0o666),
                nix::sys::stat::makedev(1, 3),
            )
            .expect("a node");
            b.args(&["/bin/sh", "-c", "echo gone > /dev/null"]);
            b.run().ok();
            Ok(())
        },
    );
    suite.case("a_device_path_outside_dev_is_made_there", |g| {
        let mut b = g.bundle();
        b.set(
            "/linux/devices/-",
            json!({"path": "/opt/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666}),
        );
        assert_eq!(b.probe(&["open", "r:/opt/zero"]), json!([0]));
        Ok(())
    });
    suite.case("a_device_behind_a_link_stays_inside", |g| {
        g.since_runc(1, 2, "devices below a resolved parent")?;
        let mut b = g.bundle();
        symlink("/../../../../../../srv", b.rootfs("/opt")).expect("a link");
        b.set("/linux/devices/-", json!({"path": "/opt/rsrun-zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666}));
        b.run();
        assert!(!std::path::Path::new("/srv/rsrun-zero").exists());
        Ok(())
    });
}

/// Runs with all device capabilities and these rules; makes a node and opens it with a mode.
fn opens(b: &mut Bundle<'_>, rules: Value, nodes: &[(&str, &str, &str)]) -> Vec<i64> {
    let caps = json!([
        "CAP_MKNOD",
        "CAP_DAC_OVERRIDE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_ADMIN"
    ]);
    b.set(
        "/process/capabilities",
        json!({"bounding": caps, "effective": caps, "permitted": caps}),
    );
    b.set("/linux/resources/devices", rules);
    let mut line = String::new();
    let mut words = Vec::new();
    for (index, (mode, kind, number)) in nodes.iter().enumerate() {
        line += &format!(
            "mknod /tmp/n{index} {kind} {} 2>/dev/null; ",
            number.replace(':', " ")
        );
        words.push(format!("{mode}:/tmp/n{index}"));
    }
    b.shell(&format!("{line} probe open {}", words.join(" ")));
    serde_json::from_str(&b.printed()).expect("a list")
}

fn rules(suite: &mut Suite) {
    // Nobody drives major 42: what the rules let through fails with ENXIO, what they deny with EPERM.
    const ALL: &[(&str, &str, &str)] =
        &[("rw", "c", "1:3"), ("r", "c", "42:7"), ("r", "b", "42:7")];
    let deny = || json!([{"allow": false, "access": "rwm"}]);
    suite.case(
        "default_devices_open_under_a_rule_that_denies_all",
        move |g| {
            let mut b = g.bundle();
            b.set("/linux/resources/devices", deny());
            let open = b.probe(&[
                "open",
                "rw:/dev/null",
                "rw:/dev/zero",
                "rw:/dev/full",
                "r:/dev/random",
                "r:/dev/urandom",
                "rw:/dev/ptmx",
            ]);
            assert_eq!(open, json!([0, 0, 0, 0, 0, 0]));
            Ok(())
        },
    );
    suite.case("a_device_that_no_rule_names_does_not_open", move |g| {
        let mut b = g.bundle();
        let open = opens(&mut b, deny(), ALL);
        assert_eq!(open, [0, EPERM, EPERM]);
        Ok(())
    });
    suite.case(
        "a_container_without_rules_is_denied_devices_too",
        move |g| {
            let mut b = g.bundle();
            let open = opens(&mut b, json!([]), ALL);
            assert_eq!(open, [0, EPERM, EPERM]);
            Ok(())
        },
    );
    suite.case("a_rule_allows_one_device", move |g| {
        let mut b = g.bundle();
        let open = opens(&mut b, json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 42, "minor": 7, "access": "rwm"}]), ALL);
        assert_eq!(open, [0, ENXIO, EPERM]);
        Ok(())
    });
    suite.case("a_rule_allows_reading_alone", move |g| {
        let mut b = g.bundle();
        let rule = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 42, "minor": 7, "access": "rm"}]);
        let open = opens(&mut b, rule, &[("r", "c", "42:7"), ("w", "c", "42:7"), ("rw", "c", "42:7")]);
        assert_eq!(open, [ENXIO, EPERM, EPERM]);
        Ok(())
    });
    suite.case("a_rule_without_a_minor_allows_all_of_the_major", move |g| {
        let mut b = g.bundle();
        let rule = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 42, "access": "rwm"}]);
        let open = opens(&mut b, rule, &[("r", "c", "42:7"), ("r", "c", "42:8"), ("r", "c", "43:7")]);
        assert_eq!(open, [ENXIO, ENXIO, EPERM]);
        Ok(())
    });
    suite.case("a_rule_of_one_type_says_nothing_of_the_other", move |g| {
        let mut b = g.bundle();
        let rule = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 42, "minor": 7, "access": "rwm"}]);
        let open = opens(&mut b, rule, &[("r", "c", "42:7")]);
        assert_eq!(open, [EPERM]);
        Ok(())
    });
    suite.case("a_rule_that_allows_all_lets_every_device_open", move |g| {
        let mut b = g.bundle();
        let open = opens(
            &mut b,
            json!([{"allow": true, "type": "a", "access": "rwm"}]),
            ALL,
        );
        assert_eq!(open, [0, ENXIO, ENXIO]);
        Ok(())
    });
    suite.case(
        "a_later_rule_denies_what_an_earlier_one_allowed",
        move |g| {
            let mut b = g.bundle();
            let rule = json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 42, "minor": 7, "access": "rwm"},
                {"allow": false, "type": "c", "major": 42, "minor": 7, "access": "rwm"}
            ]);
            let open = opens(&mut b, rule, &[("r", "c", "42:7")]);
            assert_eq!(open, [EPERM]);
            Ok(())
        },
    );
    suite.case("one_device_is_denied_where_all_are_allowed", move |g| {
        let mut b = g.bundle();
        let rule = json!([{"allow": true, "type": "a", "access": "rwm"}, {"allow": false, "type": "c", "major": 42, "minor": 7, "access": "rw"}]);
        let open = opens(&mut b, rule, &[("r", "c", "42:7"), ("r", "c", "42:8")]);
        assert_eq!(open, [EPERM, ENXIO]);
        Ok(())
    });
    suite.case("an_exec_is_under_the_same_rules", move |g| {
        let mut b = g.bundle();
        let caps = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
        b.set(
            "/process/capabilities",
            json!({"bounding": caps, "effective": caps, "permitted": caps}),
        );
        b.set("/linux/resources/devices", deny()).hold();
        let out = b
            .on(
                &["exec"],
                &[
                    "/bin/sh",
                    "-c",
                    "mknod /tmp/m c 42 7; probe open r:/tmp/m r:/dev/null",
                ],
            )
            .ok();
        assert_eq!(out.stdout.trim(), "[-1,0]");
        Ok(())
    });
    suite.case("a_device_may_be_made_though_it_does_not_open", move |g| {
        let mut b = g.bundle();
        let caps = json!(["CAP_MKNOD"]);
        b.set(
            "/process/capabilities",
            json!({"bounding": caps, "effective": caps, "permitted": caps}),
        );
        b.set("/linux/resources/devices", deny())
            .shell("mknod /tmp/kmsg c 42 7 && echo made");
        assert_eq!(b.printed(), "made");
        Ok(())
    });
}
