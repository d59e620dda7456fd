//! B02, B03: descriptors of the caller, and working directories by them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::facts::Facts;
use rsrun_tests::cli::runtime::{Output, finish};
use rsrun_tests::containment::created;
use rsrun_tests::containment::scene::stopped;
use rsrun_tests::containment::suite::Attacks;
use serde_json::json;

use crate::naive;
use crate::plant;

pub(crate) fn families(all: &mut Attacks) {
    b02_working_directories(all.family("b02"));
    b03_descriptors(all.family("b03"));
}

/// CVE-2024-21626: a working directory by a descriptor that was left open.
fn b02_working_directories(all: &mut Attacks) {
    const LOOK: &str = "cat srv/canary/secret ../../../../srv/canary/secret 2>/dev/null; true";
    let ways = [
        ("its_own_descriptor_3", "/proc/self/fd/3"),
        ("its_own_descriptor_7", "/proc/self/fd/7"),
        ("its_own_descriptor_8", "/proc/self/fd/8"),
        ("its_own_descriptor_9", "/proc/self/fd/9"),
        ("the_init_s_descriptor", "/proc/1/fd/7"),
        ("a_link_to_a_descriptor", "/way"),
        ("its_thread_s_descriptor", "/proc/thread-self/fd/8"),
        ("the_root_of_the_init", "/proc/1/root"),
    ];
    for (what, cwd) in ways {
        all.contained(format!("an_init_in_{what}"), move |s| {
            let mut b = s.bundle();
            plant::link(&b, "/way", "/proc/self/fd/7");
            b.set("/process/cwd", json!(cwd)).shell(LOOK).write();
            let out = stopped(leaky(
                &b,
                &["run", "--bundle", &b.dir.to_string_lossy(), &b.id],
            ));
            assert!(!out.stdout.contains("secret"), "{}", out.stdout);
            Ok(())
        });
        all.contained(format!("an_exec_in_{what}"), move |s| {
            let mut b = s.bundle();
            plant::link(&b, "/way", "/proc/self/fd/7");
            b.hold();
            let out = stopped(leaky(
                &b,
                &["exec", "--cwd", cwd, &b.id, "/bin/sh", "-c", LOOK],
            ));
            assert!(!out.stdout.contains("secret"), "{}", out.stdout);
            Ok(())
        });
    }
    all.contained("a_program_by_a_descriptor", |s| {
        let mut b = s.bundle();
        b.args(&[
            "/proc/self/fd/7/bin/cat",
            "/proc/self/fd/7/srv/canary/secret",
        ])
        .write();
        let out = stopped(leaky(
            &b,
            &["run", "--bundle", &b.dir.to_string_lossy(), &b.id],
        ));
        assert!(
            out.code != 0 && !out.stdout.contains("secret"),
            "{}",
            out.stdout
        );
        Ok(())
    });
    for added in [false, true] {
        let who = if added { "an_exec" } else { "an_init" };
        all.contained(
            format!("a_host_s_program_of_{who}_by_any_descriptor"),
            move |s| {
                let host = s.ground.work.join("base/busybox");
                let climb = "../".repeat(24);
                let mut b = s.bundle();
                if added {
                    b.hold();
                }
                // What is open while a process is made has the lowest numbers.
                for number in 3..20 {
                    let program = format!("/proc/self/fd/{number}/{climb}{}", host.display());
                    let words = [program.as_str(), "echo", "escaped"];
                    let out = if added {
                        b.on(&["exec"], &words)
                    } else {
                        s.bundle().args(&words).run()
                    };
                    assert!(
                        stopped(out).code != 0,
                        "a program of the host ran by descriptor {number}"
                    );
                }
                Ok(())
            },
        );
    }
    all.control_of_look("a_directory_left_open", |s| {
        let b = s.bundle();
        let facts = naive::chrooted(&b, "exec 7</;");
        let held = facts.at("/fds/7").to_string();
        assert!(held.contains('/'), "{held}");
        Ok(())
    });
}

/// Any descriptor that is left is a way out.
fn b03_descriptors(all: &mut Attacks) {
    all.contained("of_a_created_init_none_is_the_host_s", |s| {
        let b = s.bundle();
        b.write();
        let file = b.dir.join("pid");
        let (dir, file_name) = (b.dir.to_string_lossy(), file.to_string_lossy());
        leaky(
            &b,
            &["create", "--bundle", &dir, "--pid-file", &file_name, &b.id],
        )
        .ok();
        let pid = fs::read_to_string(&file)
            .expect("a pid")
            .trim()
            .parse()
            .expect("a pid");
        let found = created::leaks(nix::unistd::Pid::from_raw(pid), &b.id);
        assert!(found.is_empty(), "{found:?}");
        Ok(())
    });
    all.contained("an_init_has_three", |s| {
        let mut b = s.bundle();
        b.args(&["/bin/probe", "facts"]).write();
        let out = leaky(&b, &["run", "--bundle", &b.dir.to_string_lossy(), &b.id]).ok();
        only_streams(&Facts::parse(&out.stdout));
        Ok(())
    });
    all.contained("an_exec_has_three", |s| {
        let mut b = s.bundle();
        b.hold();
        let out = leaky(&b, &["exec", &b.id, "/bin/probe", "facts"]).ok();
        only_streams(&Facts::parse(&out.stdout));
        Ok(())
    });
    all.contained("a_hook_inside_has_three", |s| {
        let mut b = s.bundle();
        let script = plant::file(&b, "/hook", "#!/bin/sh\n/bin/probe facts > /tmp/seen\n");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("a mode");
        b.set(
            "/hooks/startContainer",
            json!([{"path": "/hook", "env": ["PATH=/bin"]}]),
        )
        .write();
        leaky(&b, &["run", "--bundle", &b.dir.to_string_lossy(), &b.id]).ok();
        only_streams(&Facts::parse(
            &fs::read_to_string(b.rootfs("/tmp/seen")).expect("seen"),
        ));
        Ok(())
    });
    all.control_of_look("a_descriptor_left_open", |s| {
        let facts = naive::chrooted(&s.bundle(), "exec 9</srv;");
        assert!(facts.0["fds"].get("9").is_some());
        Ok(())
    });
}

/// Calls the runtime with directories of the host left open in its caller.
fn leaky(b: &Bundle<'_>, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "exec 3</ 7</ 8</srv/canary 9</srv; exec \"$0\" \"$@\"",
    ]);
    let root = &b.runtime().root;
    command
        .arg(&b.runtime().path)
        .arg("--root")
        .arg(root)
        .args(args);
    command.stdin(std::process::Stdio::null());
    finish(command, root)
}

#[track_caller]
fn only_streams(facts: &Facts) {
    let fds = facts.at("/fds").as_object().expect("descriptors");
    // The fourth is the directory that is being read.
    let others = fds
        .iter()
        .filter(|(n, to)| n.parse::<u32>().is_ok_and(|n| n > 2) && !to.is_null());
    let others: Vec<_> = others
        .filter(|(_, to)| !to.as_str().is_some_and(|t| t.ends_with("/fd")))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
