//! Is an added process in the same container, with what its own flags or process file ask?
use nix::sys::signal::{Signal, kill};
use rsrun_tests::cli::bundle::wait_exit;
use rsrun_tests::cli::facts::{Facts, namespace_of};
use rsrun_tests::cli::suite::Suite;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub(crate) fn cases(suite: &mut Suite) {
    place(suite);
    flags(suite);
}

fn place(suite: &mut Suite) {
    suite.case("an_exec_is_in_every_namespace_of_the_init", |g| {
        let mut b = g.bundle();
        let pid = b.hold();
        let facts = b.exec_facts(&[]);
        for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup", "user", "time"] {
            assert_eq!(facts.ns(kind), namespace_of(pid, kind), "{kind}");
        }
        assert!(facts.list("/processes").contains("1"));
        Ok(())
    });
    suite.case(
        "an_exec_as_another_user_may_start_where_root_alone_may_go",
        |g| {
            let mut b = g.bundle();
            fs::create_dir(b.rootfs("/closed")).expect("a directory");
            fs::set_permissions(b.rootfs("/closed"), fs::Permissions::from_mode(0o700))
                .expect("a mode");
            // No right of the container overrides the mode.
            b.set("/process/capabilities", json!({}));
            b.hold();
            let facts = b.exec_facts(&["--user", "1000:1000", "--cwd", "/closed"]);
            assert_eq!(facts.text("/cwd"), "/closed");
            Ok(())
        },
    );
    suite.case("an_exec_is_in_the_cgroup_of_the_container", |g| {
        let mut b = g.bundle();
        b.hold();
        assert_eq!(
            b.exec_facts(&[]).text("/cgroup").rsplit('\n').next(),
            Some("0::/")
        );
        Ok(())
    });
    suite.case("an_exec_has_the_identity_of_the_spec", |g| {
        let mut b = g.bundle();
        b.set(
            "/process/user",
            json!({"uid": 1000, "gid": 1000, "additionalGids": [7]}),
        )
        .set("/process/cwd", json!("/tmp"));
        b.set(
            "/process/env",
            json!(["PATH=/bin", "FROM=spec", "HOME=/tmp"]),
        )
        .set("/process/oomScoreAdj", json!(600));
        b.set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]),
        );
        b.hold();
        let facts = b.exec_facts(&[]);
        assert_eq!(
            (
                facts.status("Uid")[0],
                facts.status("Gid")[0],
                facts.status("Groups")
            ),
            ("1000", "1000", vec!["7"])
        );
        assert_eq!(
            (
                facts.text("/cwd"),
                facts.text("/oom_score_adj"),
                facts.number("/no_new_privs")
            ),
            ("/tmp", "600", 1)
        );
        assert_eq!(facts.rlimit("NOFILE"), (100, 200));
        assert!(facts.list("/env").contains("FROM=spec"));
        assert_eq!(
            facts.capabilities("CapBnd"),
            BTreeSet::from(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"])
        );
        Ok(())
    });
    suite.case("an_exec_has_no_descriptor_but_its_streams", |g| {
        let mut b = g.bundle();
        b.hold();
        let fds = b
            .exec_facts(&[])
            .at("/fds")
            .as_object()
            .expect("a map")
            .clone();
        assert!(
            fds.keys()
                .all(|fd| ["0", "1", "2", "3"].contains(&fd.as_str())),
            "{fds:?}"
        );
        Ok(())
    });
    suite.case("an_exec_has_the_session_keyring_of_the_container", |g| {
        let mut b = g.bundle();
        b.hold();
        let description = b.exec_facts(&[]).text("/keyring/description").to_string();
        assert!(
            description.ends_with(&format!("_ses.{}", b.id)),
            "{description}"
        );
        Ok(())
    });
    suite.case(
        "an_exec_uses_the_spec_of_create_and_not_a_changed_file",
        |g| {
            let mut b = g.bundle();
            b.hold();
            b.set("/process/noNewPrivileges", json!(false))
                .set("/process/env", json!(["PATH=/bin", "FROM=change"]));
            b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ERRNO"}))
                .write();
            let seccomp = b.exec_facts(&[]).text("/status/Seccomp").to_string();
            assert_eq!(seccomp, "0");
            Ok(())
        },
    );
    suite.case("an_exec_falls_back_where_the_container_made_cgroups_below", |g| {
        g.needs("pids")?;
        let mut b = g.bundle();
        b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
        b.shell("cd /sys/fs/cgroup && mkdir init && echo 1 > init/cgroup.procs && echo +pids > cgroup.subtree_control; touch /tmp/ready; exec sleep 1000");
        b.detach();
        until(&b.rootfs("/tmp/ready"));
        assert_eq!(b.exec_facts(&[]).text("/cgroup").rsplit('\n').next(), Some("0::/init"));
        Ok(())
    });
    suite.case("an_exec_enters_a_container_that_is_created_only", |g| {
        let mut b = g.bundle();
        b.args(&["/bin/probe", "hold"]).write();
        b.call("create", &[]).ok();
        assert_eq!(b.exec_facts(&[]).text("/uname/nodename"), "inside");
        Ok(())
    });
}

fn until(path: &std::path::Path) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !path.exists() {
        assert!(
            std::time::Instant::now() < deadline,
            "no {} after 20 s",
            path.display()
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn flags(suite: &mut Suite) {
    suite.case("exec_flags_change_user_groups_cwd_and_env", |g| {
        let mut b = g.bundle();
        b.hold();
        let facts = b.exec_facts(&[
            "--user",
            "5:6",
            "--additional-gids",
            "7",
            "--additional-gids",
            "8",
            "--cwd",
            "/tmp",
            "--env",
            "A=1",
            "--env",
            "B=two words",
        ]);
        assert_eq!(
            (
                facts.status("Uid")[0],
                facts.status("Gid")[0],
                facts.status("Groups")
            ),
            ("5", "6", vec!["7", "8"])
        );
        let env = facts.list("/env");
        assert!(
            facts.text("/cwd") == "/tmp" && env.contains("A=1") && env.contains("B=two words"),
            "{env:?}"
        );
        Ok(())
    });
    suite.case("exec_user_without_a_group_has_the_spec_s_or_0", |g| {
        let mut b = g.bundle();
        b.hold();
        let facts = b.exec_facts(&["--user", "5"]);
        assert_eq!((facts.status("Uid")[0], facts.status("Gid")[0]), ("5", "0"));
        Ok(())
    });
    suite.case("exec_capabilities_are_added", |g| {
        let mut b = g.bundle();
        b.set("/process/noNewPrivileges", json!(false)).hold();
        let facts = b.exec_facts(&["--cap", "CAP_CHOWN", "--cap", "CAP_FOWNER"]);
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            let found = facts.capabilities(set);
            assert!(
                found.contains("CAP_CHOWN")
                    && found.contains("CAP_FOWNER")
                    && found.contains("CAP_KILL"),
                "{set}: {found:?}"
            );
        }
        Ok(())
    });
    suite.case("exec_no_new_privileges_is_set_by_its_flag", |g| {
        let mut b = g.bundle();
        b.set("/process/noNewPrivileges", json!(false)).hold();
        assert_eq!(b.exec_facts(&[]).number("/no_new_privs"), 0);
        assert_eq!(b.exec_facts(&["--no-new-privs"]).number("/no_new_privs"), 1);
        Ok(())
    });
    suite.case("exec_preserve_fds_hands_on_that_many", |g| {
        let mut b = g.bundle();
        b.hold();
        let runtime = b.runtime();
        let command = runtime.command_after(
            "exec 3</etc/passwd 4</etc/group; exec",
            ["exec", "--preserve-fds", "1", &b.id, "/bin/probe", "facts"],
        );
        let facts = Facts::parse(
            &rsrun_tests::cli::runtime::finish(command, &runtime.root)
                .ok()
                .stdout,
        );
        let fds = facts.at("/fds");
        assert_eq!(
            (&fds["3"], fds.as_object().map(serde_json::Map::len)),
            (&json!("/etc/passwd"), Some(5)),
            "{fds}"
        );
        Ok(())
    });
    suite.case("exec_of_a_file_that_is_no_program_says_so", |g| {
        let mut b = g.bundle();
        let file = b.rootfs("/bin/text");
        fs::write(&file, "no program\n").expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its mode");
        b.hold();
        let words = b.on(&["exec"], &["/bin/text"]).refused();
        assert!(words.contains("exec format error"), "{words}");
        Ok(())
    });
    suite.case("exec_into_a_cgroup_below_places_it_there", |g| {
        let mut b = g.bundle();
        b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"])
            .hold();
        fs::create_dir(b.cgroup("below")).expect("a cgroup");
        assert!(
            b.exec_facts(&["--cgroup", "below"])
                .text("/cgroup")
                .ends_with("0::/below")
        );
        Ok(())
    });
    suite.case("exec_into_a_cgroup_outside_is_refused", |g| {
        let mut b = g.bundle();
        b.hold();
        for path in ["..", "../other", "/../..", "not-there"] {
            b.on(&["exec", "--cgroup", path], &["/bin/true"]).refused();
        }
        Ok(())
    });
    suite.case("exec_detached_gives_the_pid_and_leaves", |g| {
        let mut b = g.bundle();
        b.hold();
        let file = b.dir.join("exec-pid");
        b.on(
            &["exec", "--detach", "--pid-file", &file.to_string_lossy()],
            &["/bin/sleep", "1000"],
        )
        .ok();
        let pid = fs::read_to_string(&file)
            .expect("a pid file")
            .parse()
            .expect("a pid");
        fs::remove_file(file).expect("removed");
        let pid = nix::unistd::Pid::from_raw(pid);
        let name = || fs::read_to_string(format!("/proc/{pid}/comm")).expect("a name");
        // runc answers before execve; and the kernel closes descriptors, which is the answer, before it
        // changes the name.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while name() != "sleep\n" && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(name(), "sleep\n");
        kill(pid, Signal::SIGTERM).expect("a signal");
        assert_eq!(wait_exit(pid), 143);
        Ok(())
    });
}
