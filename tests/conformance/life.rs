//! Which command works in which status, with which words otherwise, and what is left after?
use nix::sys::signal::{Signal, kill};
use rsrun_tests::cli::bundle::{Bundle, wait_exit};
use rsrun_tests::cli::runtime::wait_at_most;
use rsrun_tests::cli::suite::Suite;
use rsrun_tests::pace;
use serde_json::json;
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What a command beside another may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn cases(suite: &mut Suite) {
    statuses(suite);
    signals(suite);
    wrong_statuses(suite);
    deletes(suite);
    pauses(suite);
}

/// `create` of a container that waits when started; gives the pid that the pid file holds.
fn created(b: &mut Bundle<'_>) -> nix::unistd::Pid {
    b.args(&["/bin/probe", "hold"]).write();
    let file = b.dir.join("pid");
    b.call("create", &["--pid-file", &file.to_string_lossy()])
        .ok();
    let pid = fs::read_to_string(&file).expect("a pid file");
    fs::remove_file(file).expect("removed");
    assert!(!pid.ends_with('\n'), "a pid file holds the number alone");
    nix::unistd::Pid::from_raw(pid.parse().expect("a pid"))
}

/// The command for a bundle that is written, without waiting for it.
pub(crate) fn background(b: &Bundle<'_>, verb: &str) -> Child {
    let mut command = b.runtime().command([verb, "--bundle"]);
    command.arg(&b.dir).arg(&b.id).stdin(Stdio::null());
    let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
    silent.spawn().expect("the runtime starts")
}

fn statuses(suite: &mut Suite) {
    suite.case(
        "a_container_goes_from_created_to_running_to_stopped_to_gone",
        |g| {
            let mut b = g.bundle();
            let pid = created(&mut b);
            let state = b.state();
            assert_eq!(
                (&state["status"], &state["pid"]),
                (&json!("created"), &json!(pid.as_raw()))
            );
            assert_ne!(
                fs::read_to_string(format!("/proc/{pid}/comm"))
                    .expect("a name")
                    .trim(),
                "probe",
                "it runs before start"
            );
            b.on(&["start"], &[]).ok();
            assert_eq!(
                (b.status().as_str(), b.state()["pid"].as_i64()),
                ("running", Some(i64::from(pid.as_raw())))
            );
            assert_eq!(
                fs::read_to_string(format!("/proc/{pid}/comm"))
                    .expect("a name")
                    .trim(),
                "probe"
            );
            b.on(&["kill"], &["KILL"]).ok();
            assert_eq!(wait_exit(pid), 137);
            let state = b.state();
            assert_eq!(
                (&state["status"], &state["pid"]),
                (&json!("stopped"), &json!(0))
            );
            b.on(&["delete"], &[]).ok();
            assert!(b.on(&["state"], &[]).refused().contains("does not exist"));
            assert!(!b.cgroup("").exists());
            Ok(())
        },
    );
    suite.case("state_tells_all_that_the_specification_asks", |g| {
        let mut b = g.bundle();
        b.set("/annotations", json!({"a": "1", "b.c/d": "two"}));
        let pid = b.hold();
        let state = b.state();
        assert!(
            state["ociVersion"]
                .as_str()
                .is_some_and(|v| v.starts_with("1.")),
            "{state}"
        );
        assert_eq!(
            (&state["id"], &state["bundle"], &state["pid"]),
            (&json!(b.id), &json!(b.dir), &json!(pid.as_raw()))
        );
        assert_eq!(state["annotations"], json!({"a": "1", "b.c/d": "two"}));
        assert_eq!(
            state["rootfs"],
            json!(b.rootfs("").to_string_lossy().trim_end_matches('/'))
        );
        let created = state["created"].as_str().expect("a time");
        assert!(
            created.len() >= 20 && created.contains('T') && created.ends_with('Z'),
            "{created}"
        );
        Ok(())
    });
    suite.case(
        "a_created_container_waits_for_start_and_may_be_deleted_by_force",
        |g| {
            let mut b = g.bundle();
            created(&mut b);
            b.on(&["delete", "--force"], &[]).ok();
            assert!(!b.cgroup("").exists());
            Ok(())
        },
    );
    suite.case("a_zombie_counts_as_stopped", |g| {
        let mut b = g.bundle();
        let pid = b.hold();
        kill(pid, Signal::SIGKILL).expect("a signal");
        // Not waited for here: it stays a zombie of this suite.
        b.wait_for("stopped");
        b.on(&["delete"], &[]).ok();
        Ok(())
    });
    suite.case("a_hundred_lives_leave_nothing", |g| {
        for _ in 0..100 {
            g.bundle().run().ok();
        }
        Ok(())
    });
}

fn signals(suite: &mut Suite) {
    for word in ["TERM", "SIGTERM", "15", "sigterm", "term"] {
        suite.case(format!("kill_takes_{word}_as_a_signal"), move |g| {
            let mut b = g.bundle();
            b.shell("trap 'exit 9' TERM; echo ready > /tmp/ready; while :; do sleep 0.02; done");
            let pid = b.detach();
            ready(&b);
            b.on(&["kill"], &[word]).ok();
            assert_eq!(wait_exit(pid), 9);
            Ok(())
        });
    }
    suite.case("kill_without_a_signal_is_term", |g| {
        let mut b = g.bundle();
        b.shell("trap 'exit 9' TERM; echo ready > /tmp/ready; while :; do sleep 0.02; done");
        let pid = b.detach();
        ready(&b);
        b.on(&["kill"], &[]).ok();
        assert_eq!(wait_exit(pid), 9);
        Ok(())
    });
    suite.case("kill_of_an_unknown_signal_is_refused_by_name", |g| {
        let mut b = g.bundle();
        b.hold();
        b.on(&["kill"], &["999"]).refused();
        for word in ["WISH", "0x9", "-1"] {
            let said = b.on(&["kill", "--"], &[word]).refused();
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_eq!(b.status(), "running");
        Ok(())
    });
    suite.case("kill_of_a_created_container_ends_it", |g| {
        let mut b = g.bundle();
        let pid = created(&mut b);
        b.on(&["kill"], &["KILL"]).ok();
        assert_eq!(wait_exit(pid), 137);
        b.wait_for("stopped");
        b.on(&["delete"], &[]).ok();
        Ok(())
    });
    suite.case("kill_all_reaches_every_process", |g| {
        let mut b = g.bundle();
        // Without a pid namespace nothing but the cgroup holds them together.
        b.namespaces(&["network", "ipc", "uts", "mount", "cgroup"]);
        b.shell("sleep 1000 & sleep 1000 & echo ready > /tmp/ready; wait");
        let pid = b.detach();
        ready(&b);
        b.on(&["kill", "--all"], &["KILL"]).ok();
        assert_eq!(wait_exit(pid), 137);
        b.wait_for("stopped");
        b.on(&["delete"], &[]).ok();
        Ok(())
    });
}

fn ready(b: &Bundle<'_>) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !b.rootfs("/tmp/ready").exists() {
        assert!(
            std::time::Instant::now() < deadline,
            "the container is not ready"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn wrong_statuses(suite: &mut Suite) {
    suite.case("an_unknown_container_does_not_exist_for_any_command", |g| {
        for verb in [
            &["state"][..],
            &["start"],
            &["kill"],
            &["delete"],
            &["pause"],
            &["resume"],
            &["ps"],
            &["exec"],
            &["update", "--pids-limit", "10"],
        ] {
            let mut args = verb.to_vec();
            args.push("no-such-container");
            if verb[0] == "exec" {
                args.push("/bin/true");
            }
            let said = g.runtime.call(args).refused();
            assert!(said.contains("does not exist"), "{verb:?}: {said}");
        }
        Ok(())
    });
    suite.case("a_forced_delete_of_an_unknown_container_is_no_error", |g| {
        g.runtime
            .call(["delete", "--force", "no-such-container"])
            .ok();
        Ok(())
    });
    suite.case(
        "an_id_that_is_taken_is_refused_and_the_first_lives_on",
        |g| {
            let mut b = g.bundle();
            b.hold();
            for verb in ["create", "run"] {
                let said = b.call(verb, &[]).refused();
                assert!(
                    said.contains("already exists") || said.contains("already in use"),
                    "{said}"
                );
            }
            assert_eq!(b.status(), "running");
            Ok(())
        },
    );
    suite.case("start_works_once", |g| {
        let mut b = g.bundle();
        let pid = created(&mut b);
        b.on(&["start"], &[]).ok();
        b.on(&["start"], &[]).refused();
        assert_eq!(b.status(), "running");
        kill(pid, Signal::SIGKILL).expect("a signal");
        wait_exit(pid);
        b.on(&["start"], &[]).refused();
        assert_eq!(b.status(), "stopped");
        Ok(())
    });
    suite.case("delete_of_a_running_container_is_refused", |g| {
        let mut b = g.bundle();
        b.hold();
        let said = b.on(&["delete"], &[]).refused();
        assert!(said.contains("running"), "{said}");
        assert_eq!(b.status(), "running");
        Ok(())
    });
    suite.case("kill_of_a_stopped_container_says_not_running", |g| {
        let mut b = g.bundle();
        let pid = b.hold();
        kill(pid, Signal::SIGKILL).expect("a signal");
        wait_exit(pid);
        let said = b.on(&["kill"], &["TERM"]).refused();
        assert!(said.contains("container not running"), "{said}");
        Ok(())
    });
    suite.case("exec_into_a_stopped_container_is_refused", |g| {
        let mut b = g.bundle();
        let pid = b.hold();
        kill(pid, Signal::SIGKILL).expect("a signal");
        wait_exit(pid);
        let said = b.on(&["exec"], &["/bin/true"]).refused();
        assert!(
            said.contains("stopped") || said.contains("not running"),
            "{said}"
        );
        Ok(())
    });
    suite.case("pause_of_a_stopped_container_is_refused", |g| {
        let mut b = g.bundle();
        let pid = b.hold();
        kill(pid, Signal::SIGKILL).expect("a signal");
        wait_exit(pid);
        b.on(&["pause"], &[]).refused();
        b.on(&["resume"], &[]).refused();
        Ok(())
    });
    suite.case("resume_of_a_running_container_is_refused", |g| {
        let mut b = g.bundle();
        b.hold();
        let said = b.on(&["resume"], &[]).refused();
        assert!(said.contains("paused"), "{said}");
        Ok(())
    });
}

fn deletes(suite: &mut Suite) {
    suite.case("delete_takes_the_cgroups_that_the_container_made", |g| {
        let mut b = g.bundle();
        b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
        b.shell("mkdir -p /sys/fs/cgroup/a/b/c /sys/fs/cgroup/d; echo ready > /tmp/ready; exec sleep 1000");
        b.detach();
        ready(&b);
        assert!(b.cgroup("a/b/c").exists());
        b.on(&["delete", "--force"], &[]).ok();
        assert!(!b.cgroup("").exists());
        Ok(())
    });
    suite.case("a_forced_delete_of_a_paused_container_works", |g| {
        let mut b = g.bundle();
        b.hold();
        b.on(&["pause"], &[]).ok();
        b.on(&["delete", "--force"], &[]).ok();
        assert!(!b.cgroup("").exists());
        Ok(())
    });
    suite.case("a_forced_delete_beside_a_create_leaves_nothing", |g| {
        g.differs_from_runc("it has no lock, and leaves a cgroup or an init")?;
        let mut b = g.bundle();
        b.args(&["/bin/probe", "hold"]).write();
        for round in 0..pace::fewer(80) {
            let create = background(&b, "create");
            for _ in 0..3 {
                b.on(&["delete", "--force"], &[]).ok();
            }
            let code = wait_at_most(create, PATIENCE);
            assert!(code.is_some(), "round {round}: create goes on");
            b.on(&["delete", "--force"], &[]).ok();
            assert!(!b.cgroup("").exists(), "round {round}: create {code:?}");
        }
        Ok(())
    });
    suite.case(
        "run_has_the_code_of_its_program_when_another_deletes_it",
        |g| {
            let mut b = g.bundle();
            b.args(&["/bin/probe", "hold"]).write();
            for round in 0..pace::fewer(8) {
                let run = background(&b, "run");
                let began = Instant::now();
                while b.on(&["state"], &[]).code != 0 || b.status() != "running" {
                    assert!(began.elapsed() < PATIENCE, "round {round}: it never runs");
                }
                b.on(&["delete", "--force"], &[]).ok();
                assert_eq!(wait_at_most(run, PATIENCE), Some(137), "round {round}");
            }
            Ok(())
        },
    );
    suite.case("a_profile_that_forbids_even_an_end_ends_at_once", |g| {
        let mut b = g.bundle();
        let nothing = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []});
        b.set("/linux/seccomp", nothing).args(&["/bin/true"]);
        let began = Instant::now();
        b.refused();
        let took = began.elapsed();
        assert!(took < PATIENCE, "{took:?}");
        Ok(())
    });
    suite.case("a_deleted_id_can_be_used_again_at_once", |g| {
        let mut b = g.bundle();
        for _ in 0..3 {
            b.hold();
            b.on(&["delete", "--force"], &[]).ok();
        }
        Ok(())
    });
    suite.case("a_bundle_that_is_gone_does_not_keep_its_container", |g| {
        let mut b = g.bundle();
        b.hold();
        fs::rename(b.dir.join("config.json"), b.dir.join("gone")).expect("renamed");
        assert_eq!(b.status(), "running");
        b.on(&["delete", "--force"], &[]).ok();
        assert!(b.on(&["state"], &[]).refused().contains("does not exist"));
        Ok(())
    });
}

fn pauses(suite: &mut Suite) {
    suite.case("a_paused_container_stands_still_and_goes_on", |g| {
        let mut b = g.bundle();
        b.shell("n=0; while :; do n=$((n+1)); echo $n > /tmp/ready; sleep 0.01; done");
        b.detach();
        ready(&b);
        b.on(&["pause"], &[]).ok();
        assert_eq!(
            (b.status().as_str(), b.cgroup_file("cgroup.freeze").as_str()),
            ("paused", "1")
        );
        let first = fs::read_to_string(b.rootfs("/tmp/ready")).expect("a count");
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(
            fs::read_to_string(b.rootfs("/tmp/ready")).expect("a count"),
            first
        );
        b.on(&["resume"], &[]).ok();
        assert_eq!(b.status(), "running");
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_ne!(
            fs::read_to_string(b.rootfs("/tmp/ready")).expect("a count"),
            first
        );
        Ok(())
    });
    suite.case(
        "exec_into_a_paused_container_is_refused_unless_it_may_wait",
        |g| {
            let mut b = g.bundle();
            b.hold();
            b.on(&["pause"], &[]).ok();
            let said = b.on(&["exec"], &["/bin/true"]).refused();
            assert!(said.contains("paused"), "{said}");
            assert!(
                g.runtime.runc.is_some() || said.contains("--ignore-paused"),
                "{said}"
            );
            b.on(&["resume"], &[]).ok();
            b.on(&["exec"], &["/bin/true"]).ok();
            Ok(())
        },
    );
    suite.case("kill_of_a_paused_container_ends_it", |g| {
        let mut b = g.bundle();
        let pid = b.hold();
        b.on(&["pause"], &[]).ok();
        b.on(&["kill"], &["KILL"]).ok();
        assert_eq!(wait_exit(pid), 137);
        b.wait_for("stopped");
        b.on(&["delete"], &[]).ok();
        Ok(())
    });
}
