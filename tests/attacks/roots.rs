//! A13, A14, A18, A19: the root itself, what is written into it, and what its mounts pass on or lose.

use std::fs;
use std::os::unix::fs::symlink;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::containment::scene::stopped;
use rsrun_tests::containment::suite::Attacks;
use serde_json::json;

use crate::exchange::Exchange;
use crate::naive;
use crate::plant;

pub(crate) fn families(all: &mut Attacks) {
    a13_roots(all.family("a13"));
    a14_own_files(all.family("a14"));
    a18_propagation(all.family("a18"));
    a19_flags(all.family("a19"));
}

/// CVE-2019-18837: the root's path leads elsewhere, at once or later.
fn a13_roots(all: &mut Attacks) {
    all.contained("a_root_that_is_exchanged_after_create", |s| {
        let mut b = s.bundle();
        b.shell("cat /etc/passwd /secret > /tmp/seen 2>&1").write();
        b.call("create", &[]).ok();
        let kept = b.dir.join("kept");
        fs::rename(b.rootfs(""), &kept).expect("moved");
        symlink(s.canary(""), b.dir.join("rootfs")).expect("a link");
        stopped(b.on(&["start"], &[]));
        b.wait_for("stopped");
        let seen = fs::read_to_string(kept.join("tmp/seen")).expect("what it saw");
        assert!(
            !seen.contains("secret of the host") && seen.contains("user:x:1000"),
            "{seen}"
        );
        Ok(())
    });
    all.contained("a_root_that_is_exchanged_all_the_time", |s| {
        let mut b = s.bundle();
        let other = b.dir.join("other");
        symlink(s.canary(""), &other).expect("a link");
        b.shell("cat /secret; true").write();
        let exchange = Exchange::of(&b.dir.join("rootfs"), &other);
        for _ in 0..4 {
            // The trusted configuration named it: what is run must be one of the two, whole, and nothing is made.
            let out = stopped(b.call("run", &[]));
            assert!(!out.stdout.contains("secret of the host"), "{}", out.stdout);
        }
        exchange.end();
        // The bundle goes by its own name.
        if b.dir.join("rootfs").is_symlink() {
            fs::rename(b.dir.join("rootfs"), b.dir.join("third")).expect("moved");
            fs::rename(&other, b.dir.join("rootfs")).expect("moved");
        }
        Ok(())
    });
    for (what, path) in [
        ("the_bundle", "."),
        ("a_file", "config.json"),
        ("a_missing_one", "../../none"),
    ] {
        all.contained(format!("a_root_that_is_{what}"), move |s| {
            let mut b = s.bundle();
            b.set("/root/path", json!(path));
            b.refused();
            Ok(())
        });
    }
    all.contained("climbing_from_the_root_stays_there", |s| {
        let mut b = s.bundle();
        let way = s.climb("secret");
        b.shell(&format!("cat {way} /proc/1/root/{way} /proc/self/root/{way} /proc/self/cwd/{way} 2>/dev/null; true"));
        assert_eq!(b.printed(), "");
        Ok(())
    });
}

/// CVE-2025-24965: a file of the runtime's own is written into the root by a path.
fn a14_own_files(all: &mut Attacks) {
    const FILES: [&str; 8] = [
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/mtab",
        "/run/.containerenv",
        "/.dockerenv",
        "/dev/fd",
        "/dev/core",
    ];
    for file in FILES {
        let name = file.trim_start_matches('/').replace(['/', '.'], "_");
        all.contained(format!("{name}_that_leads_to_the_canary"), move |s| {
            let mut b = s.bundle();
            plant::unmounted(&mut b, "/dev");
            plant::link(&b, file, &s.climb("secret"));
            b.set("/process/user/additionalGids", json!([5]));
            stopped(b.run());
            assert!(b.rootfs(file).is_symlink());
            Ok(())
        });
    }
    all.contained("a_rootfs_has_no_new_file_after_a_run", |s| {
        let mut b = s.bundle();
        plant::unmounted(&mut b, "/dev");
        b.run().ok();
        let mut regular = Vec::new();
        files(&b.rootfs(""), &mut regular);
        // What the image had, by construction of the suite.
        regular.retain(|f| !["passwd", "group", "busybox", "probe"].contains(&f.as_str()));
        assert!(regular.is_empty(), "{regular:?}");
        Ok(())
    });
}

fn files(dir: &std::path::Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
}

/// youki 09cf547 and others: what is mounted inside travels to the host.
fn a18_propagation(all: &mut Attacks) {
    for word in [
        "private",
        "rprivate",
        "slave",
        "rslave",
        "unbindable",
        "none",
    ] {
        all.contained(format!("a_mount_made_inside_a_{word}_root_on_a_shared_host"), move |s| {
            let mut b = s.bundle();
            shared(&b);
            if word != "none" {
                b.set("/linux/rootfsPropagation", json!(word));
            }
            plant::capable(&mut b, "CAP_SYS_ADMIN");
            b.mount("/tmp", "tmpfs", "tmpfs", &[]);
            b.shell("mkdir -p /tmp/m; mount -t tmpfs inside /tmp/m && mount -t tmpfs inside /etc && echo mounted");
            let out = stopped(b.run());
            let reached = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
            unshared(&b);
            assert!(out.stdout.contains("mounted") || out.code != 0, "{}", out.stderr);
            assert!(!reached.contains(" inside "), "{reached}");
            Ok(())
        });
    }
    all.control("a_mount_below_a_shared_one", "naive-mount", |s| {
        let b = s.bundle();
        shared(&b);
        naive::runtime(&["propagate", &b.rootfs("/etc").to_string_lossy()]);
        Ok(())
    });
}

fn shared(b: &Bundle<'_>) {
    let root = b.rootfs("");
    mount(
        Some(&root),
        &root,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .expect("a bind");
    mount(
        None::<&str>,
        &root,
        None::<&str>,
        MsFlags::MS_SHARED,
        None::<&str>,
    )
    .expect("shared");
}

fn unshared(b: &Bundle<'_>) {
    umount2(&b.rootfs(""), MntFlags::MNT_DETACH).expect("an umount");
}

/// runc 5098, youki 3345, crun 1.29.1: a flag is lost on the way.
fn a19_flags(all: &mut Attacks) {
    type Row = (
        &'static str,
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
    );
    const ROWS: [Row; 8] = [
        (
            "bind_ro",
            "bind",
            &["bind", "ro"],
            &["ro", "nosuid", "nodev", "noexec"],
        ),
        (
            "rbind_rro",
            "bind",
            &["rbind", "rro"],
            &["ro", "nosuid", "nodev", "noexec"],
        ),
        (
            "bind_plain",
            "bind",
            &["bind"],
            &["rw", "nosuid", "nodev", "noexec"],
        ),
        (
            "bind_nosuid",
            "bind",
            &["bind", "nosuid", "nodev"],
            &["rw", "nosuid", "nodev", "noexec"],
        ),
        (
            "tmpfs_all",
            "tmpfs",
            &["ro", "nosuid", "nodev", "noexec"],
            &["ro", "nosuid", "nodev", "noexec"],
        ),
        (
            "tmpfs_two",
            "tmpfs",
            &["nosuid", "nodev"],
            &["rw", "nosuid", "nodev"],
        ),
        (
            "sysfs",
            "sysfs",
            &["ro", "nosuid", "noexec", "nodev"],
            &["ro", "nosuid", "nodev", "noexec"],
        ),
        (
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
            &["rw", "nosuid", "nodev", "noexec"],
        ),
    ];
    for (what, kind, options, wanted) in ROWS {
        for userns in [false, true] {
            let place = if userns {
                "in_a_user_namespace"
            } else {
                "on_the_host"
            };
            all.contained(format!("{what}_keeps_its_flags_{place}"), move |s| {
                let mut b = s.bundle();
                let source = plant::dir(&b, "/given");
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(Some("given"), &source, Some("tmpfs"), flags, None::<&str>).expect("a tmpfs");
                let from = if kind == "bind" {
                    source.to_string_lossy().into_owned()
                } else {
                    kind.into()
                };
                b.mount("/m", kind, &from, options);
                if userns {
                    b.user_namespace(&[(0, 100_000, 65_536)]);
                }
                let facts = s.as_specified(&mut b);
                umount2(&source, MntFlags::MNT_DETACH).expect("an umount");
                let found = facts.mount("/m");
                // Without a word for it a bind keeps what its source had.
                let lost: Vec<_> = wanted.iter().filter(|w| !found.has(w)).collect();
                assert!(lost.is_empty(), "{lost:?} of {:?}", found.options);
                Ok(())
            });
        }
    }
}
