//! What has to be seen inside for one field of a default spec?
use crate::default_mounts::{masked, mount_is_there};
use crate::default_specs::{Check, Seen};
use rsrun_tests::cli::suite::skip;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const EPERM: i64 = -1;

/// System calls that tell the default seccomp profile from none: name, the probe's words, what is expected.
pub(crate) const CALLS: [(&str, &str, i64); 8] = [
    ("getcwd is let through", "79:0:0", -34),
    ("mount", "165:0:0:0:0:0", EPERM),
    ("keyctl", "250:0:0:0", EPERM),
    ("personality of this system", "135:0", 0),
    ("personality of another one", "135:1", EPERM),
    ("clone3 looks like an old kernel", "435:0:0", -38),
    ("a socket of the hypervisor", "41:40:1:0", EPERM),
    ("a user namespace", "272:0x10000000", EPERM),
];

/// What every container has in /dev: name, device number.
const NODES: [(&str, &str); 6] = [
    ("null", "1:3"),
    ("zero", "1:5"),
    ("full", "1:7"),
    ("random", "1:8"),
    ("urandom", "1:9"),
    ("tty", "5:0"),
];

/// Links that every container has in /dev.
const LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Paths whose status is looked at.
pub(crate) fn paths(spec: &Value) -> Vec<String> {
    let listed = ["maskedPaths", "readonlyPaths"]
        .iter()
        .flat_map(|list| texts(&spec["linux"][list]));
    let mut all: Vec<String> = listed.collect();
    all.extend(NODES.iter().map(|(name, _)| format!("/dev/{name}")));
    all.extend(LINKS.iter().map(|(name, _)| (*name).to_string()));
    all.extend(texts(&json!(["/dev/shm", "/srv"])));
    all
}

/// Paths that are opened, with the mode.
pub(crate) fn opens(spec: &Value) -> Vec<String> {
    let mut all: Vec<String> = texts(&spec["linux"]["maskedPaths"])
        .map(|p| format!("r:{p}"))
        .collect();
    all.extend(
        [
            "r:/dev/null",
            "w:/dev/null",
            "r:/dev/zero",
            "w:/dev/full",
            "r:/dev/urandom",
            "w:/proc/sysrq-trigger",
            "w:/proc/sys/kernel/msgmax",
            "w:/proc/irq/default_smp_affinity",
        ]
        .map(String::from),
    );
    all
}

/// Adds a case for every field that the spec has.
pub(crate) fn fields(spec: &Value, add: &mut dyn FnMut(String, Value, Check)) {
    process(&spec["process"], add);
    for mount in spec["mounts"].as_array().into_iter().flatten() {
        let place = mount["destination"]
            .as_str()
            .expect("a destination")
            .trim_matches('/');
        let name = place.replace(['/', '.', '-'], "_");
        add(
            format!("mount_{name}_is_there_with_its_options"),
            mount.clone(),
            mount_is_there,
        );
    }
    add(
        "root_is_read_only_or_not_as_it_says".into(),
        spec["root"]["readonly"].clone(),
        |seen, readonly| {
            assert_eq!(
                seen.facts.mount("/").has("ro"),
                readonly == true,
                "/ is {:?}",
                seen.facts.mount("/").options
            );
        },
    );
    if let Some(name) = spec.get("hostname") {
        add("hostname_is_set".into(), name.clone(), |seen, name| {
            assert_eq!(seen.facts.at("/uname/nodename"), name)
        });
    }
    if spec["annotations"].is_object() {
        add(
            "annotations_are_told_by_state".into(),
            Value::Null,
            |seen, _| {
                assert_eq!(seen.state["annotations"], seen.spec["annotations"]);
            },
        );
    }
    linux(&spec["linux"], add);
    if let Some(hooks) = spec["hooks"].as_object() {
        add(
            "hooks_ran_with_the_state".into(),
            json!(hooks.len()),
            |seen, count| {
                assert_eq!(
                    Some(seen.hooks.len() as u64),
                    count.as_u64(),
                    "hooks ran with {:?}",
                    seen.hooks
                );
                for state in &seen.hooks {
                    assert_eq!(state["id"], seen.state["id"], "the state that a hook reads");
                    assert!(
                        ["creating", "created", "stopped"]
                            .contains(&state["status"].as_str().unwrap_or_default()),
                        "{state}"
                    );
                }
            },
        );
    }
    add(
        "default_devices_are_there".into(),
        Value::Null,
        |seen, _| {
            for (name, number) in NODES {
                let node = &seen.stat[&format!("/dev/{name}")];
                assert_eq!(
                    (&node["type"], &node["device"], &node["mode"]),
                    (&json!("char"), &json!(number), &json!(0o666)),
                    "{name}"
                );
            }
        },
    );
    add("default_links_are_there".into(), Value::Null, |seen, _| {
        for (name, target) in LINKS {
            // Some kernels have no such file.
            if !std::path::Path::new("/proc/kcore").exists() && name == "/dev/core" {
                continue;
            }
            assert_eq!(seen.stat[name]["link"], target, "{name}");
        }
    });
    add("only_init_0_1_2_are_open".into(), Value::Null, |seen, _| {
        let open: BTreeSet<&String> = seen
            .facts
            .at("/fds")
            .as_object()
            .expect("fds")
            .keys()
            .collect();
        // 3 is the descriptor with which the probe reads the list.
        let expected = ["0", "1", "2", "3"].map(String::from);
        assert_eq!(open, expected.iter().collect(), "{}", seen.facts.at("/fds"));
    });
}

fn process(process: &Value, add: &mut dyn FnMut(String, Value, Check)) {
    add(
        "env_is_exact".into(),
        process["env"].clone(),
        |seen, env| {
            let given: Vec<Value> = env.as_array().expect("a list").clone();
            let mut found = seen.facts.at("/env").as_array().expect("a list").clone();
            // The shell that calls the probe sets these; HOME is the runtime's, from /etc/passwd.
            found.retain(|v| {
                !["SHLVL=", "PWD=", "OLDPWD=", "HOME=", "_="]
                    .iter()
                    .any(|n| v.as_str().is_some_and(|v| v.starts_with(n)))
            });
            let set = |list: Vec<Value>| {
                list.iter()
                    .map(ToString::to_string)
                    .collect::<BTreeSet<_>>()
            };
            assert_eq!(set(found), set(given));
        },
    );
    add(
        "cwd_is_entered".into(),
        process["cwd"].clone(),
        |seen, cwd| assert_eq!(seen.facts.at("/cwd"), cwd),
    );
    add(
        "uid_and_gid_are_set_in_all_four_places".into(),
        process["user"].clone(),
        |seen, user| {
            for (key, value) in [("Uid", &user["uid"]), ("Gid", &user["gid"])] {
                let value = value.to_string();
                assert_eq!(seen.facts.status(key), vec![value.as_str(); 4], "{key}");
            }
        },
    );
    add(
        "additional_gids_are_exact".into(),
        process["user"]["additionalGids"].clone(),
        |seen, gids| {
            let mut expected: Vec<String> = texts(gids).collect();
            expected.sort();
            let mut found = seen.facts.status("Groups");
            found.sort_unstable();
            assert_eq!(found, expected, "Groups");
        },
    );
    add("umask_is_022".into(), Value::Null, |seen, _| {
        assert_eq!(seen.facts.number("/umask"), 0o022)
    });
    add("terminal_is_absent".into(), Value::Null, |seen, _| {
        assert!(seen.facts.at("/tty").is_null())
    });
    add(
        "bounding_capabilities_are_exact".into(),
        process["capabilities"]["bounding"].clone(),
        |seen, list| {
            assert_eq!(seen.facts.capabilities("CapBnd"), names(list));
        },
    );
    for (field, key) in [("effective", "CapEff"), ("permitted", "CapPrm")] {
        add(
            format!("{field}_capabilities_are_exact"),
            json!([key, process["capabilities"][field]]),
            |seen, pair| {
                // execve of a user that is not root takes what is not ambient.
                let kept = if seen.spec["process"]["user"]["uid"] == 0 {
                    names(&pair[1])
                } else {
                    BTreeSet::new()
                };
                assert_eq!(
                    seen.facts.capabilities(pair[0].as_str().expect("a key")),
                    kept
                );
            },
        );
    }
    for (field, key) in [("inheritable", "CapInh"), ("ambient", "CapAmb")] {
        add(
            format!("{field}_capabilities_are_empty"),
            json!(key),
            |seen, key| {
                assert!(
                    seen.facts
                        .capabilities(key.as_str().expect("a key"))
                        .is_empty()
                );
            },
        );
    }
    for limit in process["rlimits"].as_array().into_iter().flatten() {
        let name = limit["type"].as_str().expect("a type").to_lowercase();
        add(format!("{name}_is_set"), limit.clone(), |seen, limit| {
            let name = limit["type"]
                .as_str()
                .expect("a type")
                .trim_start_matches("RLIMIT_");
            let (soft, hard) = seen.facts.rlimit(name);
            assert_eq!(
                (Some(soft), Some(hard)),
                (limit["soft"].as_u64(), limit["hard"].as_u64())
            );
        });
    }
    add(
        "no_new_privileges_is_as_it_says".into(),
        process["noNewPrivileges"].clone(),
        |seen, wanted| {
            assert_eq!(
                seen.facts.number("/no_new_privs"),
                i64::from(wanted == true)
            );
        },
    );
    if let Some(value) = process.get("oomScoreAdj") {
        add(
            "oom_score_adj_is_set".into(),
            value.clone(),
            |seen, value| {
                if seen.spec["process"].get("oomScoreAdj").is_none() {
                    skip("needs CAP_SYS_RESOURCE, which root of this machine lacks");
                }
                assert_eq!(seen.facts.text("/oom_score_adj"), value.to_string());
            },
        );
    }
    add(
        "signals_are_neither_blocked_nor_ignored".into(),
        Value::Null,
        |seen, _| {
            assert_eq!(seen.facts.status("SigBlk"), ["0000000000000000"], "SigBlk");
            // runc 1.6 leaves signal 32 ignored; it is glibc's own.
            let ignored =
                u64::from_str_radix(seen.facts.status("SigIgn")[0], 16).expect("hexadecimal");
            assert_eq!(ignored & !seen.tolerated_signals, 0, "SigIgn");
        },
    );
}

fn linux(linux: &Value, add: &mut dyn FnMut(String, Value, Check)) {
    for ns in linux["namespaces"].as_array().into_iter().flatten() {
        let kind = ns["type"].as_str().expect("a type");
        let how = if ns.get("path").is_some() {
            "joined"
        } else {
            "new"
        };
        add(format!("{kind}_namespace_is_{how}"), ns.clone(), namespace);
    }
    add(
        "user_namespace_is_the_host_s".into(),
        Value::Null,
        |seen, _| {
            assert_eq!(seen.facts.at("/ns/user"), &seen.host_ns["user"]);
        },
    );
    add("cgroups_path_is_used".into(), Value::Null, |seen, _| {
        let path = seen.spec["linux"]["cgroupsPath"].as_str().expect("a path");
        assert_eq!(
            seen.host_cgroup.trim_end().rsplit("0::").next(),
            Some(path),
            "the cgroup on the host"
        );
    });
    for path in texts(&linux["maskedPaths"]) {
        let name = path.trim_matches('/').replace(['/', '-'], "_");
        add(
            format!("masked_path_{name}_shows_nothing"),
            path.into(),
            masked,
        );
    }
    for path in texts(&linux["readonlyPaths"]) {
        let name = path.trim_matches('/').replace(['/', '-'], "_");
        add(
            format!("readonly_path_{name}_is_read_only"),
            path.into(),
            |seen, path| {
                let path = path.as_str().expect("a path");
                if seen.stat[path].is_object() {
                    assert!(
                        seen.facts.mount(path).has("ro"),
                        "{path}: {:?}",
                        seen.facts.mount(path).options
                    );
                }
            },
        );
    }
    for (key, value) in linux["sysctl"].as_object().into_iter().flatten() {
        add(
            format!("sysctl_{}_is_set", key.replace('.', "_")),
            json!([key, value]),
            |seen, pair| {
                let key = pair[0].as_str().expect("a key");
                let found = seen
                    .sysctl
                    .get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let words = |text: &str| {
                    text.split_whitespace()
                        .map(String::from)
                        .collect::<Vec<_>>()
                };
                assert_eq!(words(found), words(pair[1].as_str().expect("a value")));
            },
        );
    }
    if linux["seccomp"].is_string() {
        add("seccomp_filter_is_loaded".into(), Value::Null, |seen, _| {
            assert_eq!(
                seen.facts.status("Seccomp"),
                ["2"],
                "the mode of the filter"
            );
        });
        for (name, _, expected) in CALLS {
            add(
                format!("seccomp_{}", name.replace(' ', "_")),
                json!([name, expected]),
                |seen, pair| {
                    assert_eq!(seen.call[pair[0].as_str().expect("a name")], pair[1]);
                },
            );
        }
    }
    add(
        "device_rules_let_and_deny".into(),
        Value::Null,
        |seen, _| {
            for open in [
                "r:/dev/null",
                "w:/dev/null",
                "r:/dev/zero",
                "r:/dev/urandom",
            ] {
                assert_eq!(seen.open[open], 0, "{open}");
            }
            if seen.spec["process"]["user"]["uid"] == 0 && seen.spec["root"]["readonly"] != true {
                assert_eq!(seen.open["r:/dev/made"], EPERM, "/dev/mem by another name");
            }
        },
    );
}

fn namespace(seen: &Seen, ns: &Value) {
    let kind = match ns["type"].as_str().expect("a type") {
        "mount" => "mnt",
        "network" => "net",
        other => other,
    };
    let found = seen.facts.at(&format!("/ns/{kind}"));
    if ns.get("path").is_some() {
        assert_eq!(found, &seen.pod_ns[kind], "the pod's {kind} namespace");
        return;
    }
    let asked = seen.spec["linux"]["namespaces"]
        .as_array()
        .is_some_and(|l| l.iter().any(|n| n["type"] == ns["type"]));
    if asked {
        assert_ne!(found, &seen.host_ns[kind], "the host's {kind} namespace");
        assert_ne!(
            Some(found),
            seen.pod_ns.get(kind),
            "the pod's {kind} namespace"
        );
    }
}

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn texts(list: &Value) -> impl Iterator<Item = String> {
    let items = list.as_array().cloned().unwrap_or_default();
    items
        .into_iter()
        .map(|v| v.as_str().map_or_else(|| v.to_string(), String::from))
}
