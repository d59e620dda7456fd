//! A11, B07, B10, B11: what an image holds and names: links beside labels, files that are none, an environment, libraries.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rsrun_tests::containment::scene::stopped;
use rsrun_tests::containment::suite::Attacks;
use serde_json::json;

use crate::plant;

pub(crate) fn families(all: &mut Attacks) {
    a11_labels(all.family("a11"));
    b07_files_of_the_image(all.family("b07"));
    b10_hooks(all.family("b10"));
    b11_libraries(all.family("b11"));
}

/// CVE-2025-62596: the label is written elsewhere.
fn a11_labels(all: &mut Attacks) {
    const PROFILE: &str = "profile rsrun-attacks flags=(attach_disconnected) {\n file, capability, mount, umount, pivot_root, signal, ptrace, network, unix,\n}\n";
    for (what, way) in [
        ("", ""),
        ("_beside_a_link_to_attr", "/proc/self/attr"),
        ("_beside_a_link_to_the_setting", "/proc/sys/kernel"),
    ] {
        all.contained(format!("a_label_holds{what}"), move |s| {
            let mut b = s.bundle();
            let file = b.dir.join("profile");
            fs::write(&file, PROFILE).expect("a profile");
            let loaded = Command::new("apparmor_parser")
                .args(["-r", "-K"])
                .arg(&file)
                .output()
                .expect("a parser");
            assert!(
                loaded.status.success(),
                "{}",
                String::from_utf8_lossy(&loaded.stderr)
            );
            if !way.is_empty() {
                plant::link(&b, "/way", way);
                b.set("/linux/readonlyPaths", json!(["/way"]));
            }
            b.set("/process/apparmorProfile", json!("rsrun-attacks"));
            s.as_specified(&mut b);
            b.hold();
            assert_eq!(
                b.exec_facts(&[]).text("/apparmor"),
                "rsrun-attacks (enforce)"
            );
            Ok(())
        });
    }
    all.contained("a_label_that_is_not_there", |s| {
        let mut b = s.bundle();
        b.set("/process/apparmorProfile", json!("no-such-profile"));
        b.refused();
        Ok(())
    });
}

/// CVE-2026-47262: files of the image are read whole, or are no files.
fn b07_files_of_the_image(all: &mut Attacks) {
    type Fake = (&'static str, fn(&Path));
    const FAKES: [Fake; 7] = [
        ("sparse_and_huge", |p| {
            fs::File::create(p)
                .and_then(|f| f.set_len(4 << 30))
                .expect("a hole")
        }),
        ("a_fifo", |p| {
            nix::unistd::mkfifo(p, nix::sys::stat::Mode::S_IRWXU).expect("a fifo")
        }),
        ("a_link_to_zero", |p| {
            symlink("/dev/zero", p).expect("a link")
        }),
        ("a_link_to_kmsg", |p| {
            symlink("/proc/kmsg", p).expect("a link")
        }),
        ("a_directory", |p| fs::create_dir(p).expect("a directory")),
        ("one_long_line", |p| {
            fs::write(p, "x".repeat(8 << 20)).expect("a file")
        }),
        ("a_climbing_link", |p| {
            symlink("../../../../../../../../../srv/canary/passwd", p).expect("a link")
        }),
    ];
    for (what, fake) in FAKES {
        all.contained(format!("a_passwd_that_is_{what}"), move |s| {
            let mut b = s.bundle();
            for name in ["/etc/passwd", "/etc/group"] {
                let place = b.rootfs(name);
                fs::remove_file(&place).expect("removed");
                fake(&place);
            }
            // Nothing says where home is: then the image is asked.
            b.set("/process/env", json!(["PATH=/bin"]))
                .args(&["/bin/true"]);
            let out = stopped(b.run());
            assert!(out.took < Duration::from_secs(8), "{:?}", out.took);
            Ok(())
        });
    }
}

/// CVE-2025-23266: a hook on the host has the image's environment and stands in its root.
fn b10_hooks(all: &mut Attacks) {
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ] {
        all.contained(format!("a_{kind}_hook_has_its_own_environment"), move |s| {
            let mut b = s.bundle();
            let (script, seen) = (b.dir.join("hook"), b.dir.join("seen"));
            // The working directory too: where the container's root is there would be a probe.
            let look = format!(
                "#!/bin/sh\ncat /proc/self/environ > {0}; ls bin/probe >> {0} 2>/dev/null; true\n",
                seen.display()
            );
            fs::write(&script, look).expect("a script");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a mode");
            b.set(
                "/process/env",
                json!([
                    "PATH=/bin",
                    "LD_PRELOAD=/tmp/x.so",
                    "LD_LIBRARY_PATH=/tmp",
                    "GCONV_PATH=/tmp"
                ]),
            );
            b.set(&format!("/hooks/{kind}"), json!([{"path": script}]));
            b.run().ok();
            b.on(&["delete", "--force"], &[]);
            let text = fs::read_to_string(&seen).expect("what it saw");
            assert!(
                !["LD_", "GCONV", "bin/probe"]
                    .iter()
                    .any(|w| text.contains(w)),
                "{text}"
            );
            Ok(())
        });
    }
}

/// CVE-2019-14271: code of the image is loaded by the runtime.
fn b11_libraries(all: &mut Attacks) {
    const TRAPS: [&str; 4] = [
        "/etc/ld.so.preload",
        "/etc/nsswitch.conf",
        "/lib/x86_64-linux-gnu/libnss_files.so.2",
        "/etc/ld.so.cache",
    ];
    for trap in TRAPS {
        let name = trap
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .replace('.', "_");
        all.contained(format!("{name}_is_never_opened"), move |s| {
            let mut b = s.bundle();
            // Who opens it waits for ever, and the case fails.
            let place = b.rootfs(trap);
            fs::create_dir_all(place.parent().expect("a parent")).expect("a directory");
            nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
            b.set("/process/env", json!(["PATH=/bin"])).hold();
            b.on(&["exec", "--user", "1000:1000"], &["/bin/true"]).ok();
            assert!(fs::metadata(&place).is_ok_and(|m| m.file_type().is_fifo()));
            Ok(())
        });
    }
}
