//! Does a seccomp profile do what each of its words says?
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::sockets::{answer, next_notice, receive_fd};
use rsrun_tests::cli::suite::{Suite, skip};
use serde_json::{Value, json};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// The profile that the default specs carry.
const DEFAULT: &str = include_str!("specs/seccomp.json");
const KILLED: i32 = 128 + 31;

pub(crate) fn cases(suite: &mut Suite) {
    actions(suite);
    operators(suite);
    architectures(suite);
    order(suite);
    words(suite);
    notify(suite);
}

/// Everything allowed but these rules.
fn rules(b: &mut Bundle<'_>, list: Value) {
    b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list}));
}

fn actions(suite: &mut Suite) {
    let errno: [(&str, Value, i64); 4] = [
        (
            "errno_without_a_number_is_eperm",
            json!({"action": "SCMP_ACT_ERRNO"}),
            -1,
        ),
        (
            "errno_with_a_number_gives_it",
            json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 71}),
            -71,
        ),
        (
            "errno_0_pretends_success",
            json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 0}),
            0,
        ),
        (
            "trace_without_a_tracer_is_enosys",
            json!({"action": "SCMP_ACT_TRACE"}),
            -38,
        ),
    ];
    for (name, mut rule, result) in errno {
        suite.case(format!("seccomp_{name}"), move |g| {
            let mut b = g.bundle();
            rule["names"] = json!(["mkdir", "mkdirat"]);
            rules(&mut b, json!([rule]));
            assert_eq!(b.probe(&["call", "83:@/tmp/made:0"]), json!([result]));
            assert!(!b.rootfs("/tmp/made").exists());
            Ok(())
        });
    }
    for action in [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_TRAP",
    ] {
        suite.case(
            format!(
                "seccomp_{}_ends_the_process_with_sigsys",
                action.to_lowercase()
            ),
            move |g| {
                let mut b = g.bundle();
                rules(&mut b, json!([{"names": ["mkdir"], "action": action}]));
                // The first process of a pid namespace is no exception, but the shell tells the signal as well.
                b.shell("/bin/probe call 83:@/tmp/made:0; exit $?");
                assert_eq!(b.run().code, KILLED);
                Ok(())
            },
        );
    }
    for action in ["SCMP_ACT_LOG", "SCMP_ACT_ALLOW"] {
        suite.case(format!("seccomp_{}_lets_the_call_through", action.to_lowercase()), move |g| {
            let mut b = g.bundle();
            b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["mkdir"], "action": action}, {"names": ["syslog"], "action": "SCMP_ACT_ERRNO"}]}));
            assert_eq!(b.probe(&["call", "83:@/tmp/made:0"]), json!([0]));
            Ok(())
        });
    }
    suite.case(
        "seccomp_default_errno_is_returned_for_what_no_rule_names",
        |g| {
            let mut b = g.bundle();
            let mut profile: Value = serde_json::from_str(DEFAULT).expect("a profile");
            profile["defaultErrnoRet"] = json!(61);
            b.set("/linux/seccomp", profile);
            assert_eq!(
                b.probe(&["call", "250:0:0:0", "165:0:0:0:0:0", "110"]),
                json!([-61, -61, 0])
            );
            Ok(())
        },
    );
    suite.case("seccomp_calls_newer_than_the_profile_look_unknown", |g| {
        let mut b = g.bundle();
        b.set(
            "/linux/seccomp",
            serde_json::from_str(DEFAULT).expect("a profile"),
        );
        // A libc tries the newest call first and falls back on ENOSYS alone.
        assert_eq!(b.probe(&["call", "900", "250:0:0:0"]), json!([-38, -1]));
        Ok(())
    });
}

fn operators(suite: &mut Suite) {
    // Which values of an argument are denied, of 4, 5, 6 and 13.
    let table: [(&str, Value, [bool; 4]); 7] = [
        (
            "SCMP_CMP_EQ",
            json!({"value": 5}),
            [false, true, false, false],
        ),
        (
            "SCMP_CMP_NE",
            json!({"value": 5}),
            [true, false, true, true],
        ),
        (
            "SCMP_CMP_LT",
            json!({"value": 5}),
            [true, false, false, false],
        ),
        (
            "SCMP_CMP_LE",
            json!({"value": 5}),
            [true, true, false, false],
        ),
        (
            "SCMP_CMP_GT",
            json!({"value": 5}),
            [false, false, true, true],
        ),
        (
            "SCMP_CMP_GE",
            json!({"value": 5}),
            [false, true, true, true],
        ),
        (
            "SCMP_CMP_MASKED_EQ",
            json!({"value": 7, "valueTwo": 5}),
            [false, true, false, true],
        ),
    ];
    for (op, mut arg, denied) in table {
        suite.case(format!("seccomp_operator_{}", op.to_lowercase()), move |g| {
            let mut b = g.bundle();
            arg["index"] = json!(1);
            arg["op"] = json!(op);
            rules(&mut b, json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71, "args": [arg]}]));
            let found = b.probe(&["call", "140:9:4", "140:9:5", "140:9:6", "140:9:13"]);
            // An unknown kind of process is EINVAL where the filter lets the call through.
            assert_eq!(found, json!(denied.map(|d| if d { -71 } else { -22 })));
            Ok(())
        });
    }
    suite.case("seccomp_conditions_on_different_arguments_must_all_hold", |g| {
        let mut b = g.bundle();
        rules(&mut b, json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71,
            "args": [{"index": 0, "value": 9, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]}]));
        assert_eq!(b.probe(&["call", "140:9:5", "140:9:6", "140:8:5"]), json!([-71, -22, -22]));
        Ok(())
    });
    suite.case("seccomp_conditions_on_one_argument_are_alternatives", |g| {
        let mut b = g.bundle();
        rules(&mut b, json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71,
            "args": [{"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]}]));
        assert_eq!(b.probe(&["call", "140:9:5", "140:9:6", "140:9:7"]), json!([-71, -22, -71]));
        Ok(())
    });
    suite.case("seccomp_compares_all_64_bits", |g| {
        let mut b = g.bundle();
        rules(
            &mut b,
            json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71,
            "args": [{"index": 5, "value": 0x1_0000_0005_u64, "op": "SCMP_CMP_EQ"}]}]),
        );
        let found = b.probe(&["call", "140:9:0:0:0:0:0x100000005", "140:9:0:0:0:0:5"]);
        assert_eq!(found, json!([-71, -22]));
        Ok(())
    });
}

fn architectures(suite: &mut Suite) {
    suite.case("seccomp_rules_hold_for_the_32_bit_entry_where_its_architecture_is_named", |g| {
        let mut b = g.bundle();
        b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]}));
        assert_eq!(b.probe(&["call", "135:0", "i386/136:0"]), json!([-71, -71]));
        Ok(())
    });
    suite.case(
        "seccomp_ends_a_process_that_uses_an_architecture_not_named",
        |g| {
            let mut b = g.bundle();
            rules(
                &mut b,
                json!([{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]),
            );
            b.shell("/bin/probe call i386/20; exit $?");
            assert_eq!(b.run().code, KILLED);
            Ok(())
        },
    );
    suite.case(
        "seccomp_without_architectures_holds_for_the_native_one",
        |g| {
            let mut b = g.bundle();
            b.set(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]}),
            );
            assert_eq!(b.probe(&["call", "135:0"]), json!([-71]));
            Ok(())
        },
    );
}

fn order(suite: &mut Suite) {
    for nnp in [true, false] {
        suite.case(
            format!(
                "seccomp_is_loaded_for_a_plain_user_{} no_new_privileges",
                if nnp { "with" } else { "without" }
            )
            .replace(' ', "_"),
            move |g| {
                let mut b = g.bundle();
                rules(
                    &mut b,
                    json!([{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]),
                );
                b.set("/process/noNewPrivileges", json!(nnp)).set(
                    "/process/user",
                    json!({"uid": 1000, "gid": 1000, "additionalGids": [7]}),
                );
                b.set("/process/capabilities", json!({}));
                let facts = b.facts();
                assert_eq!(
                    (facts.text("/status/Seccomp"), facts.number("/no_new_privs")),
                    ("2", i64::from(nnp))
                );
                assert_eq!(facts.text("/status/Seccomp_filters"), "1");
                assert_eq!(
                    (facts.status("Uid")[0], facts.status("Groups")),
                    ("1000", vec!["7"])
                );
                Ok(())
            },
        );
    }
    suite.case("seccomp_that_denies_the_setup_calls_still_starts_the_program", |g| {
        let mut b = g.bundle();
        rules(&mut b, json!([{"names": ["mount", "pivot_root", "setresuid", "setresgid", "setgroups", "chdir", "open", "openat2", "setrlimit",
            "prlimit64", "keyctl", "sethostname", "unshare", "setns", "close_range", "fchdir", "umask", "ioctl", "socket", "sendmsg", "connect"],
            "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]));
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        assert_eq!(b.probe(&["call", "95:0"]), json!([-71]));
        Ok(())
    });
    suite.case("seccomp_holds_for_an_exec_too", |g| {
        let mut b = g.bundle();
        rules(
            &mut b,
            json!([{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]),
        );
        b.hold();
        assert_eq!(
            b.on(&["exec"], &["/bin/probe", "call", "135:0"])
                .ok()
                .stdout
                .trim(),
            "[-71]"
        );
        Ok(())
    });
}

fn words(suite: &mut Suite) {
    suite.case("seccomp_passes_over_a_call_that_nobody_knows", |g| {
        let mut b = g.bundle();
        rules(&mut b, json!([{"names": ["call_of_tomorrow", "personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]));
        assert_eq!(b.probe(&["call", "135:0"]), json!([-71]));
        Ok(())
    });
    for flag in [
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    ] {
        suite.case(format!("seccomp_takes_{}", flag.to_lowercase()), move |g| {
            g.since_runc(1, 2, "flags of seccomp")?;
            let mut b = g.bundle();
            rules(
                &mut b,
                json!([{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]),
            );
            b.set("/linux/seccomp/flags", json!([flag]));
            assert_eq!(b.probe(&["call", "135:0"]), json!([-71]));
            Ok(())
        });
    }
    let bad: [(&str, &str, Value); 5] = [
        (
            "action",
            "/linux/seccomp/syscalls/0/action",
            json!("SCMP_ACT_WISH"),
        ),
        (
            "default_action",
            "/linux/seccomp/defaultAction",
            json!("SCMP_ACT_WISH"),
        ),
        (
            "architecture",
            "/linux/seccomp/architectures/0",
            json!("SCMP_ARCH_WISH"),
        ),
        (
            "flag",
            "/linux/seccomp/flags",
            json!(["SECCOMP_FILTER_FLAG_WISH"]),
        ),
        (
            "operator",
            "/linux/seccomp/syscalls/0/args",
            json!([{"index": 0, "value": 0, "op": "SCMP_CMP_WISH"}]),
        ),
    ];
    for (what, pointer, value) in bad {
        suite.case(format!("an_unknown_seccomp_{what}_is_refused"), move |g| {
            g.since_runc(1, 2, "flags of seccomp")?;
            let mut b = g.bundle();
            rules(
                &mut b,
                json!([{"names": ["personality"], "action": "SCMP_ACT_ERRNO"}]),
            );
            b.set(pointer, value);
            let said = b.refused();
            assert!(said.to_uppercase().contains("WISH"), "{said}");
            Ok(())
        });
    }
    suite.case("a_seccomp_argument_beyond_the_sixth_is_refused", |g| {
        let mut b = g.bundle();
        rules(&mut b, json!([{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]));
        b.refused();
        Ok(())
    });
}

fn notify(suite: &mut Suite) {
    suite.case(
        "a_seccomp_notice_reaches_the_agent_and_its_answer_the_process",
        |g| {
            let mut b = g.bundle();
            let path = b.dir.join("agent");
            rules(
                &mut b,
                json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]),
            );
            b.set("/linux/seccomp/listenerPath", json!(path)).set(
                "/linux/seccomp/listenerMetadata",
                json!("what the agent wants"),
            );
            let listener = UnixListener::bind(&path).expect("a socket");
            let agent = std::thread::spawn(move || {
                let (stream, _) = listener.accept().expect("the runtime connects");
                let (message, fd) = receive_fd(&stream).expect("a state with a descriptor");
                let mut answered = 0;
                while let Some(notice) = next_notice(fd.as_fd(), Duration::from_secs(60)) {
                    assert_eq!(i64::from(notice.nr), libc::SYS_mkdir);
                    answer(fd.as_fd(), notice, 77).expect("an answer");
                    answered += 1;
                }
                (message, answered)
            });
            b.args(&["/bin/probe", "call", "83:@/tmp/a:0", "83:@/tmp/b:0", "110"]);
            let out = b.run();
            // A runtime that never connects must not leave the agent waiting.
            if !agent.is_finished() && out.code != 0 {
                let _ = std::os::unix::net::UnixStream::connect(&path);
            }
            let printed = out.ok().stdout;
            let (message, answered) = agent.join().expect("the agent");
            assert_eq!((printed.trim(), answered), ("[-77,-77,0]", 2));
            let state: Value = serde_json::from_slice(&message).expect("the state of a process");
            assert_eq!(
                (&state["fds"], &state["metadata"]),
                (&json!(["seccompFd"]), &json!("what the agent wants"))
            );
            assert_eq!(state["state"]["id"], b.id.as_str());
            assert!(state["pid"].as_i64().is_some_and(|p| p > 1), "{state}");
            Ok(())
        },
    );
    suite.case("a_seccomp_notice_without_a_listener_is_refused", |g| {
        let mut b = g.bundle();
        rules(
            &mut b,
            json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]),
        );
        let said = b.refused();
        assert!(said.to_lowercase().contains("listener"), "{said}");
        Ok(())
    });
    suite.case("a_seccomp_listener_that_nobody_serves_is_refused", |g| {
        let mut b = g.bundle();
        rules(
            &mut b,
            json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]),
        );
        b.set("/linux/seccomp/listenerPath", json!("/no/such/agent"));
        let said = b.refused();
        if g.runtime.runc.is_some() {
            skip("rsrun differs: its words name the socket");
        }
        assert!(said.contains("/no/such/agent"), "{said}");
        Ok(())
    });
    suite.case("an_agent_that_takes_nothing_fails_create_in_time", |g| {
        g.differs_from_runc("it waits for ever")?;
        let mut b = g.bundle();
        let path = b.dir.join("agent");
        rules(
            &mut b,
            json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]),
        );
        b.set("/linux/seccomp/listenerPath", json!(path));
        // Who is connected fills it; nobody accepts.
        let listener = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .expect("a socket");
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).expect("a path")).expect("its place");
        listen(&listener, Backlog::new(0).expect("a backlog")).expect("a listener");
        let _first = std::os::unix::net::UnixStream::connect(&path).expect("the only one");
        let began = std::time::Instant::now();
        let said = b.refused();
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        assert!(said.contains("the agent took nothing"), "{said}");
        Ok(())
    });
}
