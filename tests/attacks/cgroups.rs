//! C02–C04, C09, C10: rights of what is on disk, cgroups, the devices and limits that hang on them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use rsrun_tests::containment::scene::stopped;
use rsrun_tests::containment::suite::Attacks;
use serde_json::json;

use crate::plant;

pub(crate) fn families(all: &mut Attacks) {
    c02_rights(all.family("c02"));
    c03_cgroup_mounts(all.family("c03"));
    c04_cgroup_places(all.family("c04"));
    c09_devices(all.family("c09"));
    c10_dying(all.family("c10"));
}

/// CVE-2021-41103, CVE-2024-25621: directories that are too open.
fn c02_rights(all: &mut Attacks) {
    for file in ["", "state.json", "exec.fifo", "lock"] {
        let name = if file.is_empty() {
            "the_state_directory"
        } else {
            file
        };
        all.contained(
            format!("{}_is_closed_to_users", name.replace('.', "_")),
            move |s| {
                let b = s.bundle();
                b.write();
                b.call("create", &[]).ok();
                let path = b.runtime().root.join(&b.id).join(file);
                assert!(path.exists());
                let line = format!("ls {0} || cat {0} || echo > {0}", path.display());
                assert!(!as_user(&line), "{}", path.display());
                Ok(())
            },
        );
    }
    all.control_of_look("a_directory_for_everyone", |s| {
        let b = s.bundle();
        let open = b.dir.join("open");
        fs::create_dir(&open).expect("a directory");
        assert!(as_user(&format!("ls {}", open.display())));
        Ok(())
    });
}

/// Whether a shell line of an unprivileged user works.
fn as_user(line: &str) -> bool {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "1000",
        "--regid",
        "1000",
        "--clear-groups",
        "sh",
        "-c",
        line,
    ]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}

/// CVE-2023-25809: the host's cgroups can be written.
fn c03_cgroup_mounts(all: &mut Attacks) {
    const LOOK: &str = "cd /sys/fs/cgroup; mkdir new 2>/dev/null && echo made; echo 1 > ../cgroup.procs; echo $$ > cgroup.procs && echo moved; true";
    for (what, namespace, options) in [
        ("read_only_without_a_namespace", false, &["ro"][..]),
        ("read_only_in_a_namespace", true, &["ro"]),
    ] {
        all.contained(format!("cgroups_mounted_{what}"), move |s| {
            let mut b = s.bundle();
            if !namespace && let Some(list) = b.spec["linux"]["namespaces"].as_array_mut() {
                list.retain(|n| n["type"] != "cgroup");
            }
            plant::capable(&mut b, "CAP_DAC_OVERRIDE");
            b.mount("/sys/fs/cgroup", "cgroup", "cgroup", options)
                .shell(LOOK);
            assert_eq!(b.run().stdout, "");
            Ok(())
        });
    }
    all.contained("cgroups_of_a_namespace_end_at_the_container_s", |s| {
        let mut b = s.bundle();
        plant::capable(&mut b, "CAP_DAC_OVERRIDE");
        b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
        b.shell("cat /proc/self/cgroup; ls -d /sys/fs/cgroup/harness 2>&1; echo 1 > /sys/fs/cgroup/../../../sys/fs/cgroup/memory.max 2>/dev/null; true");
        let seen = stopped(b.run()).stdout;
        assert!(seen.contains("0::/\n") && !seen.contains("\n/sys/fs/cgroup/harness\n"), "{seen}");
        Ok(())
    });
    all.contained("a_bound_sys_shows_no_cgroup_to_write", |s| {
        let mut b = s.bundle();
        plant::unmounted(&mut b, "/sys");
        b.mount("/sys", "bind", "/sys", &["rbind", "rro"])
            .shell("cd /sys/fs/cgroup; mkdir new && echo made; true");
        assert_eq!(stopped(b.run()).stdout, "");
        Ok(())
    });
}

/// CVE-2025-47291: who has a user namespace is not in its cgroup.
fn c04_cgroup_places(all: &mut Attacks) {
    for (what, userns, exec) in [
        ("an_init", false, false),
        ("an_init_in_a_user_namespace", true, false),
        ("an_exec_in_a_user_namespace", true, true),
    ] {
        all.contained(format!("{what}_is_where_it_is_asked_to_be"), move |s| {
            let mut b = s.bundle();
            if userns {
                b.user_namespace(&[(0, 100_000, 65_536)]);
            }
            let pid = b.hold().as_raw();
            let wanted = format!("0::/{}/{}", s.ground.prefix, b.id);
            let seen = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
            assert_eq!(seen.lines().last(), Some(wanted.as_str()));
            if exec {
                assert!(b.exec_facts(&[]).text("/cgroup").ends_with("0::/"));
            }
            Ok(())
        });
    }
}

/// Devices that nobody allowed.
fn c09_devices(all: &mut Attacks) {
    const NODES: [(&str, &str); 5] = [
        ("mem", "c 1 1"),
        ("kmsg", "c 1 11"),
        ("disk", "b 254 0"),
        ("vport", "c 10 200"),
        ("loop", "b 7 0"),
    ];
    for (what, node) in NODES {
        all.contained(format!("{what}_can_not_be_opened"), move |s| {
            let mut b = s.bundle();
            plant::capable(&mut b, "CAP_MKNOD");
            plant::capable(&mut b, "CAP_DAC_OVERRIDE");
            b.set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]));
            // Nodes may be made, as with runc and crun, whose last rule it is; one of the image was there before.
            let words: Vec<&str> = node.split(' ').collect();
            let made = Command::new("mknod").arg(b.rootfs("/old")).args(words).status();
            assert!(made.is_ok_and(|m| m.success()));
            b.shell(&format!("mknod /new {node}; for n in /old /new; do (: < $n) 2>/dev/null && echo opened; done; true"));
            assert_eq!(b.printed(), "");
            Ok(())
        });
    }
    all.contained("twenty_updates_leave_one_rule_for_devices", |s| {
        let mut b = s.bundle();
        b.set(
            "/linux/resources/devices",
            json!([{"allow": false, "access": "rwm"}]),
        )
        .hold();
        let file = b.dir.join("resources");
        fs::write(
            &file,
            json!({"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 50}})
                .to_string(),
        )
        .expect("a file");
        for _ in 0..8 {
            stopped(b.on(&["update", "--resources", &file.to_string_lossy()], &[]));
        }
        let node = stopped(b.on(
            &["exec", "--cap", "CAP_MKNOD", "--cap", "CAP_DAC_OVERRIDE"],
            &[
                "/bin/sh",
                "-c",
                "mknod /tmp/mem c 1 1 && echo made; (: < /tmp/mem) && echo opened; true",
            ],
        ));
        assert_eq!(node.ok().stdout, "made\n");
        Ok(())
    });
}

/// rust-extensions 393: the cgroup is asked of a pid that is dead, and is the root's.
fn c10_dying(all: &mut Attacks) {
    for (what, options) in [
        ("memory", &["--memory", "33554432"][..]),
        ("pids", &["--pids-limit", "5"]),
        ("weight", &["--cpu-share", "2"]),
    ] {
        all.contained(
            format!("an_update_of_{what}_when_the_init_is_dead"),
            move |s| {
                let mut b = s.bundle();
                let pid = b.hold();
                // We are its parent and do not wait: a zombie, whose cgroup reads as the root's.
                kill(pid, Signal::SIGKILL).expect("a signal");
                let verb: Vec<&str> = ["update"].iter().chain(options).copied().collect();
                stopped(b.on(&verb, &[]));
                Ok(())
            },
        );
    }
    all.control("a_limit_for_the_cgroup_of_a_dead_pid", "cgroup", |s| {
        let mut b = s.bundle();
        let pid = b.hold();
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
        let outer = Path::new("/sys/fs/cgroup")
            .join(own.trim().trim_start_matches("0::/"))
            .join("..");
        fs::write(outer.join("pids.max"), "77").expect("a limit");
        Ok(())
    });
}
