//! What has to be seen of one mount or masked path of a default spec?
use crate::default_specs::Seen;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(crate) fn masked(seen: &Seen, path: &Value) {
    let path = path.as_str().expect("a path");
    let there = &seen.stat[path];
    if there == -2 {
        return;
    }
    if there["type"] == "dir" {
        let mount = seen.facts.mount(path);
        assert!(
            mount.kind == "tmpfs" && mount.has("ro"),
            "{path} is {mount:?}"
        );
        return;
    }
    assert_eq!(
        (&there["type"], &there["device"]),
        (&json!("char"), &json!("1:3")),
        "{path} is covered by /dev/null"
    );
}

pub(crate) fn mount_is_there(seen: &Seen, mount: &Value) {
    let text = |key: &str| mount[key].as_str().unwrap_or_default();
    let point = text("destination");
    let found = seen.facts.mount(point);
    match text("type") {
        "bind" => assert!(
            found
                .root
                .ends_with(text("source").rsplit('/').next().unwrap_or_default()),
            "{found:?}"
        ),
        "cgroup" => assert_eq!(found.kind, "cgroup2"),
        kind => assert_eq!(found.kind, kind),
    }
    if text("type") == "tmpfs" {
        assert_eq!(found.source, text("source"));
    }
    let options: BTreeSet<&str> = mount["options"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for option in &options {
        option_holds(&found, option);
    }
    if !options.contains("ro") {
        assert!(found.has("rw"), "{point} became {:?}", found.options);
    }
    for flag in ["nosuid", "nodev", "noexec"] {
        // What a bind has of its source stays.
        if text("type") != "bind" {
            assert_eq!(
                found.has(flag),
                options.contains(flag),
                "{flag} of {point}: {:?}",
                found.options
            );
        }
    }
}

fn option_holds(found: &rsrun_tests::cli::facts::Mount, option: &str) {
    let all = || {
        format!(
            "{option} of {}: {:?} {:?}",
            found.point, found.options, found.fs_options
        )
    };
    match option {
        "ro" | "rw" | "nosuid" | "nodev" | "noexec" | "relatime" | "noatime" => {
            assert!(found.has(option), "{}", all())
        }
        "strictatime" => assert!(!found.has("relatime") && !found.has("noatime"), "{}", all()),
        "rprivate" | "private" => assert!(
            found.propagation.is_empty(),
            "{}: {:?}",
            all(),
            found.propagation
        ),
        "bind" | "rbind" | "newinstance" | "mode=1777" => {}
        _ => {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let plain = format!("{key}={}", value.trim_start_matches('0'));
            assert!(found.fs_has(&plain), "{}", all());
        }
    }
}
