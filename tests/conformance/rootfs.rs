//! Is the root file system as the spec says: read-only, propagation, masked and read-only paths?
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rsrun_tests::cli::facts::Facts;
use rsrun_tests::cli::ground::Ground;
use rsrun_tests::cli::suite::Suite;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub(crate) fn cases(suite: &mut Suite) {
    root(suite);
    propagation(suite);
    masked(suite);
    read_only(suite);
}

fn root(suite: &mut Suite) {
    suite.case("a_read_only_root_takes_no_file_but_its_mounts_do", |g| {
        let mut b = g.bundle();
        b.set("/root/readonly", json!(true))
            .mount("/tmp", "tmpfs", "tmpfs", &[]);
        b.shell("touch /etc/x 2>&1; touch /tmp/x && echo tmp; touch /dev/shm/x && echo shm");
        let text = b.printed();
        assert!(
            text.contains("Read-only file system") && text.ends_with("tmp\nshm"),
            "{text}"
        );
        Ok(())
    });
    suite.case(
        "a_read_only_root_lets_missing_mount_points_be_made_before",
        |g| {
            let mut b = g.bundle();
            b.set("/root/readonly", json!(true))
                .mount("/not/there", "tmpfs", "tmpfs", &[]);
            let facts = b.facts();
            assert!(facts.is_mounted("/not/there") && facts.mount("/").has("ro"));
            Ok(())
        },
    );
    suite.case("a_writable_root_keeps_what_is_written", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/touch", "/etc/made"]).run().ok();
        assert!(b.rootfs("/etc/made").is_file());
        Ok(())
    });
    suite.case("an_absolute_root_path_is_taken", |g| {
        let mut b = g.bundle();
        let path = b.rootfs("");
        b.set("/root/path", json!(path));
        b.run().ok();
        Ok(())
    });
    suite.case("a_root_outside_the_bundle_is_taken", |g| {
        let other = g.bundle();
        let mut b = g.bundle();
        fs::write(other.rootfs("/etc/whose"), "the other's\n").expect("a file");
        let path = other.rootfs("");
        b.set("/root/path", json!(path))
            .args(&["/bin/cat", "/etc/whose"]);
        assert_eq!(b.printed(), "the other's");
        Ok(())
    });
    suite.case("nothing_of_the_old_root_is_mounted_inside", |g| {
        let facts = g.bundle().facts();
        let points: Vec<String> = facts.mounts().into_iter().map(|m| m.point).collect();
        let allowed = ["/", "/proc", "/dev", "/sys"];
        assert!(
            points.iter().all(|p| allowed
                .iter()
                .any(|a| p == a || (*a != "/" && p.starts_with(a)))),
            "{points:?}"
        );
        let names = facts.list("/root");
        assert!(
            !names
                .iter()
                .any(|n| n.contains("old") || n.starts_with('.')),
            "{names:?}"
        );
        Ok(())
    });
    suite.case("the_parent_directory_of_the_root_is_the_root", |g| {
        let mut b = g.bundle();
        b.shell("cd / && cd ../../.. && ls bin/probe");
        assert_eq!(b.printed(), "bin/probe");
        Ok(())
    });
    suite.case("no_pivot_moves_the_root_and_leaves_the_same_view", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/probe", "facts"]).write();
        let facts = Facts::parse(&b.call("run", &["--no-pivot"]).ok().stdout);
        assert_eq!(
            (facts.mount("/proc").kind.as_str(), facts.text("/cwd")),
            ("proc", "/")
        );
        assert!(facts.list("/root").contains("bin") && !facts.list("/root").contains("boot"));
        Ok(())
    });
    suite.case("an_exec_sees_the_same_mounts_as_the_init", |g| {
        let mut b = g.bundle();
        let pid = b.hold();
        let init = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mountinfo");
        assert_eq!(b.exec_facts(&[]).text("/mountinfo"), init.trim_end());
        Ok(())
    });
}

fn propagation(suite: &mut Suite) {
    let words: [(&str, Option<&str>); 8] = [
        ("private", None),
        ("rprivate", None),
        ("slave", Some("master")),
        ("rslave", Some("master")),
        ("shared", Some("shared")),
        ("rshared", Some("shared")),
        ("unbindable", Some("unbindable")),
        ("runbindable", Some("unbindable")),
    ];
    for (word, wanted) in words {
        suite.case(
            format!("rootfs_propagation_{word}_of_a_shared_root"),
            move |g| {
                g.since_runc(1, 2, "every propagation of the root")?;
                let text = on_shared_root(g, Some(word))
                    .mount("/")
                    .propagation
                    .join(" ");
                match wanted {
                    None => assert_eq!(text, ""),
                    Some(kind) => assert!(text.contains(kind), "{text:?} is not {kind}"),
                }
                Ok(())
            },
        );
    }
    suite.case(
        "without_rootfs_propagation_nothing_mounted_inside_reaches_the_host",
        |g| {
            let facts = on_shared_root(g, None);
            assert!(
                !facts.mount("/").propagation.join(" ").contains("shared"),
                "{:?}",
                facts.mount("/").propagation
            );
            Ok(())
        },
    );
    suite.case("an_unknown_rootfs_propagation_is_refused", |g| {
        let mut b = g.bundle();
        b.set("/linux/rootfsPropagation", json!("viral"));
        assert!(b.refused().contains("viral"));
        Ok(())
    });
}

/// Runs with a root file system that is a shared mount of its own.
fn on_shared_root(g: &Ground, word: Option<&str>) -> Facts {
    let mut b = g.bundle();
    let root = b.rootfs("");
    let flags = [MsFlags::MS_BIND, MsFlags::MS_SHARED];
    mount(Some(&root), &root, None::<&str>, flags[0], None::<&str>).expect("a bind");
    mount(None::<&str>, &root, None::<&str>, flags[1], None::<&str>).expect("a shared mount");
    if let Some(word) = word {
        b.set("/linux/rootfsPropagation", json!(word));
    }
    let facts = catch_unwind(AssertUnwindSafe(|| b.facts()));
    umount2(&root, MntFlags::MNT_DETACH).expect("an umount");
    facts.unwrap_or_else(|thrown| resume_unwind(thrown))
}

fn masked(suite: &mut Suite) {
    suite.case("a_masked_file_is_dev_null", |g| {
        let mut b = g.bundle();
        b.set(
            "/linux/maskedPaths",
            json!(["/etc/passwd", "/proc/version"]),
        );
        let stat = b.probe(&["stat", "/etc/passwd", "/proc/version"]);
        for one in stat.as_array().expect("a list") {
            assert_eq!(
                (&one["type"], &one["device"]),
                (&json!("char"), &json!("1:3"))
            );
        }
        assert_eq!(
            b.probe(&["read", "/etc/passwd", "/proc/version"]),
            json!(["", ""])
        );
        Ok(())
    });
    suite.case("a_masked_directory_is_empty_and_read_only", |g| {
        let mut b = g.bundle();
        b.set("/linux/maskedPaths", json!(["/etc", "/proc/bus"]))
            .shell("ls -A /etc /proc/bus; touch /etc/x 2>&1; true");
        assert!(b.printed().contains("Read-only file system"));
        let facts = b.facts();
        assert!(facts.mount("/etc").has("ro") && facts.mount("/etc").kind == "tmpfs");
        Ok(())
    });
    suite.case("a_masked_path_that_is_missing_is_passed_over", |g| {
        let mut b = g.bundle();
        b.set(
            "/linux/maskedPaths",
            json!(["/no/such/path", "/proc/nothing"]),
        );
        assert!(!b.facts().is_mounted("/no/such/path"));
        Ok(())
    });
    suite.case("a_masked_link_masks_what_it_leads_to_inside", |g| {
        let mut b = g.bundle();
        fs::write(b.rootfs("/etc/secret"), "secret\n").expect("a file");
        symlink("/etc/secret", b.rootfs("/tmp/way")).expect("a link");
        b.set("/linux/maskedPaths", json!(["/tmp/way"]))
            .args(&["/bin/cat", "/etc/secret"]);
        assert_eq!(b.printed(), "");
        Ok(())
    });
    suite.case("many_masked_directories_hold_all", |g| {
        let mut b = g.bundle();
        let all: Vec<String> = (0..50).map(|n| format!("/srv/d{n}")).collect();
        for dir in &all {
            fs::create_dir_all(b.rootfs(dir)).expect("a directory");
            fs::write(b.rootfs(dir).join("secret"), "").expect("a file");
        }
        b.set("/linux/maskedPaths", json!(all))
            .shell("ls -A /srv/*/ | grep -c secret; true");
        assert_eq!(b.printed(), "0");
        Ok(())
    });
    suite.case("a_masked_path_stays_masked_for_an_exec", |g| {
        let mut b = g.bundle();
        b.set("/linux/maskedPaths", json!(["/etc/passwd"])).hold();
        assert_eq!(
            b.on(&["exec"], &["/bin/cat", "/etc/passwd"]).ok().stdout,
            ""
        );
        Ok(())
    });
}

fn read_only(suite: &mut Suite) {
    suite.case("a_read_only_path_is_readable_and_takes_no_write", |g| {
        let mut b = g.bundle();
        b.set("/linux/readonlyPaths", json!(["/etc", "/proc/sys"]));
        b.shell("cat /etc/group >/dev/null && echo read; touch /etc/x 2>&1; echo 1 > /proc/sys/kernel/msgmax");
        let out = b.run();
        assert!(out.stdout.contains("read") && out.stdout.contains("Read-only file system"), "{}", out.stdout);
        assert!(out.stderr.contains("Read-only file system"), "{}", out.stderr);
        Ok(())
    });
    suite.case("a_read_only_path_that_is_missing_is_passed_over", |g| {
        let mut b = g.bundle();
        b.set("/linux/readonlyPaths", json!(["/no/such/path"]));
        b.run().ok();
        Ok(())
    });
    suite.case("a_read_only_file_takes_no_write", |g| {
        let mut b = g.bundle();
        b.set("/linux/readonlyPaths", json!(["/etc/passwd"]));
        assert_eq!(
            b.probe(&["open", "r:/etc/passwd", "w:/etc/passwd", "w:/etc/group"]),
            json!([0, -30, 0])
        );
        Ok(())
    });
    suite.case("a_read_only_path_keeps_the_flags_of_its_mount", |g| {
        let mut b = g.bundle();
        b.set("/mounts/0/options", json!(["nosuid", "noexec", "nodev"]))
            .set("/linux/readonlyPaths", json!(["/proc/sys"]));
        let found = b.facts().mount("/proc/sys");
        assert!(
            ["ro", "nosuid", "noexec", "nodev"]
                .iter()
                .all(|f| found.has(f)),
            "{:?}",
            found.options
        );
        Ok(())
    });
}
