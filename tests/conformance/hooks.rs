//! When and where does each kind of hook run, what does it read, and what when it fails or hangs?
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rsrun_tests::cli::bundle::{Bundle, wait_exit};
use rsrun_tests::cli::ground::Ground;
use rsrun_tests::cli::runtime::wait_at_most;
use rsrun_tests::cli::suite::Suite;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// In the order in which they run.
const KINDS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

pub(crate) fn cases(suite: &mut Suite) {
    life(suite);
    environment(suite);
    failures(suite);
    refused(suite);
}

/// A script as a hook: in the bundle for the host's kinds, in the root file system for startContainer.
fn hook(b: &mut Bundle<'_>, kind: &str, script: &str) -> Value {
    let number = b.spec["hooks"][kind].as_array().map_or(0, Vec::len);
    let name = format!("hook-{kind}-{number}");
    let (file, path) = match kind {
        "startContainer" => (b.rootfs(&format!("/{name}")), format!("/{name}")),
        _ => (
            b.dir.join(&name),
            b.dir.join(&name).to_string_lossy().into_owned(),
        ),
    };
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a mode");
    json!({"path": path, "args": [name, "second"], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", format!("KIND={kind}")]})
}

fn add(b: &mut Bundle<'_>, kind: &str, script: &str) {
    let hook = hook(b, kind, script);
    b.set(&format!("/hooks/{kind}/-"), hook);
}

/// Where a hook of that kind leaves a file, seen from the hook and from the suite.
fn note(b: &Bundle<'_>, kind: &str, name: &str) -> (String, std::path::PathBuf) {
    match kind {
        "startContainer" => (format!("/{name}"), b.rootfs(&format!("/{name}"))),
        _ => (
            b.dir.join(name).to_string_lossy().into_owned(),
            b.dir.join(name),
        ),
    }
}

fn read(path: &std::path::Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn life(suite: &mut Suite) {
    suite.case("hooks_of_six_kinds_run_each_at_its_time", |g| {
        g.since_runc(1, 2, "poststart after start")?;
        let mut b = g.bundle();
        for kind in KINDS {
            let (inside, _) = note(&b, kind, &format!("ran-{kind}"));
            add(&mut b, kind, &format!("echo ran > {inside}"));
        }
        b.args(&["/bin/probe", "hold"]).write();
        let ran = |b: &Bundle<'_>| -> Vec<&str> {
            KINDS
                .into_iter()
                .filter(|k| note(b, k, &format!("ran-{k}")).1.exists())
                .collect()
        };
        b.call("create", &[]).ok();
        assert_eq!(ran(&b), KINDS[..3]);
        b.on(&["start"], &[]).ok();
        // runc answers start before the process has run its startContainer hooks.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while g.runtime.runc.is_some() && ran(&b).len() < 5 && std::time::Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(ran(&b), KINDS[..5]);
        b.on(&["kill"], &["KILL"]).ok();
        b.wait_for("stopped");
        assert_eq!(ran(&b), KINDS[..5]);
        b.on(&["delete"], &[]).ok();
        assert_eq!(ran(&b), KINDS);
        Ok(())
    });
    suite.case("hooks_of_one_kind_run_in_their_order", |g| {
        for kind in KINDS {
            let mut b = g.bundle();
            let (inside, outside) = note(&b, kind, "order");
            for word in ["first", "second", "third"] {
                add(&mut b, kind, &format!("echo {word} >> {inside}"));
            }
            b.run().ok();
            assert_eq!(read(&outside), "first\nsecond\nthird\n", "{kind}");
        }
        Ok(())
    });
    suite.case("every_hook_reads_the_state_of_its_time", |g| {
        g.since_runc(1, 2, "the statuses of the specification")?;
        let statuses = [
            ("prestart", "creating"),
            ("createRuntime", "creating"),
            ("createContainer", "creating"),
            ("startContainer", "created"),
            ("poststart", "running"),
            ("poststop", "stopped"),
        ];
        for (kind, status) in statuses {
            let mut b = g.bundle();
            let (inside, outside) = note(&b, kind, "state");
            add(&mut b, kind, &format!("cat > {inside}"));
            b.set("/annotations", json!({"org.example": "noted"}))
                .run()
                .ok();
            let state: Value = serde_json::from_str(&read(&outside))
                .unwrap_or_else(|e| panic!("{kind} read no state: {e}"));
            assert_eq!(
                (&state["id"], &state["status"]),
                (&json!(b.id), &json!(status)),
                "{kind}"
            );
            assert_eq!(state["bundle"], json!(b.dir), "{kind}");
            assert_eq!(state["annotations"]["org.example"], "noted", "{kind}");
            assert!(state["ociVersion"].is_string(), "{kind}: {state}");
            let pid = state["pid"].as_i64().unwrap_or(0);
            match kind {
                "poststop" => assert_eq!(pid, 0, "{kind}"),
                // Inside, runc tells the number that the process has in its pid namespace.
                "createContainer" | "startContainer" => assert!(pid >= 1),
                _ => assert!(pid > 1, "{kind}: {state}"),
            }
        }
        Ok(())
    });
    suite.case("hooks_run_in_the_namespaces_of_their_kind", |g| {
        let host = fs::read_link("/proc/self/ns/mnt").expect("a link").display().to_string();
        let net = fs::read_link("/proc/self/ns/net").expect("a link").display().to_string();
        for kind in KINDS {
            let mut b = g.bundle();
            let (inside, outside) = note(&b, kind, "where");
            let dir = b.dir.display().to_string();
            add(&mut b, kind, &format!("readlink /proc/self/ns/mnt > {inside}; readlink /proc/self/ns/net >> {inside}; test -e {dir}/config.json && echo host >> {inside}; true"));
            b.run().ok();
            let text = read(&outside);
            let lines: Vec<&str> = text.lines().collect();
            let in_container = ["createContainer", "startContainer"].contains(&kind);
            assert_eq!((lines[0] != host, lines[1] != net), (in_container, in_container), "{kind}: {text}");
            // The host's files are in sight of all but startContainer, which runs after the root was changed.
            assert_eq!(lines.len() == 3, kind != "startContainer", "{kind}: {text}");
        }
        Ok(())
    });
    suite.case("create_runtime_finds_the_namespaces_and_may_set_up_the_network", |g| {
        let mut b = g.bundle();
        add(&mut b, "createRuntime", "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -t $pid -n ip link add hooked type dummy 2>/dev/null || nsenter -t $pid -n ip link set lo mtu 1400");
        b.args(&["/bin/sh", "-c", "cat /sys/class/net/lo/mtu; ls /sys/class/net"]);
        let text = b.printed();
        assert!(text.starts_with("1400") || text.contains("hooked"), "{text}");
        Ok(())
    });
    suite.case(
        "create_container_sees_the_mounts_before_the_root_changes",
        |g| {
            let mut b = g.bundle();
            let (inside, outside) = note(&b, "createContainer", "mounts");
            let dir = b.dir.display().to_string();
            add(
                &mut b,
                "createContainer",
                &format!("grep -c {dir}/rootfs/proc /proc/self/mountinfo > {inside}"),
            );
            b.run().ok();
            assert_eq!(read(&outside), "1\n");
            Ok(())
        },
    );
    suite.case("a_run_that_ends_by_itself_runs_poststop", |g| {
        let mut b = g.bundle();
        let (inside, outside) = note(&b, "poststop", "after");
        add(&mut b, "poststop", &format!("echo after > {inside}"));
        b.args(&["/bin/false"]);
        assert_eq!(b.run().code, 1);
        assert!(outside.exists());
        Ok(())
    });
    suite.case("a_forced_delete_runs_poststop", |g| {
        let mut b = g.bundle();
        let (inside, outside) = note(&b, "poststop", "after");
        add(&mut b, "poststop", &format!("echo after > {inside}"));
        let pid = b.hold();
        b.on(&["delete", "--force"], &[]).ok();
        assert_eq!(wait_exit(pid), 137);
        assert!(outside.exists());
        Ok(())
    });
}

fn environment(suite: &mut Suite) {
    suite.case("a_hook_has_its_own_arguments_and_environment", |g| {
        for kind in KINDS {
            let mut b = g.bundle();
            let (inside, outside) = note(&b, kind, "env");
            add(&mut b, kind, &format!("(echo $1; env) > {inside}"));
            b.set(
                "/process/env",
                json!(["PATH=/bin", "SECRET=of-the-container"]),
            )
            .run()
            .ok();
            let text = read(&outside);
            assert!(
                text.starts_with("second\n") && text.contains(&format!("KIND={kind}\n")),
                "{kind}: {text}"
            );
            assert!(!text.contains("SECRET"), "{kind}: {text}");
        }
        Ok(())
    });
    suite.case("a_hook_without_env_has_none", |g| {
        g.differs_from_runc("a hook without env gets an empty one; runc hands on its own")?;
        let mut b = g.bundle();
        let (inside, outside) = note(&b, "createRuntime", "env");
        let mut hook = hook(&mut b, "createRuntime", &format!("/usr/bin/env > {inside}"));
        hook.as_object_mut().expect("a hook").remove("env");
        b.set("/hooks/createRuntime/-", hook).run().ok();
        let left: Vec<String> = read(&outside)
            .lines()
            .filter(|l| !["PWD=", "SHLVL=", "_="].iter().any(|n| l.starts_with(n)))
            .map(String::from)
            .collect();
        assert!(left.is_empty(), "{left:?}");
        Ok(())
    });
    suite.case("a_hook_s_working_directory_is_not_in_the_container", |g| {
        let mut b = g.bundle();
        let (inside, outside) = note(&b, "createRuntime", "cwd");
        add(&mut b, "createRuntime", &format!("pwd > {inside}"));
        b.run().ok();
        assert!(!read(&outside).contains("rootfs"), "{}", read(&outside));
        Ok(())
    });
    suite.case("a_hook_has_only_its_three_streams_open", |g| {
        let mut b = g.bundle();
        let (inside, outside) = note(&b, "createRuntime", "fds");
        add(
            &mut b,
            "createRuntime",
            &format!("ls -l /proc/self/fd > {inside}"),
        );
        b.run().ok();
        let text = read(&outside);
        let numbers: Vec<&str> = text
            .lines()
            .filter_map(|l| l.split(" -> ").next()?.split_whitespace().last())
            .collect();
        // The shell opens its script, ls the directory; above them there is nothing.
        assert!(
            numbers.iter().all(|n| n
                .parse::<u32>()
                .map_or(true, |n| n <= 3 || n == 10 || n == 255)),
            "{text}"
        );
        Ok(())
    });
}

fn failures(suite: &mut Suite) {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        suite.case(
            format!(
                "a_failing_{}_hook_fails_create_and_leaves_nothing",
                kind.to_lowercase()
            ),
            move |g| {
                let mut b = g.bundle();
                add(&mut b, kind, "echo the hook says no >&2; exit 3");
                b.write();
                let said = b.call("create", &[]).refused();
                assert!(said.contains("hook"), "{said}");
                assert!(!b.cgroup("").exists());
                assert!(b.on(&["state"], &[]).refused().contains("does not exist"));
                Ok(())
            },
        );
    }
    suite.case(
        "a_failing_startcontainer_hook_fails_start_and_the_program_never_runs",
        |g| {
            g.since_runc(1, 2, "a clean end after a failed hook")?;
            let mut b = g.bundle();
            add(&mut b, "startContainer", "exit 3");
            b.args(&["/bin/touch", "/tmp/ran"]).write();
            b.call("create", &[]).ok();
            b.on(&["start"], &[]);
            b.wait_for("stopped");
            assert!(!b.rootfs("/tmp/ran").exists());
            b.on(&["delete", "--force"], &[]).ok();
            Ok(())
        },
    );
    suite.case(
        "a_failing_poststart_hook_fails_start_after_the_program_began",
        |g| {
            g.since_runc(1, 5, "the order of the specification 1.3")?;
            let mut b = g.bundle();
            add(&mut b, "poststart", "exit 3");
            b.args(&["/bin/probe", "hold"]).write();
            b.call("create", &[]).ok();
            let said = b.on(&["start"], &[]).refused();
            assert!(said.contains("hook"), "{said}");
            Ok(())
        },
    );
    suite.case("a_failing_poststop_hook_does_not_keep_the_container", |g| {
        let mut b = g.bundle();
        add(&mut b, "poststop", "exit 3");
        b.hold();
        b.on(&["delete", "--force"], &[]);
        assert!(b.on(&["state"], &[]).refused().contains("does not exist"));
        Ok(())
    });
    suite.case("the_hooks_after_a_failing_one_do_not_run", |g| {
        let mut b = g.bundle();
        let (inside, outside) = note(&b, "createRuntime", "late");
        add(&mut b, "createRuntime", "exit 3");
        add(&mut b, "createRuntime", &format!("echo late > {inside}"));
        b.refused();
        assert!(!outside.exists());
        Ok(())
    });
    suite.case("a_hook_that_hangs_is_killed_at_its_time_out", |g| {
        for kind in ["createRuntime", "createContainer"] {
            let mut b = g.bundle();
            let mut hook = hook(&mut b, kind, "exec sleep 60");
            hook["timeout"] = json!(1);
            b.set(&format!("/hooks/{kind}/-"), hook);
            let out = b.run();
            assert!(
                out.took >= Duration::from_millis(900) && out.took < Duration::from_secs(20),
                "{kind} took {:?}",
                out.took
            );
            out.refused();
        }
        Ok(())
    });
    suite.case("a_container_whose_hook_hangs_is_deleted_by_force", |g| {
        g.differs_from_runc("its delete --force does not end the hook")?;
        for kind in [
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
        ] {
            let mut b = g.bundle();
            add(&mut b, kind, "exec sleep 600");
            b.args(&["/bin/probe", "hold"]).write();
            let mut command = b.runtime().command(["run", "--detach", "--bundle"]);
            command.arg(&b.dir).arg(&b.id).stdin(Stdio::null());
            let child = command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the runtime starts");
            std::thread::sleep(Duration::from_millis(400));
            let creating = kind.starts_with("create");
            if creating {
                for verb in [&["start"][..], &["kill"]] {
                    let words = b.on(verb, &[]).refused();
                    assert!(words.contains("creating"), "{kind}: {words}");
                }
            }
            let began = Instant::now();
            b.on(&["delete", "--force"], &[]).ok();
            let took = began.elapsed();
            assert!(took < Duration::from_secs(4), "{kind}: {took:?}");
            assert_ne!(
                wait_at_most(child, Duration::from_secs(10)),
                Some(0),
                "{kind}"
            );
        }
        Ok(())
    });
    suite.case("a_run_whose_hook_hangs_ends_on_a_signal", |g| {
        g.differs_from_runc("it waits for the hook")?;
        for verb in [&["run"][..], &["run", "--detach"], &["create"]] {
            ends_on_a_signal(g, verb);
        }
        Ok(())
    });
    suite.case("a_hook_that_ends_in_time_is_not_killed", |g| {
        let mut b = g.bundle();
        let mut hook = hook(&mut b, "createRuntime", "sleep 0.2; exit 0");
        hook["timeout"] = json!(20);
        b.set("/hooks/createRuntime/-", hook).run().ok();
        Ok(())
    });
    suite.case("a_hook_that_does_not_read_its_state_is_no_failure", |g| {
        let mut b = g.bundle();
        b.set("/annotations", json!({"long": "x".repeat(200_000)}));
        add(&mut b, "createRuntime", "exec 0<&-; exit 0");
        b.run().ok();
        Ok(())
    });
}

fn refused(suite: &mut Suite) {
    suite.case("a_hook_that_is_missing_fails_create_by_its_name", |g| {
        let mut b = g.bundle();
        b.set("/hooks/createRuntime/-", json!({"path": "/no/such/hook"}));
        let said = b.refused();
        assert!(said.contains("/no/such/hook"), "{said}");
        Ok(())
    });
    suite.case("a_hook_with_a_relative_path_is_refused", |g| {
        g.differs_from_runc("the specification demands an absolute path; runc looks the name up")?;
        let mut b = g.bundle();
        b.set("/hooks/createRuntime/-", json!({"path": "true"}));
        let said = b.refused();
        assert!(said.contains("/hooks/createRuntime/0/path"), "{said}");
        Ok(())
    });
    suite.case("a_hook_time_out_of_zero_or_less_is_refused", |g| {
        g.differs_from_runc(
            "the specification demands a time-out above zero; runc takes zero for none",
        )?;
        let mut b = g.bundle();
        b.set(
            "/hooks/createRuntime/-",
            json!({"path": "/bin/true", "timeout": 0}),
        );
        let said = b.refused();
        assert!(said.contains("/hooks/createRuntime/0/timeout"), "{said}");
        Ok(())
    });
}

/// The command hangs in a hook, is asked to end, and leaves nothing.
fn ends_on_a_signal(g: &Ground, verb: &[&str]) {
    let mut b = g.bundle();
    add(&mut b, "createRuntime", "exec sleep 600");
    b.write();
    let mut command = b.runtime().command(verb);
    command.arg("--bundle").arg(&b.dir).arg(&b.id);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("the runtime starts");
    std::thread::sleep(Duration::from_millis(400));
    let pid = Pid::from_raw(child.id().try_into().expect("a pid"));
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("it runs");
    assert_eq!(
        wait_at_most(child, Duration::from_secs(10)),
        Some(1),
        "{verb:?}"
    );
    b.on(&["state"], &[]).refused();
}
