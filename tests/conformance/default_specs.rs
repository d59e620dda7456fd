//! Does every field of the specs that containerd, CRI, nerdctl and Docker write by default hold inside?
//!
//! Each spec of `specs/` is run once; a case per field looks at what was seen.
use rsrun_tests::cli::bundle::Bundle;
use rsrun_tests::cli::facts::Facts;
use rsrun_tests::cli::ground::Ground;
use rsrun_tests::cli::suite::{Outcome, Suite};
use serde_json::{Map, Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const SPECS: [(&str, &str); 5] = [
    ("containerd", include_str!("specs/containerd.json")),
    ("cri_sandbox", include_str!("specs/cri_sandbox.json")),
    ("cri_container", include_str!("specs/cri_container.json")),
    ("nerdctl", include_str!("specs/nerdctl.json")),
    ("docker", include_str!("specs/docker.json")),
];
const SECCOMP: &str = include_str!("specs/seccomp.json");

/// Which member of `linux.resources` needs which controller.
const CONTROLLERS: [(&str, &str); 6] = [
    ("cpu", "cpu"),
    ("memory", "memory"),
    ("pids", "pids"),
    ("blockIO", "io"),
    ("hugepageLimits", "hugetlb"),
    ("unified", "memory"),
];

/// What one run of a default spec showed.
pub(crate) struct Seen {
    pub(crate) spec: Value,
    pub(crate) facts: Facts,
    pub(crate) stat: Map<String, Value>,
    pub(crate) open: Map<String, Value>,
    pub(crate) call: Map<String, Value>,
    pub(crate) state: Value,
    pub(crate) host_cgroup: String,
    pub(crate) limits: Map<String, Value>,
    pub(crate) hooks: Vec<Value>,
    pub(crate) pod_ns: Map<String, Value>,
    pub(crate) host_ns: Map<String, Value>,
    pub(crate) tolerated_signals: u64,
    pub(crate) sysctl: Map<String, Value>,
}

type Shared = Arc<OnceLock<Seen>>;
pub(crate) type Check = fn(&Seen, &Value);

pub(crate) fn cases(suite: &mut Suite) {
    for (name, text) in SPECS {
        let spec: Value = serde_json::from_str(text).expect("a spec of this suite");
        let shared = Shared::default();
        let mut add = |what: String, value: Value, check: Check| {
            let shared = shared.clone();
            suite.case(format!("{name}_default_spec_{what}"), move |ground| {
                check(shared.get_or_init(|| see(ground, name)), &value);
                Ok(())
            });
        };
        super::default_fields::fields(&spec, &mut add);
        let limited = spec.clone();
        let shared = shared.clone();
        suite.case(
            format!("{name}_default_spec_limits_read_back_from_the_cgroup"),
            move |ground| limits(ground, &limited, name, &shared),
        );
    }
}

fn limits(ground: &Ground, spec: &Value, name: &'static str, shared: &Shared) -> Outcome {
    for (member, controller) in CONTROLLERS {
        let value = &spec["linux"]["resources"][member];
        let trivial = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if !trivial {
            ground.needs(controller)?;
        }
    }
    let seen = shared.get_or_init(|| see(ground, name));
    let resources = &spec["linux"]["resources"];
    let expect = |place: &str, file: &str, words: &dyn Fn(&Value) -> String| {
        if let Some(value) = resources.pointer(place) {
            assert_eq!(
                seen.limits[file],
                words(value).as_str(),
                "{file} for {place} = {value}"
            );
        }
    };
    if resources.pointer("/cpu/quota").is_some() {
        let cpu = &resources["cpu"];
        assert_eq!(
            seen.limits["cpu.max"],
            format!("{} {}", cpu["quota"], cpu["period"]).as_str(),
            "cpu.max"
        );
    }
    expect("/cpu/shares", "cpu.weight", &|v| match v.as_u64() {
        Some(0) => "100".into(),
        Some(2) => "1".into(),
        Some(1024) => "100".into(),
        Some(102) => "17".into(),
        other => panic!("no expectation for shares {other:?}"),
    });
    expect("/memory/limit", "memory.max", &Value::to_string);
    // The specification counts memory and swap together, the kernel swap alone.
    expect("/memory/swap", "memory.swap.max", &|_| "0".into());
    expect("/pids/limit", "pids.max", &|v| {
        if v == -1 { "max".into() } else { v.to_string() }
    });
    expect("/unified/memory.oom.group", "memory.oom.group", &|_| {
        "1".into()
    });
    Ok(())
}

/// Runs a spec with probes in it and looks at everything, then kills and deletes it.
fn see(ground: &Ground, name: &str) -> Seen {
    let pod = (name == "cri_container").then(|| {
        let mut pod = ground.bundle();
        load(ground, &mut pod, "cri_sandbox", None);
        let pid = pod.hold();
        (pod, pid)
    });
    let mut bundle = ground.bundle();
    load(
        ground,
        &mut bundle,
        name,
        pod.as_ref().map(|(pod, pid)| (pod, pid.as_raw())),
    );
    let spec = bundle.spec.clone();
    let stats = super::default_fields::paths(&spec);
    let opens = super::default_fields::opens(&spec);
    let calls = super::default_fields::CALLS;
    let sysctls: Vec<String> = spec["linux"]["sysctl"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, _)| k.clone())
        .collect();
    let line = format!(
        "probe facts; probe stat {}; mknod /dev/made c 1 1; probe open {} r:/dev/made; probe call {}; probe read {}; \
         echo end; exec probe hold",
        stats.join(" "),
        opens.join(" "),
        calls
            .iter()
            .map(|(_, call, _)| *call)
            .collect::<Vec<_>>()
            .join(" "),
        sysctls
            .iter()
            .map(|k| format!("/proc/sys/{}", k.replace('.', "/")))
            .collect::<Vec<_>>()
            .join(" "),
    );
    bundle.shell(&line);
    let out = bundle.dir.join("out");
    bundle.detach_into(&out);
    let lines = lines_until_end(&out);
    let answer = |i: usize| {
        lines
            .get(i)
            .cloned()
            .unwrap_or_else(|| panic!("only {i} answers of {line}"))
    };
    let zip = |names: Vec<String>, values: &Value| -> Map<String, Value> {
        names
            .into_iter()
            .zip(values.as_array().cloned().unwrap_or_default())
            .collect()
    };
    let state = bundle.state();
    let pid = state["pid"].as_i64().expect("a pid");
    let host_cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
    let limits = [
        "cpu.weight",
        "cpu.max",
        "memory.max",
        "memory.swap.max",
        "memory.oom.group",
        "pids.max",
    ]
    .iter()
    .filter_map(|file| {
        Some((
            (*file).to_string(),
            fs::read_to_string(bundle.cgroup(file))
                .ok()?
                .trim_end()
                .into(),
        ))
    })
    .collect();
    let namespaces = |pid: &str| -> Map<String, Value> {
        let link = |kind: &str| {
            fs::read_link(format!("/proc/{pid}/ns/{kind}")).map(|p| p.display().to_string())
        };
        ["pid", "ipc", "uts", "mnt", "net", "cgroup", "time", "user"]
            .iter()
            .filter_map(|kind| Some(((*kind).to_string(), link(kind).ok()?.into())))
            .collect()
    };
    let pod_ns = pod
        .as_ref()
        .map(|(_, pid)| namespaces(&pid.to_string()))
        .unwrap_or_default();
    let mut opened = opens.clone();
    opened.push("r:/dev/made".into());
    let seen = Seen {
        facts: Facts(answer(0)),
        stat: zip(stats, &answer(1)),
        open: zip(opened, &answer(2)),
        call: zip(
            calls
                .iter()
                .map(|(name, _, _)| (*name).to_string())
                .collect(),
            &answer(3),
        ),
        tolerated_signals: if ground.runtime.runc.is_some() {
            1 << 31
        } else {
            0
        },
        sysctl: zip(sysctls, &answer(4)),
        state,
        host_cgroup,
        limits,
        hooks: Vec::new(),
        pod_ns,
        host_ns: namespaces("self"),
        spec,
    };
    bundle.on(&["delete", "--force"], &[]).ok();
    let log = fs::read_to_string(bundle.dir.join("hooks.log")).unwrap_or_default();
    let hooks = serde_json::Deserializer::from_str(&log).into_iter();
    Seen {
        hooks: hooks
            .collect::<Result<_, _>>()
            .unwrap_or_else(|e| panic!("a hook read {log:?}: {e}")),
        ..seen
    }
}

fn lines_until_end(out: &std::path::Path) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = fs::read_to_string(out).unwrap_or_default();
        if text.lines().any(|l| l == "end") {
            return text
                .lines()
                .filter_map(|l| serde_json::from_str(l).ok())
                .collect();
        }
        assert!(
            Instant::now() < deadline,
            "the container printed only {text:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Puts a default spec into a bundle: placeholders, the files that it binds, a hook, no limit without its controller.
fn load(ground: &Ground, bundle: &mut Bundle<'_>, name: &str, pod: Option<(&Bundle<'_>, i32)>) {
    let (_, text) = SPECS.iter().find(|(n, _)| *n == name).expect("a spec");
    let mut text = text
        .replace(
            "@CGROUP",
            bundle.spec["linux"]["cgroupsPath"]
                .as_str()
                .expect("a path"),
        )
        .replace("@BUNDLE", &bundle.dir.to_string_lossy())
        .replace("@ID", &bundle.id);
    if let Some((pod, pid)) = pod {
        text = text
            .replace("@PODNS", &format!("/proc/{pid}/ns"))
            .replace("@POD", &pod.id);
    }
    bundle.spec = serde_json::from_str(&text).expect("a spec of this suite");
    if bundle.spec["linux"]["seccomp"] == "@seccomp" {
        bundle.set(
            "/linux/seccomp",
            serde_json::from_str(SECCOMP).expect("a profile of this suite"),
        );
    }
    // The probe lies in /bin, so does the shell.
    for file in ["hosts", "hostname", "resolv.conf", "termination-log"] {
        fs::write(bundle.dir.join(file), format!("{file} of the host\n")).expect("a file to bind");
    }
    for dir in ["shm", "secret"] {
        fs::create_dir_all(bundle.dir.join(dir)).expect("a directory to bind");
    }
    let hook = bundle.dir.join("hook");
    let log = bundle.dir.join("hooks.log");
    fs::write(
        &hook,
        format!("#!/bin/sh\ncat >> {0}\necho >> {0}\n", log.display()),
    )
    .expect("a hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("a mode");
    for (member, controller) in CONTROLLERS {
        let states_the_default =
            bundle.spec["linux"]["resources"][member] == json!({"shares": 1024});
        let missing = ground.needs(controller).is_err();
        if missing && !(states_the_default && ground.runtime.runc.is_none()) {
            bundle.remove(&format!("/linux/resources/{member}"));
        }
    }
    if ground.may("CAP_SYS_RESOURCE").is_err()
        && bundle.spec["process"]["oomScoreAdj"]
            .as_i64()
            .is_some_and(|v| v < 0)
    {
        bundle.remove("/process/oomScoreAdj");
    }
    if ground.since_runc(1, 2, "time namespaces").is_err() {
        let list = bundle
            .spec
            .pointer_mut("/linux/namespaces")
            .and_then(Value::as_array_mut)
            .expect("namespaces");
        list.retain(|n| n["type"] != "time");
    }
}
