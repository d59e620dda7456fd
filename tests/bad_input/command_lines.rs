//! Command lines with bad ids, options, files and words.
use crate::names;
use rsrun_tests::cli::suite::Suite;
use std::fs;

pub(crate) fn cases(suite: &mut Suite) {
    ids(suite);
    options(suite);
    paths(suite);
}

fn ids(suite: &mut Suite) {
    let bad: [(&str, String); 14] = [
        ("is_empty", String::new()),
        ("is_a_dot", ".".into()),
        ("is_two_dots", "..".into()),
        ("has_a_slash", "a/b".into()),
        ("climbs", "../x".into()),
        ("climbs_in_between", "a/../b".into()),
        ("is_absolute", "/tmp/x".into()),
        ("has_a_blank", "a b".into()),
        ("has_a_line_end", "a\nb".into()),
        ("has_a_letter_beyond_ascii", "contäiner".into()),
        ("has_a_backslash", "a\\b".into()),
        ("has_a_colon", "a:b".into()),
        ("is_1000_characters_long", "a".repeat(1_000)),
        ("is_a_percent_code", "%2e%2e".into()),
    ];
    for (what, id) in bad {
        suite.case(
            format!("an_id_that_{what}_is_refused_by_every_command"),
            move |g| {
                let b = g.bundle();
                b.write();
                let bundle = b.dir.to_string_lossy().into_owned();
                for verb in [
                    "create", "run", "state", "start", "kill", "delete", "pause", "resume",
                ] {
                    let mut args = vec![verb];
                    if ["create", "run"].contains(&verb) {
                        args.extend(["--bundle", &bundle]);
                    }
                    args.push(&id);
                    names(g, g.runtime.call(args), "id")?;
                }
                let out = g.runtime.call(["delete", "--force", &id]);
                if g.runtime.runc.is_none() {
                    assert!(out.code != 0, "a forced delete took {id:?}");
                }
                Ok(())
            },
        );
    }
    suite.case("ids_of_every_allowed_character_are_taken", |g| {
        let b = g.bundle();
        b.write();
        for id in [
            "a",
            "A.b_c-d+e0",
            &format!("{}-{}", g.prefix, "x".repeat(100)),
        ] {
            g.runtime
                .call(["run", "--bundle", &b.dir.to_string_lossy(), id])
                .ok();
        }
        Ok(())
    });
}

fn options(suite: &mut Suite) {
    let lines: [(&str, &[&str], &str); 22] = [
        ("an_unknown_command", &["wish"], "wish"),
        ("an_unknown_global_option", &["--wish", "list"], "--wish"),
        ("an_unknown_option", &["run", "--wish", "x"], "--wish"),
        (
            "an_option_without_its_value",
            &["run", "--bundle"],
            "--bundle",
        ),
        ("run_without_an_id", &["run"], "id"),
        ("state_without_an_id", &["state"], "id"),
        ("kill_without_an_id", &["kill"], "id"),
        ("delete_without_an_id", &["delete"], "id"),
        ("state_of_two_ids", &["state", "a", "b"], "b"),
        ("start_of_two_ids", &["start", "a", "b"], "b"),
        ("kill_with_three_words", &["kill", "a", "TERM", "c"], "c"),
        ("list_with_an_id", &["list", "a"], "a"),
        (
            "list_in_an_unknown_format",
            &["list", "--format", "xml"],
            "xml",
        ),
        (
            "ps_in_an_unknown_format",
            &["ps", "--format", "xml", "a"],
            "xml",
        ),
        (
            "a_log_in_an_unknown_format",
            &["--log-format", "yaml", "list"],
            "yaml",
        ),
        (
            "negative_preserve_fds",
            &["run", "--preserve-fds=-1", "a"],
            "--preserve-fds",
        ),
        (
            "preserve_fds_in_words",
            &["run", "--preserve-fds", "two", "a"],
            "--preserve-fds",
        ),
        (
            "update_of_a_limit_in_words",
            &["update", "--pids-limit", "ten", "a"],
            "--pids-limit",
        ),
        (
            "an_unknown_rootless_word",
            &["--rootless", "perhaps", "list"],
            "--rootless",
        ),
        (
            "exec_of_a_file_and_nothing_else",
            &["exec", "--process"],
            "--process",
        ),
        (
            "a_flag_with_a_value",
            &["delete", "--force=perhaps", "a"],
            "--force",
        ),
        (
            "events_at_an_interval_of_nothing",
            &["events", "--interval", "soon", "a"],
            "--interval",
        ),
    ];
    for (what, line, place) in lines {
        suite.case(format!("{what}_is_refused"), move |g| {
            names(g, g.runtime.call(line), place)
        });
    }
    suite.case("more_preserve_fds_than_are_open_is_refused", |g| {
        let b = g.bundle();
        b.write();
        names(g, b.call("run", &["--preserve-fds", "40"]), "descriptor")
    });
    // Else the runtime's own would be given away, a directory of the host among them.
    suite.case("no_verb_preserves_what_its_caller_has_not_open", |g| {
        let mut held = g.bundle();
        held.hold();
        let b = g.bundle();
        b.write();
        for count in ["1", "4294967295"] {
            let count = ["--preserve-fds", count];
            names(g, b.call("run", &count), "preserve")?;
            names(g, b.call("create", &count), "preserve")?;
            names(
                g,
                held.on(&["exec", count[0], count[1]], &["/bin/probe", "facts"]),
                "preserve",
            )?;
        }
        Ok(())
    });
    suite.case("sockets_of_systemd_that_are_not_open_are_refused", |g| {
        g.differs_from_runc("runc passes on what it has at these numbers")?;
        let b = g.bundle();
        b.write();
        let mut command = g
            .runtime
            .command_after("LISTEN_FDS=1 LISTEN_PID=$$ exec", ["run", "--bundle"]);
        command.arg(&b.dir).arg(&b.id);
        let output = rsrun_tests::cli::runtime::finish(command, &g.runtime.root);
        names(g, output, "LISTEN_FDS=1")
    });
}

fn paths(suite: &mut Suite) {
    suite.case(
        "a_pid_file_in_a_missing_directory_is_refused_and_nothing_runs",
        |g| {
            let b = g.bundle();
            b.write();
            names(
                g,
                b.call("run", &["--detach", "--pid-file", "/no/such/dir/pid"]),
                "/no/such/dir",
            )
        },
    );
    suite.case("an_exec_that_can_not_be_handed_over_is_ended", |g| {
        let mut b = g.bundle();
        b.hold();
        for options in [
            &["exec", "--pid-file", "/no/such/dir/pid"][..],
            &["exec", "--detach", "--pid-file", "/no/such/dir/pid"],
            &[
                "exec",
                "--detach",
                "--tty",
                "--console-socket",
                "/no/such/dir/socket",
            ],
        ] {
            names(g, b.on(options, &["/bin/sleep", "777"]), "/no/such/dir")?;
            let pids = b.on(&["ps", "--format", "json"], &[]).ok().stdout;
            assert!(!pids.contains(','), "{options:?}: {pids}");
        }
        Ok(())
    });
    suite.case("what_makes_no_container_makes_no_root", |g| {
        let b = g.bundle();
        b.write();
        let root = b.dir.join("no/such/root");
        for line in [
            &["list"][..],
            &["state", "x"],
            &["kill", "x"],
            &["delete", "--force", "x"],
            &["exec", "x", "true"],
        ] {
            let mut command = std::process::Command::new(&g.runtime.path);
            command.arg("--root").arg(&root).args(line);
            rsrun_tests::cli::runtime::finish(command, &g.runtime.root);
            assert!(!b.dir.join("no").exists(), "{line:?}");
        }
        Ok(())
    });
    suite.case("a_root_that_is_a_file_is_refused", |g| {
        let b = g.bundle();
        b.write();
        let file = b.dir.join("file");
        fs::write(&file, "").expect("a file");
        let mut command = std::process::Command::new(&g.runtime.path);
        command
            .arg("--root")
            .arg(&file)
            .args(["run", "--bundle"])
            .arg(&b.dir)
            .arg(&b.id);
        names(
            g,
            rsrun_tests::cli::runtime::finish(command, &g.runtime.root),
            &file.to_string_lossy(),
        )
    });
    suite.case("a_log_in_a_missing_directory_is_refused", |g| {
        names(
            g,
            g.runtime.call(["--log", "/no/such/dir/log", "list"]),
            "/no/such/dir/log",
        )
    });
    suite.case("a_console_socket_that_is_a_file_is_refused", |g| {
        let mut b = g.bundle();
        b.set("/process/terminal", true.into()).write();
        names(
            g,
            b.call("create", &["--console-socket", "/etc/passwd"]),
            "/etc/passwd",
        )
    });
    suite.case("a_console_socket_path_that_is_too_long_is_refused", |g| {
        let mut b = g.bundle();
        b.set("/process/terminal", true.into()).write();
        let long = format!("/{}", "x".repeat(300));
        names(
            g,
            b.call("create", &["--console-socket", &long]),
            "--console-socket",
        )
    });
    suite.case("resources_from_a_missing_file_are_refused", |g| {
        let mut b = g.bundle();
        b.hold();
        names(
            g,
            b.on(&["update", "--resources", "/no/such/file"], &[]),
            "/no/such/file",
        )
    });
    suite.case("documents_without_an_end_are_refused", |g| {
        g.differs_from_runc("more than 16 MiB is refused; runc reads on")?;
        let mut b = g.bundle();
        b.hold();
        for line in [
            ["exec", "--process", "/dev/zero"],
            ["update", "--resources", "/dev/zero"],
        ] {
            names(g, b.on(&line, &[]), "/dev/zero: it is larger than 16 MiB")?;
        }
        Ok(())
    });
    suite.case("a_process_file_that_is_no_json_is_refused", |g| {
        let mut b = g.bundle();
        b.hold();
        names(
            g,
            b.on(&["exec", "--process", "/etc/passwd"], &[]),
            "/etc/passwd",
        )
    });
}
