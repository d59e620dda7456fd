//! Do list, ps, spec, features, events, version and the log speak as those who parse runc's expect?
use rsrun_tests::cli::runtime::finish;
use rsrun_tests::cli::suite::{Suite, skip};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

pub(crate) fn cases(suite: &mut Suite) {
    lists(suite);
    told(suite);
    logs(suite);
    lines(suite);
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("no JSON: {text:?}: {e}"))
}

fn lists(suite: &mut Suite) {
    suite.case("list_shows_a_table_with_the_known_heads", |g| {
        let mut b = g.bundle();
        let pid = b.hold().to_string();
        let text = g.runtime.call(["list"]).ok().stdout;
        let mut lines = text.lines();
        let heads: Vec<&str> = lines.next().expect("a head").split_whitespace().collect();
        assert_eq!(heads, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
        let row: Vec<&str> = lines
            .find(|l| l.starts_with(&b.id))
            .expect("a row")
            .split_whitespace()
            .collect();
        assert_eq!(
            (row[1], row[2], row[3], row[5]),
            (pid.as_str(), "running", &*b.dir.to_string_lossy(), "root")
        );
        Ok(())
    });
    suite.case("list_as_json_has_what_state_has_and_the_owner", |g| {
        let mut b = g.bundle();
        b.hold();
        let all = parse(&g.runtime.call(["list", "--format", "json"]).ok().stdout);
        let own = all
            .as_array()
            .expect("a list")
            .iter()
            .find(|c| c["id"] == b.id.as_str())
            .expect("the container")
            .clone();
        let state = b.state();
        for key in [
            "ociVersion",
            "id",
            "pid",
            "status",
            "bundle",
            "rootfs",
            "created",
        ] {
            assert_eq!(own[key], state[key], "{key}");
        }
        assert_eq!(own["owner"], "root");
        Ok(())
    });
    suite.case("list_quiet_shows_ids_alone", |g| {
        let (mut a, mut b) = (g.bundle(), g.bundle());
        a.hold();
        b.hold();
        let text = g.runtime.call(["list", "-q"]).ok().stdout;
        let found: Vec<&str> = text.lines().collect();
        assert_eq!(found, [a.id.as_str(), b.id.as_str()]);
        Ok(())
    });
    suite.case("list_of_nothing_is_a_head_or_null", |g| {
        assert_eq!(g.runtime.call(["list", "-q"]).ok().stdout.trim(), "");
        let text = g.runtime.call(["list", "-f", "json"]).ok().stdout;
        assert!(["null", "[]"].contains(&text.trim()), "{text}");
        Ok(())
    });
    suite.case("list_in_an_unknown_format_is_refused", |g| {
        g.runtime.call(["list", "--format", "xml"]).refused();
        Ok(())
    });
    suite.case("ps_as_json_is_the_list_of_host_pids", |g| {
        let mut b = g.bundle();
        b.shell("sleep 1000 & touch /tmp/ready; wait");
        let pid = b.detach();
        while !b.rootfs("/tmp/ready").exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let found = parse(&b.on(&["ps", "--format", "json"], &[]).ok().stdout);
        let found: Vec<i64> = found
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_i64)
            .collect();
        assert!(
            found.len() == 2 && found.contains(&i64::from(pid.as_raw())),
            "{found:?}"
        );
        Ok(())
    });
    suite.case("ps_as_a_table_shows_the_container_s_processes_alone", |g| {
        let mut b = g.bundle();
        let pid = b.hold().to_string();
        let text = b.on(&["ps"], &[]).ok().stdout;
        let rows: Vec<&str> = text.lines().skip(1).collect();
        assert!(
            rows.len() == 1
                && rows[0].split_whitespace().any(|w| w == pid)
                && rows[0].contains("probe"),
            "{text}"
        );
        let text = b.on(&["ps"], &["-o", "pid,comm"]).ok().stdout;
        assert!(
            text.lines()
                .nth(1)
                .is_some_and(|l| l.contains(&pid) && l.contains("probe")),
            "{text}"
        );
        Ok(())
    });
}

fn told(suite: &mut Suite) {
    suite.case("spec_writes_a_config_that_runs_as_it_is", |g| {
        let b = g.bundle();
        let dir = b.dir.to_string_lossy().into_owned();
        g.runtime.call(["spec", "--bundle", &dir]).ok();
        let text = fs::read_to_string(b.dir.join("config.json")).expect("a config");
        let mut spec = parse(&text);
        for pointer in [
            "/process/args",
            "/process/capabilities/bounding",
            "/root/path",
            "/mounts",
            "/linux/namespaces",
            "/linux/maskedPaths",
        ] {
            assert!(spec.pointer(pointer).is_some(), "no {pointer}");
        }
        assert_eq!(
            (&spec["process"]["args"], &spec["process"]["terminal"]),
            (&json!(["sh"]), &json!(true))
        );
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["true"]);
        // runc's spec names no cgroup: the suite's own place, so that its oracle looks there.
        spec["linux"]["cgroupsPath"] = b.spec["linux"]["cgroupsPath"].clone();
        fs::write(b.dir.join("config.json"), spec.to_string()).expect("written");
        b.call("run", &[]).ok();
        Ok(())
    });
    suite.case("spec_does_not_write_over_a_config", |g| {
        let b = g.bundle();
        b.write();
        let dir = b.dir.to_string_lossy().into_owned();
        g.runtime.call(["spec", "--bundle", &dir]).refused();
        Ok(())
    });
    suite.case(
        "features_names_hooks_mount_options_namespaces_and_capabilities",
        |g| {
            let features = parse(&g.runtime.call(["features"]).ok().stdout);
            let has = |pointer: &str, word: &str| {
                let list = features.pointer(pointer).and_then(Value::as_array);
                assert!(
                    list.is_some_and(|l| l.iter().any(|v| v == word)),
                    "{pointer} lacks {word}: {:?}",
                    list
                );
            };
            assert!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string());
            for hook in [
                "prestart",
                "createRuntime",
                "createContainer",
                "startContainer",
                "poststart",
                "poststop",
            ] {
                has("/hooks", hook);
            }
            for option in [
                "ro",
                "rro",
                "rbind",
                "nosuid",
                "tmpcopyup",
                "rslave",
                "noexec",
            ] {
                has("/mountOptions", option);
            }
            for kind in ["pid", "network", "ipc", "uts", "mount", "user", "cgroup"] {
                has("/linux/namespaces", kind);
            }
            has("/linux/capabilities", "CAP_CHOWN");
            has("/linux/seccomp/actions", "SCMP_ACT_ERRNO");
            has("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ");
            has("/linux/seccomp/archs", "SCMP_ARCH_X86_64");
            assert_eq!(
                (
                    &features["linux"]["cgroup"]["v2"],
                    &features["linux"]["seccomp"]["enabled"]
                ),
                (&json!(true), &json!(true))
            );
            Ok(())
        },
    );
    suite.case(
        "every_mount_option_that_features_names_is_known_to_create",
        |g| {
            g.since_runc(1, 2, "options that agree with its features")?;
            let features = parse(&g.runtime.call(["features"]).ok().stdout);
            let mut failed = Vec::new();
            for option in features["mountOptions"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(Value::as_str)
            {
                // These mean something with a bind alone, or cannot hold on any mount of a test.
                if option.starts_with("idmap")
                    || option.starts_with("ridmap")
                    || option.contains("bind")
                    || option == "remount"
                    || option == "mand"
                {
                    continue;
                }
                if option == "defaults" && g.runtime.runc.is_some() {
                    continue;
                }
                let mut b = g.bundle();
                b.mount("/m", "tmpfs", "m", &[option]);
                let out = b.run();
                if out.code != 0 {
                    failed.push(format!("{option}: {}", out.stderr));
                }
            }
            assert!(failed.is_empty(), "{failed:?}");
            Ok(())
        },
    );
    suite.case("events_stats_is_one_json_line_with_the_known_parts", |g| {
        let mut b = g.bundle();
        b.hold();
        let event = parse(&b.on(&["events", "--stats"], &[]).ok().stdout);
        assert_eq!(
            (&event["type"], &event["id"]),
            (&json!("stats"), &json!(b.id))
        );
        assert!(
            event["data"]["cpu"].is_object()
                && event["data"]["memory"].is_object()
                && event["data"]["pids"].is_object(),
            "{event}"
        );
        Ok(())
    });
    suite.case("version_says_name_version_and_specification", |g| {
        let text = g.runtime.call(["--version"]).ok().stdout;
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains(" version ") && lines.iter().any(|l| l.starts_with("spec: 1.")),
            "{text}"
        );
        assert_eq!(g.runtime.call(["-v"]).ok().stdout, text);
        Ok(())
    });
    suite.case("help_names_every_command", |g| {
        let text = g.runtime.call(["--help"]).ok().stdout;
        for verb in [
            "create", "start", "run", "state", "list", "kill", "delete", "exec", "pause", "resume",
            "spec", "features", "ps", "update", "events",
        ] {
            assert!(text.contains(verb), "no {verb} in {text}");
        }
        Ok(())
    });
    suite.case(
        "checkpoint_and_restore_say_that_they_are_not_supported",
        |g| {
            if g.runtime.runc.is_some() {
                skip("runc has them");
            }
            for verb in ["checkpoint", "restore"] {
                // The last is how podman asks whether there is such a thing.
                for rest in [
                    &["some"][..],
                    &["--leave-running", "--work-path", "/x", "some"],
                    &["--help"],
                ] {
                    let said = g.runtime.call([&[verb], rest].concat()).refused();
                    assert!(said.contains("not supported"), "{verb} {rest:?}: {said}");
                }
            }
            Ok(())
        },
    );
    suite.case("help_tells_where_state_is_kept", |g| {
        if g.runtime.runc.is_some() {
            skip("its own root");
        }
        let text = g.runtime.call(["--help"]).ok().stdout;
        for root in ["/run/rsrun;", "/run/containerd/rsrun/NAMESPACE"] {
            assert!(text.contains(root), "no {root} in {text}");
        }
        Ok(())
    });
}

fn logs(suite: &mut Suite) {
    suite.case("a_json_log_has_level_msg_and_time_in_the_file", |g| {
        let b = g.bundle();
        let log = b.dir.join("log.json");
        let path = log.to_string_lossy().into_owned();
        let out = g.runtime.call([
            "--log",
            &path,
            "--log-format",
            "json",
            "state",
            "no-such-container",
        ]);
        assert_eq!(out.code, 1);
        let text = fs::read_to_string(&log).expect("a log");
        let last = parse(text.lines().last().expect("a line"));
        assert_eq!(last["level"], "error");
        assert!(
            last["msg"]
                .as_str()
                .is_some_and(|m| m.contains("does not exist")),
            "{last}"
        );
        assert!(
            last["time"].as_str().is_some_and(|t| t.contains('T')),
            "{last}"
        );
        // Those who show a failure to people read stderr.
        assert!(out.stderr.contains("does not exist"), "{}", out.stderr);
        Ok(())
    });
    suite.case("a_text_log_goes_into_the_file", |g| {
        let b = g.bundle();
        let log = b.dir.join("log");
        let path = log.to_string_lossy().into_owned();
        g.runtime
            .call(["--log", &path, "state", "no-such-container"]);
        assert!(
            fs::read_to_string(&log)
                .expect("a log")
                .contains("does not exist")
        );
        Ok(())
    });
    suite.case("a_log_is_appended_to", |g| {
        let b = g.bundle();
        let log = b.dir.join("log");
        fs::write(&log, "before\n").expect("a log");
        let path = log.to_string_lossy().into_owned();
        g.runtime
            .call(["--log", &path, "state", "no-such-container"]);
        assert!(
            fs::read_to_string(&log)
                .expect("a log")
                .starts_with("before\n")
        );
        Ok(())
    });
    suite.case("a_log_does_not_take_the_place_of_a_closed_stream", |g| {
        let b = g.bundle();
        let log = b.dir.join("log");
        let mut command = Command::new("sh");
        command.args(["-c", r#"exec "$@" <&- >&- 2>&-"#, "sh"]);
        command.arg(&b.runtime().path).arg("--log").arg(&log);
        command.args(["state", "no-such-container"]);
        assert_ne!(finish(command, &b.dir).code, 0);
        let log = fs::read_to_string(&log).expect("a log");
        // What it tells people is no line of it.
        assert!(log.lines().all(|line| line.starts_with("time=")), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
        Ok(())
    });
    suite.case("a_run_that_works_says_nothing_of_its_own", |g| {
        let out = g.bundle().run().ok();
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("", ""));
        Ok(())
    });
}

fn lines(suite: &mut Suite) {
    suite.case(
        "flags_may_be_written_with_one_dash_or_an_equals_sign",
        |g| {
            let mut b = g.bundle();
            b.args(&["/bin/echo", "said"]).write();
            let dir = b.dir.to_string_lossy().into_owned();
            assert_eq!(
                g.runtime
                    .call(["run", &format!("--bundle={dir}"), &b.id])
                    .ok()
                    .stdout,
                "said\n"
            );
            assert_eq!(
                g.runtime.call(["run", "-b", &dir, &b.id]).ok().stdout,
                "said\n"
            );
            Ok(())
        },
    );
    suite.case("the_bundle_is_the_working_directory_by_default", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/echo", "said"]).write();
        let mut command = g.runtime.command(["run", &b.id]);
        command.current_dir(&b.dir);
        assert_eq!(
            rsrun_tests::cli::runtime::finish(command, &g.runtime.root)
                .ok()
                .stdout,
            "said\n"
        );
        Ok(())
    });
    suite.case("flags_of_an_exec_end_at_the_id", |g| {
        let mut b = g.bundle();
        b.hold();
        assert_eq!(
            b.on(&["exec"], &["/bin/echo", "-t", "--user", "5"])
                .ok()
                .stdout,
            "-t --user 5\n"
        );
        Ok(())
    });
    suite.case("run_keep_keeps_the_stopped_container", |g| {
        g.since_runc(1, 1, "run --keep")?;
        let b = g.bundle();
        b.write();
        b.call("run", &["--keep"]).ok();
        assert_eq!(b.status(), "stopped");
        b.on(&["delete"], &[]).ok();
        Ok(())
    });
}
