//! B09, C06, C08, C11: a config.json that is too long, malformed, or asks for what there is not.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::runtime::finish;
use rsrun_tests::containment::scene::stopped;
use rsrun_tests::containment::suite::Attacks;
use serde_json::json;

pub(crate) fn families(all: &mut Attacks) {
    b09_sizes(all.family("b09"));
    c06_annotations(all.family("c06"));
    c08_filters(all.family("c08"));
    c11_malformed(all.family("c11"));
}

/// CVE-2021-43784: lengths that do not fit where they are written.
fn b09_sizes(all: &mut Attacks) {
    type Size = (&'static str, fn(&mut Bundle<'_>));
    const SIZES: [Size; 7] = [
        ("an_argument_of_70_kb", |b| {
            b.set("/process/args/-", json!("x".repeat(70_000)));
        }),
        ("an_argument_of_200_kb", |b| {
            b.set("/process/args/-", json!("x".repeat(200_000)));
        }),
        ("an_environment_of_4_mb", |b| {
            b.set(
                "/process/env",
                json!(vec![format!("A={}", "x".repeat(65_000)); 64]),
            );
        }),
        ("70_000_variables", |b| {
            b.set("/process/env", json!(vec!["A=1"; 70_000]));
        }),
        ("an_option_of_70_kb", |b| {
            b.mount(
                "/m",
                "tmpfs",
                "tmpfs",
                &[&format!("mode={}", "1".repeat(70_000))],
            );
        }),
        ("a_destination_of_70_kb", |b| {
            b.mount(&"/m".repeat(35_000), "tmpfs", "tmpfs", &[]);
        }),
        ("a_hostname_of_70_kb", |b| {
            b.set("/hostname", json!("h".repeat(70_000)));
        }),
    ];
    for (what, size) in SIZES {
        all.contained(what, move |s| {
            let mut b = s.bundle();
            size(&mut b);
            let out = stopped(b.run());
            // What is too long is named, and once.
            assert!(
                out.stderr.len() < 80_000,
                "{} bytes of words",
                out.stderr.len()
            );
            Ok(())
        });
    }
    all.contained("341_ranges_of_ids", |s| {
        let mut b = s.bundle();
        let ranges: Vec<(u32, u32, u32)> = (0..341).map(|n| (n, 100_000 + n * 2, 1)).collect();
        b.user_namespace(&ranges);
        b.refused();
        Ok(())
    });
}

/// CVE-2024-3154: annotations reach systemd.
fn c06_annotations(all: &mut Attacks) {
    for name in ["ExecStartPre", "BindPaths", "RootDirectory", "User"] {
        all.contained(format!("a_property_{name}_in_an_annotation"), move |s| {
            let mut b = s.bundle();
            let key = format!("org.systemd.property.{name}");
            b.set("/annotations", json!({key: "['/bin/touch /srv/canary/made']", "run.oci.hooks.stderr": "/srv/canary/made"}));
            let out = stopped(b.args(&["/bin/true"]).run());
            assert!(out.code == 0 || out.stderr.contains(name), "{}", out.stderr);
            Ok(())
        });
    }
}

/// Filters with holes: other entries, unknown words, an agent that is gone.
fn c08_filters(all: &mut Attacks) {
    let profile = |action: &str, names: &[&str]| json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"names": names, "action": action}]});
    // 39 is mkdir of i386, 83 of x86_64; x32 has a bit of its own. Killed is 159.
    for (what, call) in [
        ("i386", "i386/39:0:0"),
        ("x32", "0x40000053:@/tmp/made:0"),
        ("its_own", "83:@/tmp/made:0"),
    ] {
        let profile = profile("SCMP_ACT_ERRNO", &["mkdir", "mkdirat"]);
        all.contained(format!("a_denied_call_by_the_{what}_entry"), move |s| {
            let mut b = s.bundle();
            b.set("/linux/seccomp", profile.clone())
                .args(&["/bin/probe", "call", call]);
            let out = stopped(b.run());
            assert!(
                out.code == 159 || out.stdout.contains('-'),
                "{}",
                out.stdout
            );
            assert!(!b.rootfs("/tmp/made").exists());
            Ok(())
        });
    }
    for (what, pointer, value) in [
        (
            "an_unknown_action",
            "/syscalls/0/action",
            json!("SCMP_ACT_PERHAPS"),
        ),
        (
            "an_unknown_default",
            "/defaultAction",
            json!("SCMP_ACT_PERHAPS"),
        ),
        (
            "an_unknown_architecture",
            "/architectures",
            json!(["SCMP_ARCH_ENIAC"]),
        ),
        (
            "an_unknown_operator",
            "/syscalls/0/args",
            json!([{"index": 0, "value": 1, "op": "SCMP_CMP_ODD"}]),
        ),
        (
            "an_argument_7",
            "/syscalls/0/args",
            json!([{"index": 7, "value": 1, "op": "SCMP_CMP_EQ"}]),
        ),
        (
            "an_unknown_flag",
            "/flags",
            json!(["SECCOMP_FILTER_FLAG_PERHAPS"]),
        ),
        (
            "notify_without_an_agent",
            "/syscalls/0/action",
            json!("SCMP_ACT_NOTIFY"),
        ),
        (
            "an_agent_that_is_gone",
            "/listenerPath",
            json!("/run/no-such-agent"),
        ),
    ] {
        let mut profile = profile("SCMP_ACT_ERRNO", &["mkdir"]);
        all.contained(format!("{what}_is_refused"), move |s| {
            if what == "an_agent_that_is_gone" {
                profile["syscalls"][0]["action"] = json!("SCMP_ACT_NOTIFY");
            }
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
            profile.pointer_mut(parent).expect("a place")[name] = value.clone();
            let mut b = s.bundle();
            b.set("/linux/seccomp", profile);
            b.refused();
            Ok(())
        });
    }
    all.contained("a_call_newer_than_the_profile_is_unknown_not_denied", |s| {
        let mut b = s.bundle();
        let allowed = json!([{"names": ["read", "write", "openat", "close", "execve", "exit_group", "mmap", "brk", "arch_prctl", "prctl", "capset", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlink", "readlinkat", "getrandom", "mprotect", "munmap", "sigaltstack", "rt_sigaction", "rt_sigprocmask", "poll", "futex", "fstat", "newfstatat", "sched_getaffinity", "gettid", "getpid", "exit"], "action": "SCMP_ACT_ALLOW"}]);
        b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": allowed}));
        assert_eq!(b.probe(&["call", "83:@/tmp/x:0", "900:0"]), json!([-1, -38]));
        Ok(())
    });
}

/// runc 2392, 3727: a parser falls over.
fn c11_malformed(all: &mut Attacks) {
    type Text = (&'static str, fn(&Bundle<'_>) -> Vec<u8>);
    const TEXTS: [Text; 8] = [
        ("deep_lists", |_| {
            [b"[".repeat(10_000), b"]".repeat(10_000)].concat()
        }),
        ("deep_objects", |_| {
            [
                b"{\"linux\":".repeat(5_000),
                b"1".to_vec(),
                b"}".repeat(5_000),
            ]
            .concat()
        }),
        ("17_mb", |_| {
            [
                b"{\"hostname\":\"".to_vec(),
                b"x".repeat(17 << 20),
                b"\"}".to_vec(),
            ]
            .concat()
        }),
        ("a_name_twice", |b| {
            let text = b.spec.to_string();
            format!("{},\"root\":{{\"path\":\"/\"}}}}", &text[..text.len() - 1]).into_bytes()
        }),
        ("bad_utf_8", |_| b"{\"ociVersion\":\"1.0\xff\"}".to_vec()),
        ("a_lone_surrogate", |_| {
            br#"{"ociVersion":"\ud800"}"#.to_vec()
        }),
        ("a_number_of_400_digits", |_| {
            [
                b"{\"process\":{\"user\":{\"uid\":".to_vec(),
                b"9".repeat(400),
                b"}}}".to_vec(),
            ]
            .concat()
        }),
        ("half_of_it", |b| {
            let text = b.spec.to_string().into_bytes();
            text[..text.len() / 2].to_vec()
        }),
    ];
    for (what, text) in TEXTS {
        all.contained(format!("a_config_of_{what}"), move |s| {
            let b = s.bundle();
            fs::write(b.dir.join("config.json"), text(&b)).expect("a file");
            // 64 MiB and no more: ulimit counts address space, so it gets some for the program itself.
            let mut command = Command::new("sh");
            command
                .args(["-c", "ulimit -d 65536; exec \"$0\" \"$@\""])
                .arg(&b.runtime().path)
                .arg("--root");
            command
                .arg(&b.runtime().root)
                .args(["run", "--bundle"])
                .arg(&b.dir)
                .arg(&b.id);
            let out = finish(command, &b.runtime().root);
            assert!(out.took < Duration::from_secs(8), "{:?}", out.took);
            let said = out.refused();
            assert!(said.len() < 4096, "{said:.300}");
            Ok(())
        });
    }
}
