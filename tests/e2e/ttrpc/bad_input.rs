//! Requests and bundles that are wrong: an error that names the place, and nothing left.

use containerd_shim_protos::api;
use rsrun_tests::by_hand::ByHand;
use rsrun_tests::suite::{Case, Check, fail};
use rsrun_tests::task::{INIT, Streams, Task};
use rsrun_tests::ttrpc::{Answer, PATIENCE, Refusal};
use serde_json::{Value, json};
use ttrpc::Code;

use crate::frames::keeper;

pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        60 s: bad_ids_are_refused, bad_bundles_are_refused_with_the_place,
            bad_mounts_are_refused_and_undone,
            what_create_can_not_do_is_a_failed_precondition, bad_execs_are_refused, bad_updates_are_refused;
    ]
}

/// The answer must be an error of the caller's making, soon, and leave no trace.
fn must_refuse(s: &ByHand, what: &str, id: &str, answer: Answer<()>) -> Check {
    match answer {
        Err(Refusal::Status(code, text)) => {
            if code == Code::INTERNAL || text.contains("panicked") || text.is_empty() {
                return fail(format!("{what}: {code:?}: {text}"));
            }
            s.nothing_remains(id)
        }
        Err(other) => fail(format!("{what}: {other} (patience is {PATIENCE:?})")),
        Ok(()) => fail(format!("{what} was accepted")),
    }
}

fn bad_ids_are_refused(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return rsrun_tests::suite::skip("differs from runc: its shim leaves ids to containerd");
    }
    let task = keeper(s)?;
    let long = "a".repeat(1000);
    for bad in [
        "",
        ".",
        "..",
        "../up",
        "a/b",
        "/abs",
        "a\0b",
        "a b",
        "a..b/",
        long.as_str(),
        "ä",
        "%s%n",
    ] {
        let other = Task {
            id: bad.into(),
            ..task.clone()
        };
        let answer = other.create(&s.rootfs(), &Streams::default()).map(drop);
        let refused = answer
            .as_ref()
            .is_err_and(|r| r.code() == Some(Code::INVALID_ARGUMENT));
        assert!(refused, "{bad:?}: {answer:?}");
        if !bad.is_empty() {
            let answer = task.exec(bad, &["true"], &Streams::default());
            let refused = answer
                .as_ref()
                .is_err_and(|r| r.code() == Some(Code::INVALID_ARGUMENT));
            assert!(refused, "exec {bad:?}: {answer:?}");
        }
    }
    task.status(INIT)?;
    Ok(())
}

fn bad_bundles_are_refused_with_the_place(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return rsrun_tests::suite::skip(
            "differs from runc: its words and what it lets pass are its own",
        );
    }
    let keeper = keeper(s)?;
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = format!(
        "{{\"ociVersion\": \"1.0.2\", \"annotations\": {{\"a\": \"{}\"}}}}",
        "x".repeat(17 << 20)
    );
    // What is written, and a word of it that the error must have.
    let raw: [(&str, &str, &str); 6] = [
        ("empty", "", "config.json"),
        ("cut", "{\"ociVersion\": \"1.0.2\", ", "config.json"),
        ("list", "[]", "config.json"),
        ("binary", "\u{1}\u{2}", "config.json"),
        ("nested", &nested, "config.json"),
        ("huge", &huge, "config.json"),
    ];
    for (name, text, word) in raw {
        s.prepare(name, &json!({}))?;
        std::fs::write(s.bundle(name).join("config.json"), text)?;
        let task = s.task_on(keeper.client.clone(), name);
        let answer = task.create(&s.rootfs(), &Streams::default()).map(drop);
        let said = answer
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            said.contains(word) && said.len() < 4000,
            "{name}: {said:.300}"
        );
        must_refuse(s, name, name, answer)?;
    }
    let changes: [(&str, &str, Value, &str); 12] = [
        ("args-type", "/process/args", json!("sh"), "args"),
        ("args-empty", "/process/args", json!([]), "args"),
        ("cwd", "/process/cwd", json!("relative"), "cwd"),
        ("env-nul", "/process/env", json!(["A=\u{0}"]), "env"),
        ("arg-nul", "/process/args", json!(["sh", "\u{0}"]), "args"),
        (
            "capability",
            "/process/capabilities/bounding",
            json!([5]),
            "bounding",
        ),
        (
            "namespace",
            "/linux/namespaces",
            json!([{"type": "cheese"}]),
            "namespaces",
        ),
        (
            "namespace-path",
            "/linux/namespaces",
            json!([{"type": "pid"}, {"type": "mount"}, {"type": "network", "path": "/nosuch"}]),
            "nosuch",
        ),
        ("mounts-type", "/mounts", json!({"a": 1}), "mounts"),
        (
            "destination",
            "/mounts",
            json!([{"destination": "", "type": "tmpfs", "source": "tmpfs"}]),
            "mounts",
        ),
        ("root", "/root/path", json!("nosuchroot"), "nosuchroot"),
        ("uid", "/process/user/uid", json!(-5), "uid"),
    ];
    for (name, pointer, value, word) in changes {
        let mut spec = s.spec(name, &["true"]);
        *spec.pointer_mut(pointer).ok_or(pointer)? = value;
        s.prepare(name, &spec)?;
        let task = s.task_on(keeper.client.clone(), name);
        let rootfs = if name == "root" {
            Vec::new()
        } else {
            s.rootfs()
        };
        let answer = task.create(&rootfs, &Streams::default()).map(drop);
        let said = answer
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(said.contains(word), "{name}: {said:.300}");
        must_refuse(s, name, name, answer)?;
    }
    keeper.status(INIT)?;
    Ok(())
}

/// Never Unimplemented: containerd 2 lowers the version of the shim then and calls once more.
fn what_create_can_not_do_is_a_failed_precondition(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return rsrun_tests::suite::skip("differs from runc: it supports these or drops them");
    }
    let keeper = keeper(s)?;
    for (name, pointer, value) in [
        ("rdt", "intelRdt", json!({"closID": "a"})),
        ("systemd", "cgroupsPath", json!("system.slice:rsrun:c1")),
        ("nic", "netDevices", json!({"eth0": {}})),
    ] {
        let mut spec = s.spec(name, &["true"]);
        spec["linux"][pointer] = value;
        s.prepare(name, &spec)?;
        let task = s.task_on(keeper.client.clone(), name);
        let answer = task.create(&s.rootfs(), &Streams::default()).map(drop);
        match &answer {
            Err(Refusal::Status(Code::FAILED_PRECONDITION, text)) if text.contains(pointer) => {}
            other => return fail(format!("{name}: {other:?}")),
        }
        must_refuse(s, name, name, answer)?;
    }
    Ok(())
}

fn bad_mounts_are_refused_and_undone(s: &ByHand) -> Check {
    let keeper = keeper(s)?;
    let mount = |kind: &str, source: &str, options: &[&str]| api::Mount {
        type_: kind.into(),
        source: source.into(),
        options: options.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let good = s.rootfs().remove(0);
    let bad: [(&str, Vec<api::Mount>); 5] = [
        ("no-source", vec![mount("bind", "/nosuch", &["rbind"])]),
        ("no-type", vec![mount("cheesefs", "none", &[])]),
        (
            "no-option",
            vec![mount("overlay", "overlay", &["cheese=1", "lowerdir=/a:/b"])],
        ),
        ("second", vec![good.clone(), mount("cheesefs", "none", &[])]),
        (
            "left-over",
            vec![mount("bind", "/", &["rbind", "X-containerd.mkfs.fs=ext4"])],
        ),
    ];
    for (name, mounts) in bad {
        if s.places.is_runc() && name == "left-over" {
            continue;
        }
        s.prepare(name, &s.spec(name, &["true"]))?;
        let task = s.task_on(keeper.client.clone(), name);
        must_refuse(
            s,
            name,
            name,
            task.create(&mounts, &Streams::default()).map(drop),
        )?;
    }
    Ok(())
}

fn bad_execs_are_refused(s: &ByHand) -> Check {
    let task = keeper(s)?;
    let mut wrong = Vec::new();
    let good = || rsrun_tests::task::process(&["true"], false);
    let with = |pointer: &str, value: Value| {
        let mut process = good();
        if let Some(place) = process.pointer_mut(pointer) {
            *place = value;
        }
        process
    };
    let bad = [
        ("no-args", with("/args", json!([]))),
        ("args-type", with("/args", json!({"a": 1}))),
        ("cwd-missing", with("/cwd", json!("/nosuchdirectory"))),
        ("cwd-relative", with("/cwd", json!("tmp"))),
        ("not-an-object", json!(["sh"])),
        ("uid-type", with("/user", json!({"uid": "root", "gid": 0}))),
        ("missing", with("/args", json!(["nosuchprogram"]))),
        ("directory", with("/args", json!(["/tmp"]))),
        ("not-executable", with("/args", json!(["/etc/passwd"]))),
    ];
    for (name, process) in bad {
        // Some of it is seen only when it is started.
        let answer = task
            .exec_process(name, &process, &Streams::default())
            .and_then(|()| task.start(name).map(drop));
        match answer {
            Err(Refusal::Status(code, text)) if code != Code::INTERNAL && !text.is_empty() => {}
            other => wrong.push(format!("{name}: {other:?}")),
        }
        let _ = task.delete(name);
    }
    task.exec("good", &["true"], &Streams::default())?;
    task.start("good")?;
    assert_eq!(task.wait("good")?.status, 0);
    if wrong.is_empty() {
        Ok(())
    } else {
        fail(wrong.join("\n"))
    }
}

fn bad_updates_are_refused(s: &ByHand) -> Check {
    let task = keeper(s)?;
    for bad in [
        json!("x"),
        json!({"memory": 5}),
        json!({"cpu": {"shares": "many"}}),
        json!([1]),
    ] {
        let answer = task.update(&bad);
        assert!(
            matches!(answer, Err(Refusal::Status(code, _)) if code != Code::INTERNAL),
            "{bad}: {answer:?}"
        );
    }
    if !s.places.is_runc() && !rsrun_tests::ground::has_controllers() {
        // A limit that cannot be set is an error, and one that limits nothing is none.
        let answer = task.update(&json!({"memory": {"limit": 64 << 20}}));
        assert!(answer.is_err_and(|r| r.to_string().contains("memory")));
        task.update(&json!({"memory": {"limit": -1}, "pids": {"limit": -1}}))?;
    }
    task.status(INIT)?;
    Ok(())
}
