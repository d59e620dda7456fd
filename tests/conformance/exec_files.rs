//! What does an exec take from a process file, how does it end, and what is refused?
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::facts::Facts;
use rsrun_tests::cli::suite::Suite;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

pub(crate) fn cases(suite: &mut Suite) {
    process_files(suite);
    ends(suite);
    refused(suite);
}

fn with_process(
    b: &Bundle<'_>,
    process: &Value,
    options: &[&str],
) -> rsrun_tests::cli::runtime::Output {
    let file = b.dir.join("process.json");
    fs::write(&file, process.to_string()).expect("a process file");
    let path = file.to_string_lossy().into_owned();
    let verb: Vec<&str> = ["exec", "--process", &path]
        .iter()
        .chain(options)
        .copied()
        .collect();
    let out = b.on(&verb, &[]);
    fs::remove_file(file).expect("removed");
    out
}

fn process_files(suite: &mut Suite) {
    suite.case("exec_by_a_process_file_is_what_the_file_says", |g| {
        let mut b = g.bundle();
        b.set("/process/noNewPrivileges", json!(false)).hold();
        let process = json!({
            "user": {"uid": 9, "gid": 10, "additionalGids": [11]},
            "args": ["/bin/probe", "facts"], "env": ["PATH=/bin", "ONLY=this"], "cwd": "/etc",
            "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"],
                "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}],
            "noNewPrivileges": true
        });
        let facts = Facts::parse(&with_process(&b, &process, &[]).ok().stdout);
        assert_eq!((facts.status("Uid")[0], facts.status("Gid")[0], facts.status("Groups")), ("9", "10", vec!["11"]));
        assert_eq!((facts.text("/cwd"), facts.number("/no_new_privs")), ("/etc", 1));
        assert_eq!(facts.rlimit("NOFILE"), (33, 44));
        let env: Vec<String> = facts.list("/env").into_iter().filter(|v| !v.starts_with("HOME=")).collect();
        assert_eq!(env, ["ONLY=this", "PATH=/bin"]);
        for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(facts.capabilities(set), BTreeSet::from(["CAP_CHOWN"]), "{set}");
        }
        Ok(())
    });
    suite.case("exec_by_a_process_file_has_its_umask_and_oom_score", |g| {
        g.differs_from_runc("a process has what its own file says; runc takes umask and oomScoreAdj of the container")?;
        let mut b = g.bundle();
        b.hold();
        let process = json!({"user": {"uid": 0, "gid": 0, "umask": 63}, "args": ["/bin/probe", "facts"], "cwd": "/", "oomScoreAdj": 300});
        let facts = Facts::parse(&with_process(&b, &process, &[]).ok().stdout);
        assert_eq!((facts.number("/umask"), facts.text("/oom_score_adj")), (63, "300"));
        Ok(())
    });
    suite.case("exec_by_a_process_file_that_is_broken_is_refused", |g| {
        let mut b = g.bundle();
        b.hold();
        for process in [
            json!({}),
            json!({"args": [], "cwd": "/"}),
            json!({"args": ["/bin/true"], "cwd": ""}),
            json!([1]),
            json!({"args": "x", "cwd": "/"}),
        ] {
            let out = with_process(&b, &process, &[]);
            assert!(out.code != 0, "{process} was accepted");
        }
        b.on(&["exec", "--process", "/no/such/file"], &[]).refused();
        Ok(())
    });
}

fn ends(suite: &mut Suite) {
    suite.case("exec_gives_the_exit_code_or_the_signal", |g| {
        let mut b = g.bundle();
        b.hold();
        for (line, code) in [
            ("exit 0", 0),
            ("exit 42", 42),
            ("kill -KILL $$", 137),
            ("kill -TERM $$", 143),
        ] {
            assert_eq!(
                b.on(&["exec"], &["/bin/sh", "-c", line]).code,
                code,
                "{line}"
            );
        }
        Ok(())
    });
    suite.case("exec_carries_all_three_streams", |g| {
        let mut b = g.bundle();
        b.hold();
        let runtime = b.runtime();
        let input = b.dir.join("input");
        fs::write(&input, "typed\n").expect("a file");
        let mut command = runtime.command([
            "exec",
            &b.id,
            "/bin/sh",
            "-c",
            "read x; echo out $x; echo err $x >&2",
        ]);
        command.stdin(fs::File::open(&input).expect("the file"));
        let out = rsrun_tests::cli::runtime::finish(command, &runtime.root).ok();
        assert_eq!(
            (out.stdout.as_str(), out.stderr.as_str()),
            ("out typed\n", "err typed\n")
        );
        Ok(())
    });
    suite.case("fifty_execs_leave_nothing", |g| {
        let mut b = g.bundle();
        b.hold();
        for _ in 0..50 {
            b.on(&["exec"], &["/bin/true"]).ok();
        }
        assert_eq!(b.cgroup_file("cgroup.procs").lines().count(), 1);
        Ok(())
    });
}

fn refused(suite: &mut Suite) {
    suite.case("exec_of_a_missing_program_says_so_and_ends_with_255", |g| {
        let mut b = g.bundle();
        b.hold();
        let out = b.on(&["exec"], &["nowhere-to-be-found"]);
        assert_eq!(out.code, 255);
        let said = out.refused();
        assert!(
            said.contains("executable file not found in $PATH"),
            "{said}"
        );
        let said = b.on(&["exec"], &["/no/such/file"]).refused();
        assert!(said.contains("no such file or directory"), "{said}");
        Ok(())
    });
    suite.case("exec_without_a_command_is_refused", |g| {
        let mut b = g.bundle();
        b.hold();
        b.on(&["exec"], &[]).refused();
        Ok(())
    });
    suite.case("exec_with_a_bad_user_is_refused", |g| {
        let mut b = g.bundle();
        b.hold();
        // runc cuts numbers beyond 32 bits, which is how a user becomes root.
        let cut: &[&str] = if g.runtime.runc.is_some() {
            &[]
        } else {
            &["4294967296", "1:4294967296", "4294967295"]
        };
        for user in ["-1", "1:", "x", "1:y"].iter().chain(cut) {
            let out = b.on(&["exec", &format!("--user={user}")], &["/bin/true"]);
            assert!(out.code != 0, "{user} was accepted");
        }
        Ok(())
    });
    suite.case(
        "exec_with_a_working_directory_that_is_relative_is_refused",
        |g| {
            let mut b = g.bundle();
            b.hold();
            b.on(&["exec", "--cwd", "tmp"], &["/bin/true"]).refused();
            Ok(())
        },
    );
}
