//! What is executed, where, with which environment and streams, and how does its end come back?
use rsrun_tests::cli::suite::Suite;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

pub(crate) fn cases(suite: &mut Suite) {
    lookup(suite);
    directory(suite);
    environment(suite);
    streams(suite);
}

fn executable(path: &std::path::Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, text).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

fn lookup(suite: &mut Suite) {
    suite.case("args_arrive_as_they_are_written", |g| {
        let mut b = g.bundle();
        let odd = [
            "/bin/probe",
            "facts",
            "two words",
            "",
            "$HOME",
            "ä\u{20ac}",
            "--",
            "-x=\"y\"\n",
        ];
        b.args(&odd);
        let facts = rsrun_tests::cli::facts::Facts::parse(&b.printed());
        assert_eq!(facts.at("/args"), &json!(odd));
        Ok(())
    });
    suite.case(
        "a_bare_name_is_looked_up_in_the_path_of_the_container",
        |g| {
            let mut b = g.bundle();
            executable(&b.rootfs("/opt/first/tool"), "#!/bin/sh\necho first\n");
            executable(&b.rootfs("/opt/second/tool"), "#!/bin/sh\necho second\n");
            b.args(&["tool"]).set(
                "/process/env",
                json!(["PATH=/nowhere:/opt/second:/opt/first:/bin"]),
            );
            assert_eq!(b.printed(), "second");
            Ok(())
        },
    );
    suite.case("the_lookup_passes_over_what_cannot_be_executed", |g| {
        let mut b = g.bundle();
        fs::create_dir_all(b.rootfs("/opt/a/tool")).expect("a directory in the way");
        fs::create_dir_all(b.rootfs("/opt/b")).expect("a directory");
        fs::write(b.rootfs("/opt/b/tool"), "#!/bin/sh\necho no\n").expect("a file without x");
        executable(&b.rootfs("/opt/c/tool"), "#!/bin/sh\necho yes\n");
        b.args(&["tool"])
            .set("/process/env", json!(["PATH=/opt/a:/opt/b:/opt/c:/bin"]));
        assert_eq!(b.printed(), "yes");
        Ok(())
    });
    suite.case("the_lookup_never_looks_on_the_host", |g| {
        let mut b = g.bundle();
        b.args(&["unshare", "--version"])
            .set("/process/env", json!(["PATH=/usr/sbin:/usr/bin"]));
        let words = b.refused();
        assert!(
            words.contains("executable file not found in $PATH"),
            "{words}"
        );
        Ok(())
    });
    suite.case(
        "a_path_with_a_slash_is_relative_to_the_working_directory",
        |g| {
            let mut b = g.bundle();
            executable(&b.rootfs("/opt/tool"), "#!/bin/sh\necho here\n");
            b.args(&["./tool"]).set("/process/cwd", json!("/opt"));
            assert_eq!(b.printed(), "here");
            Ok(())
        },
    );
    suite.case("a_link_to_the_executable_is_followed_inside", |g| {
        let mut b = g.bundle();
        symlink("/bin/echo", b.rootfs("/tmp/say")).expect("a link");
        b.args(&["/tmp/echo", "said"]);
        fs::rename(b.rootfs("/tmp/say"), b.rootfs("/tmp/echo")).expect("a name that busybox knows");
        assert_eq!(b.printed(), "said");
        Ok(())
    });
    suite.case(
        "a_missing_bare_name_fails_create_with_the_known_words",
        |g| {
            let mut b = g.bundle();
            b.args(&["nowhere-to-be-found"]);
            b.write();
            let words = b.call("create", &[]).refused();
            assert!(
                words.contains(
                    r#"exec: \"nowhere-to-be-found\": executable file not found in $PATH"#
                ) || words
                    .contains(r#"exec: "nowhere-to-be-found": executable file not found in $PATH"#),
                "{words}"
            );
            Ok(())
        },
    );
    suite.case("a_missing_path_fails_create_with_the_known_words", |g| {
        let mut b = g.bundle();
        b.args(&["/opt/missing"]);
        b.write();
        let words = b.call("create", &[]).refused();
        assert!(
            words.contains("/opt/missing") && words.contains("no such file or directory"),
            "{words}"
        );
        Ok(())
    });
    suite.case("a_file_without_the_executable_bit_fails_create", |g| {
        let mut b = g.bundle();
        fs::write(b.rootfs("/opt"), "not for execution").expect("a file");
        b.args(&["/opt"]);
        b.write();
        let words = b.call("create", &[]).refused();
        assert!(words.contains("permission denied"), "{words}");
        Ok(())
    });
    suite.case("a_directory_as_executable_fails", |g| {
        let mut b = g.bundle();
        b.args(&["/tmp"]);
        let words = b.refused();
        assert!(
            words.contains("permission denied") || words.contains("is a directory"),
            "{words}"
        );
        Ok(())
    });
    suite.case(
        "a_text_without_an_interpreter_line_fails_with_exec_format_error",
        |g| {
            let mut b = g.bundle();
            executable(&b.rootfs("/opt/tool"), "echo never\n");
            b.args(&["/opt/tool"]);
            let words = b.refused();
            assert!(
                words.to_lowercase().contains("exec format error"),
                "{words}"
            );
            Ok(())
        },
    );
    suite.case("a_script_whose_interpreter_is_missing_fails", |g| {
        let mut b = g.bundle();
        executable(&b.rootfs("/opt/tool"), "#!/bin/nowhere\n");
        b.args(&["/opt/tool"]);
        assert!(b.refused().contains("no such file or directory"));
        Ok(())
    });
}

fn directory(suite: &mut Suite) {
    suite.case("a_missing_working_directory_is_made", |g| {
        let mut b = g.bundle();
        b.set("/process/cwd", json!("/var/lib/app"));
        assert_eq!(b.facts().text("/cwd"), "/var/lib/app");
        let mode = fs::metadata(b.rootfs("/var/lib/app"))
            .expect("made in the root")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o755);
        Ok(())
    });
    suite.case("a_working_directory_behind_a_link_stays_inside", |g| {
        let mut b = g.bundle();
        symlink("/../../../../tmp", b.rootfs("/way")).expect("a link");
        b.set("/process/cwd", json!("/way"));
        assert_eq!(b.facts().text("/cwd"), "/tmp");
        Ok(())
    });
    suite.case("a_working_directory_that_is_a_file_fails", |g| {
        let mut b = g.bundle();
        b.set("/process/cwd", json!("/etc/passwd"));
        let words = b.refused();
        assert!(words.contains("not a directory"), "{words}");
        Ok(())
    });
    suite.case(
        "a_working_directory_closed_to_the_user_is_entered_while_still_root",
        |g| {
            let mut b = g.bundle();
            fs::create_dir(b.rootfs("/closed")).expect("a directory");
            fs::set_permissions(b.rootfs("/closed"), fs::Permissions::from_mode(0o700))
                .expect("a mode");
            b.set("/process/cwd", json!("/closed"))
                .set("/process/user", json!({"uid": 1000, "gid": 1000}));
            assert_eq!(b.facts().text("/cwd"), "/closed");
            Ok(())
        },
    );
    suite.case("a_working_directory_owned_by_the_user_is_entered", |g| {
        let mut b = g.bundle();
        fs::create_dir(b.rootfs("/own")).expect("a directory");
        std::os::unix::fs::chown(b.rootfs("/own"), Some(1000), Some(1000)).expect("an owner");
        fs::set_permissions(b.rootfs("/own"), fs::Permissions::from_mode(0o700)).expect("a mode");
        b.set("/process/cwd", json!("/own"))
            .set("/process/user", json!({"uid": 1000, "gid": 1000}));
        // Neither the override nor root: only the user itself may enter it.
        b.set("/process/capabilities", json!({}));
        assert_eq!(b.facts().text("/cwd"), "/own");
        Ok(())
    });
}

fn environment(suite: &mut Suite) {
    suite.case("the_environment_is_the_spec_s_alone", |g| {
        let mut b = g.bundle();
        let env = [
            "PATH=/bin",
            "HOME=/somewhere",
            "EMPTY=",
            "EQUALS=a=b=c",
            "UNICODE=ä",
        ];
        b.set("/process/env", json!(env));
        let wanted = env.iter().map(|e| (*e).to_string()).collect();
        assert_eq!(b.facts().list("/env"), wanted);
        Ok(())
    });
    suite.case(
        "home_is_taken_from_the_container_s_passwd_where_it_is_missing",
        |g| {
            let mut b = g.bundle();
            b.set("/process/env", json!(["PATH=/bin"]))
                .set("/process/user", json!({"uid": 1000, "gid": 1000}));
            assert!(
                b.facts().list("/env").contains("HOME=/tmp"),
                "{:?}",
                b.facts().list("/env")
            );
            Ok(())
        },
    );
    suite.case(
        "home_is_the_root_for_a_user_that_passwd_does_not_know",
        |g| {
            let mut b = g.bundle();
            b.set("/process/env", json!(["PATH=/bin"]))
                .set("/process/user", json!({"uid": 4711, "gid": 4711}));
            assert!(b.facts().list("/env").contains("HOME=/"));
            Ok(())
        },
    );
    suite.case("the_last_of_two_values_of_a_variable_holds", |g| {
        g.since_runc(1, 3, "one value per variable")?;
        let mut b = g.bundle();
        b.set(
            "/process/env",
            json!(["PATH=/bin", "HOME=/", "TWICE=first", "TWICE=second"]),
        );
        let env = b.facts().list("/env");
        assert!(
            env.contains("TWICE=second") && !env.contains("TWICE=first"),
            "{env:?}"
        );
        Ok(())
    });
    suite.case("a_large_environment_arrives_whole", |g| {
        let mut b = g.bundle();
        let large = format!("LARGE={}", "x".repeat(100_000));
        b.set("/process/env", json!(["PATH=/bin", "HOME=/", large]));
        assert!(b.facts().list("/env").contains(&large));
        Ok(())
    });
}

fn streams(suite: &mut Suite) {
    suite.case("stdin_reaches_the_container", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/cat"]);
        b.write();
        let input = b.dir.join("input");
        fs::write(&input, "through stdin\n").expect("a file");
        let mut command = b.runtime().command(["run", "--bundle"]);
        command
            .arg(&b.dir)
            .arg(&b.id)
            .stdin(fs::File::open(&input).expect("the file"));
        let out = rsrun_tests::cli::runtime::finish(command, &b.runtime().root).ok();
        assert_eq!(out.stdout, "through stdin\n");
        Ok(())
    });
    suite.case("stdin_through_a_pipe_ends_when_the_writer_goes", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/cat"]);
        b.write();
        let mut command = b.runtime().command(["run", "--bundle"]);
        let out = fs::File::create(b.dir.join("out")).expect("a file");
        command
            .arg(&b.dir)
            .arg(&b.id)
            .stdin(Stdio::piped())
            .stdout(out);
        let mut child = command.spawn().expect("the runtime starts");
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(&b"line\n".repeat(20_000))
            .expect("a writable pipe");
        let code =
            rsrun_tests::cli::runtime::wait_at_most(child, std::time::Duration::from_secs(60));
        assert_eq!(code, Some(0));
        assert_eq!(
            fs::metadata(b.dir.join("out")).expect("output").len(),
            100_000
        );
        Ok(())
    });
    suite.case("stdout_and_stderr_are_apart", |g| {
        let mut b = g.bundle();
        b.shell("echo out; echo err >&2");
        let out = b.run().ok();
        assert_eq!(
            (out.stdout.as_str(), out.stderr.as_str()),
            ("out\n", "err\n")
        );
        Ok(())
    });
    suite.case("the_exit_code_comes_back", |g| {
        for code in [1, 42, 127, 255] {
            let mut b = g.bundle();
            b.shell(&format!("exit {code}"));
            assert_eq!(b.run().code, code);
        }
        Ok(())
    });
    suite.case(
        "the_end_by_a_signal_comes_back_as_128_and_its_number",
        |g| {
            for (signal, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11)] {
                let mut b = g.bundle();
                // A pid 1 takes no signal of its own namespace, so it shares the host's.
                b.namespaces(&["mount", "uts", "ipc", "network", "cgroup"]);
                b.shell(&format!("kill -{signal} $$"));
                assert_eq!(b.run().code, 128 + number, "{signal}");
            }
            Ok(())
        },
    );
}
