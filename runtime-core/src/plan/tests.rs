//! Whole plans, from specs as clients send them.
//!
//! The expected plans lie in `testdata`; after a wanted change they are written anew with
//! `WRITE_PLANS=1 cargo test -p rsrun-core plan`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use rsrun_init::step::Step;
use serde_json::{Value, json};

use super::*;
use crate::error::{ErrorKind, Result};
use crate::host::{CgroupState, Host, KernelVersion};

pub(super) fn host() -> Host {
    Host {
        kernel: KernelVersion(6, 1),
        cgroup_mount: PathBuf::from("/sys/fs/cgroup"),
        cgroup: CgroupState::Unified,
        apparmor: false,
        apparmor_attributes: false,
        selinux: false,
        cpus: 2,
        last_capability: 40,
        bounding: u64::MAX >> 23,
        hard_limits: vec![
            u64::MAX,
            u64::MAX,
            u64::MAX,
            u64::MAX,
            u64::MAX,
            u64::MAX,
            4096,
            524_288,
        ],
        in_user_namespace: false,
        has_kcore: true,
    }
}

fn ctr() -> Value {
    serde_json::from_str(include_str!("testdata/ctr.json")).unwrap()
}

fn spec(value: &Value) -> Spec {
    crate::bundle::parse_spec(value.to_string().as_bytes())
        .unwrap()
        .document
}

fn facts() -> CreateFacts {
    CreateFacts {
        id: "c1".into(),
        bundle: PathBuf::from("/run/bundle"),
        ..CreateFacts::default()
    }
}

fn planned(value: &Value) -> Result<ContainerPlan> {
    create(&spec(value), &facts(), &host())
}

fn set(value: &mut Value, pointer: &str, new: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = value.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) if key == "-" => items.push(new),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = new,
        other => other[key] = new,
    }
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut value = ctr();
    for (pointer, new) in changes {
        set(&mut value, pointer, new.clone());
    }
    value
}

fn words(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(step_words).collect()
}

/// The index of the first step whose words start so.
fn at(plan: &Plan, start: &str) -> usize {
    let words = words(plan);
    let found = words.iter().position(|w| w.starts_with(start));
    found.unwrap_or_else(|| panic!("no step {start:?} in {words:#?}"))
}

fn in_order(plan: &Plan, starts: &[&str]) {
    let found: Vec<usize> = starts.iter().map(|start| at(plan, start)).collect();
    assert!(found.is_sorted(), "{starts:?} at {found:?}");
}

fn expect_plan(name: &str, plan: &Plan) {
    let text = explain(plan);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/plan/testdata/{name}.plan"));
    if std::env::var_os("WRITE_PLANS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, expected, "the plan is not that of {}", file.display());
}

fn refused(changes: &[(&str, Value)], pointer: &str) {
    let error = planned(&with(changes)).unwrap_err();
    let found = match error.kind() {
        ErrorKind::InvalidSpec { pointer } => pointer.clone(),
        ErrorKind::Unsupported { feature } => feature.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(found, pointer, "{error}");
}

#[test]
fn the_default_container_of_ctr() {
    let plan = planned(&ctr()).unwrap();
    assert!(plan.has_private_pid_namespace);
    assert_eq!(plan.cgroup.path.as_deref(), Some("/default"));
    expect_plan("ctr", &plan.init);
}

#[test]
fn the_default_exec_of_ctr() {
    let container = planned(&ctr()).unwrap();
    let process: Process = serde_json::from_value(ctr()["process"].clone()).unwrap();
    let plan = exec(&process, &container.exec, &ExecAsk::default(), &host()).unwrap();
    expect_plan("ctr-exec", &plan.plan);
    let text = serde_json::to_string(&container.exec).unwrap();
    assert_eq!(
        serde_json::from_str::<ExecFacts>(&text).unwrap(),
        container.exec
    );
}

#[test]
fn a_container_with_everything() {
    let mut value = with(&[
        ("/process/terminal", json!(true)),
        ("/process/consoleSize", json!({"height": 24, "width": 80})),
        (
            "/process/user",
            json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 63}),
        ),
        ("/process/cwd", json!("/srv/app")),
        ("/process/oomScoreAdj", json!(-500)),
        ("/process/noNewPrivileges", json!(false)),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_BATCH", "nice": 5,
            "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}),
        ),
        (
            "/process/rlimits",
            json!([
            {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1_048_576},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX}]),
        ),
        ("/root/readonly", json!(true)),
        ("/hostname", json!("box")),
        ("/domainname", json!("example.org")),
        ("/linux/namespaces/-", json!({"type": "time"})),
        ("/linux/namespaces/-", json!({"type": "cgroup"})),
        (
            "/linux/timeOffsets",
            json!({"boottime": {"secs": 7}, "monotonic": {"secs": -1, "nanosecs": 5}}),
        ),
        ("/linux/personality", json!({"domain": "LINUX32"})),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "0"}),
        ),
        (
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}),
        ),
        ("/linux/rootfsPropagation", json!("rshared")),
        (
            "/linux/devices",
            json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 1},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p"}]),
        ),
        (
            "/hooks",
            json!({"createContainer": [{"path": "/usr/bin/hook"}],
            "startContainer": [{"path": "/in/hook"}]}),
        ),
    ]);
    for mount in [
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
        json!({"destination": "data", "source": "data", "options": ["rbind", "rro", "rshared"]}),
        json!({"destination": "/etc/hosts", "type": "bind", "source": "/var/hosts",
            "options": ["bind", "ro", "nosuid", "noatime", "rprivate"]}),
        json!({"destination": "/mapped", "type": "bind", "source": "/srv", "options": ["rbind", "ridmap"],
            "uidMappings": [{"containerID": 0, "hostID": 7, "size": 3}],
            "gidMappings": [{"containerID": 0, "hostID": 8, "size": 3}]}),
        json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs",
            "options": ["ro", "tmpcopyup", "size=1m"]}),
        json!({"destination": "/outer", "type": "tmpfs", "options": ["ro"]}),
        json!({"destination": "/outer/inner", "type": "tmpfs"}),
    ] {
        set(&mut value, "/mounts/-", mount);
    }
    let plan = planned(&value).unwrap();
    expect_plan("everything", &plan.init);
    let env = plan.hooks.start_container[0].env().clone().unwrap();
    assert!(env.iter().any(|v| v == "HOME=/"), "{env:?}");
}

#[test]
fn a_new_user_namespace_maps_ids_and_attaches_devices_of_the_host() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let value = with(&[
        ("/linux/namespaces/-", json!({"type": "user"})),
        ("/linux/uidMappings", map.clone()),
        ("/linux/gidMappings", map),
        (
            "/mounts/-",
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["ro"]}),
        ),
    ]);
    let plan = planned(&value).unwrap();
    expect_plan("user-namespace", &plan.init);
    let process: Process = serde_json::from_value(ctr()["process"].clone()).unwrap();
    let added = exec(&process, &plan.exec, &ExecAsk::default(), &host()).unwrap();
    expect_plan("user-namespace-exec", &added.plan);
}

#[test]
fn a_container_of_a_pod_joins_and_one_with_a_pod_user_namespace_is_born_twice() {
    let joined = |kind: &str| json!({"type": kind, "path": format!("/proc/77/ns/{kind}")});
    let pod = with(&[(
        "/linux/namespaces",
        json!([
        {"type": "pid"}, joined("ipc"), joined("uts"), {"type": "mount"}, joined("net"),
        {"type": "cgroup"}]),
    )]);
    let plan = planned(
        &pod.to_string()
            .replace("\"net\"", "\"network\"")
            .parse()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(plan.init.joins.len(), 3);
    assert!(words(&plan.init).iter().all(|w| !w.starts_with("be born")));
    let foreign = with(&[(
        "/linux/namespaces",
        json!([
        {"type": "pid"}, joined("ipc"), {"type": "mount"}, joined("user"), {"type": "cgroup"}]),
    )]);
    expect_plan("foreign-user-namespace", &planned(&foreign).unwrap().init);
}

#[test]
fn a_joined_pid_namespace_is_entered_only_after_pivot_root() {
    let mut value = ctr();
    set(
        &mut value,
        "/linux/namespaces/0",
        json!({"type": "pid", "path": "/proc/77/ns/pid"}),
    );
    let plan = planned(&value).unwrap();
    assert!(!plan.has_private_pid_namespace);
    assert!(plan.init.joins.is_empty());
    in_order(
        &plan.init,
        &[
            "be undumpable",
            "mask /sys/firmware",
            "pivot_root",
            "join pid namespace",
            "be born again",
            "mount proc on /proc",
            "make /proc/bus read-only",
            "mask /proc/acpi",
            "become 0:0",
        ],
    );
}

#[test]
fn confinement_comes_in_the_order_that_privileges_allow() {
    let program = |listener| SeccompProgram {
        lines: vec![],
        flags: 0,
        listener,
    };
    let plan_with = |nnp: bool, listener: Option<Listener>| {
        let value = with(&[
            ("/process/noNewPrivileges", json!(nnp)),
            ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"})),
        ]);
        let facts = CreateFacts {
            seccomp: Some(program(listener)),
            ..facts()
        };
        create(&spec(&value), &facts, &host()).unwrap().init
    };
    let listener = || {
        Some(Listener {
            path: None,
            metadata: None,
        })
    };
    let (caps, filter) = ("set capabilities", "load a seccomp");
    in_order(
        &plan_with(true, None),
        &[
            "wait for start",
            "close fds",
            "set no_new",
            caps,
            filter,
            "execute",
        ],
    );
    in_order(
        &plan_with(false, None),
        &["wait for start", "close fds", filter, caps, "execute"],
    );
    in_order(
        &plan_with(true, listener()),
        &[
            "close fds",
            "set no_new",
            caps,
            filter,
            "say ready",
            "wait for start",
            "execute",
        ],
    );
    in_order(
        &plan_with(false, listener()),
        &[filter, caps, "say ready", "wait for start", "execute"],
    );
}

#[test]
fn a_profile_that_was_not_compiled_is_an_error_and_never_left_out() {
    let value = with(&[("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ERRNO"}))]);
    assert_eq!(planned(&value).unwrap_err().kind(), &ErrorKind::Internal);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (pointer, value) in [
        ("/linux/intelRdt", json!({"closID": "a"})),
        ("/linux/netDevices", json!({"eth0": {}})),
        ("/windows", json!({"layerFolders": []})),
        ("/vm", json!({"kernel": {"path": "/k"}})),
    ] {
        refused(&[(pointer, value)], pointer);
    }
    refused(&[("/ociVersion", json!("2.0.0"))], "/ociVersion");
    refused(
        &[("/process/apparmorProfile", json!("x"))],
        "/process/apparmorProfile",
    );
    refused(
        &[("/process/selinuxLabel", json!("x"))],
        "/process/selinuxLabel",
    );
    refused(
        &[(
            "/linux/namespaces/3",
            json!({"type": "mount", "path": "/x"}),
        )],
        "/linux/namespaces/3/path",
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let bind = |options: Value| json!({"destination": "/x", "type": "bind", "source": "/y", "options": options});
    refused(
        &[("/linux/namespaces/-", json!({"type": "pid"}))],
        "/linux/namespaces/5",
    );
    refused(
        &[
            ("/linux/namespaces/2", json!({"type": "time"})),
            ("/hostname", json!("x")),
        ],
        "/hostname",
    );
    refused(
        &[("/linux/namespaces/0", json!({"type": "pid", "path": "x"}))],
        "/linux/namespaces/0/path",
    );
    refused(
        &[("/linux/namespaces/-", json!({"type": "user"}))],
        "/linux/uidMappings",
    );
    refused(
        &[("/linux/timeOffsets", json!({"boottime": {"secs": 1}}))],
        "/linux/timeOffsets",
    );
    refused(
        &[("/linux/sysctl", json!({"kernel.core_pattern": "x"}))],
        "/linux/sysctl/kernel.core_pattern",
    );
    refused(
        &[("/linux/rootfsPropagation", json!("sharedd"))],
        "/linux/rootfsPropagation",
    );
    refused(&[("/process/args/0", json!("a\0"))], "/process/args/0");
    refused(&[("/process/args", json!([]))], "/process/args");
    refused(&[("/process/env/-", json!("novalue"))], "/process/env/1");
    refused(&[("/process/cwd", json!("relative"))], "/process/cwd");
    refused(
        &[("/process/oomScoreAdj", json!(2000))],
        "/process/oomScoreAdj",
    );
    refused(
        &[("/process/user/umask", json!(4096))],
        "/process/user/umask",
    );
    refused(
        &[(
            "/process/rlimits/-",
            json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}),
        )],
        "/process/rlimits/1",
    );
    refused(
        &[
            ("/process/terminal", json!(true)),
            ("/mounts/2", json!({"destination": "/a", "type": "tmpfs"})),
        ],
        "/process/terminal",
    );
    refused(
        &[("/mounts/-", bind(json!(["bind", "size=1m"])))],
        "/mounts/7/options/1",
    );
    refused(
        &[("/mounts/-", bind(json!(["bind", "idmap"])))],
        "/mounts/7",
    );
    refused(
        &[("/mounts/-", json!({"destination": "/x", "type": "bind"}))],
        "/mounts/7/source",
    );
    refused(
        &[("/mounts/-", json!({"destination": "/x"}))],
        "/mounts/7/type",
    );
    refused(
        &[("/mounts/-", json!({"destination": "/", "type": "tmpfs"}))],
        "/mounts/7/destination",
    );
    refused(
        &[("/hooks", json!({"poststop": [{"path": "hook"}]}))],
        "/hooks/poststop/0/path",
    );
    refused(
        &[(
            "/hooks",
            json!({"poststop": [{"path": "/h", "timeout": 0}]}),
        )],
        "/hooks/poststop/0/timeout",
    );
    refused(
        &[("/linux/maskedPaths/-", json!("relative"))],
        "/linux/maskedPaths/12",
    );
    refused(
        &[("/linux/devices", json!([{"path": "/dev/x", "type": "a"}]))],
        "/linux/devices/0/type",
    );
}

#[test]
fn nothing_is_mounted_over_proc_but_a_procfs_and_what_may_be_covered_in_it() {
    for target in [
        "/proc/self",
        "/proc/self/attr/exec",
        "//proc/sys",
        "/x/../proc/1",
        "proc/keys",
    ] {
        let mount = json!({"destination": target, "type": "tmpfs"});
        refused(&[("/mounts/-", mount)], "/mounts/7/destination");
    }
    refused(
        &[(
            "/mounts/-",
            json!({"destination": "/proc", "type": "tmpfs"}),
        )],
        "/mounts/7/destination",
    );
    for target in ["/proc/meminfo", "/proc/cpuinfo"] {
        let mount =
            json!({"destination": target, "type": "bind", "source": "/lxcfs", "options": ["bind"]});
        planned(&with(&[("/mounts/-", mount)])).unwrap();
    }
}

#[test]
fn a_bound_dev_gets_no_devices_and_no_links() {
    let mut value = ctr();
    set(
        &mut value,
        "/mounts/1",
        json!({"destination": "/dev/", "type": "bind", "source": "/dev", "options": ["rbind"]}),
    );
    let plan = planned(&value).unwrap().init;
    assert!(
        words(&plan)
            .iter()
            .all(|w| !w.starts_with("make node") && !w.starts_with("make link"))
    );
}

#[test]
fn namespaces_that_are_our_own_are_shared_and_not_joined() {
    let mut value = ctr();
    set(
        &mut value,
        "/linux/namespaces/4",
        json!({"type": "network", "path": "/proc/1/ns/net"}),
    );
    let own = CreateFacts {
        own_namespaces: namespaces::NET,
        ..facts()
    };
    let plan = create(&spec(&value), &own, &host()).unwrap();
    assert!(plan.init.joins.is_empty());
    assert_eq!(plan.exec.namespaces & namespaces::NET, 0);
    set(
        &mut value,
        "/linux/sysctl",
        json!({"net.ipv4.ip_forward": "1"}),
    );
    assert!(
        create(&spec(&value), &own, &host()).is_err(),
        "it would change the host"
    );
}

#[test]
fn the_last_of_two_variables_holds_and_home_is_found() {
    let env = |given: Value, home: Option<&str>| {
        let facts = CreateFacts {
            home: home.map(str::to_owned),
            ..facts()
        };
        let plan = create(&spec(&with(&[("/process/env", given)])), &facts, &host()).unwrap();
        let Some(Step::Execute { env, .. }) = plan.init.steps.last().cloned() else {
            panic!()
        };
        env.iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        env(json!(["A=1", "B=2", "A=3", "HOME=/h"]), Some("/x")),
        ["B=2", "A=3", "HOME=/h"]
    );
    assert_eq!(env(json!(["HOME="]), Some("/root")), ["HOME=/root"]);
    assert_eq!(env(json!([]), None), ["HOME=/"]);
}

#[test]
fn programs_are_sought_in_absolute_entries_of_path_only() {
    let candidates = |name: &str, path: &str| {
        let value = with(&[
            ("/process/args", json!([name])),
            ("/process/env", json!([format!("PATH={path}")])),
        ]);
        let words = planned(&value).unwrap().program;
        let texts = words
            .candidates
            .iter()
            .map(|c| c.to_str().unwrap().to_owned());
        (texts.collect::<Vec<_>>(), words)
    };
    assert_eq!(
        candidates("sh", "/bin::.:rel:/sbin").0,
        ["/bin/sh", "/sbin/sh"]
    );
    assert_eq!(candidates("./sh", "/bin").0, ["./sh"]);
    let (none, words) = candidates("sh", "");
    assert!(none.is_empty());
    let text = words.failure(nix::errno::Errno::ENOENT);
    assert_eq!(text, "exec: \"sh\": executable file not found in $PATH");
    let text = candidates("/x/sh", "").1.failure(nix::errno::Errno::ENOENT);
    assert_eq!(
        text,
        "exec: \"/x/sh\": stat /x/sh: no such file or directory"
    );
}

#[test]
fn an_exec_keeps_what_it_needs_and_no_more() {
    let container = planned(&ctr()).unwrap().exec;
    let process: Process = serde_json::from_value(json!({
        "user": {"uid": 1, "gid": 1}, "args": ["x"], "cwd": "/", "noNewPrivileges": true,
        "capabilities": {"bounding": ["CAP_KILL"]},
    }))
    .unwrap();
    let kept = |facts: &ExecFacts| {
        exec(&process, facts, &ExecAsk::default(), &host())
            .unwrap()
            .plan
            .keep_capabilities
    };
    let own = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1;
    assert_eq!(kept(&container), Some(own));
    let timed = ExecFacts {
        namespaces: container.namespaces | namespaces::TIME,
        ..container.clone()
    };
    assert_eq!(kept(&timed), Some(own | 1 << 21));
    let plan = exec(&process, &timed, &ExecAsk::default(), &host())
        .unwrap()
        .plan;
    in_order(
        &plan,
        &[
            "wait for maps",
            "join time",
            "set capabilities",
            "open the root",
        ],
    );
    let mapped = ExecFacts {
        namespaces: container.namespaces | namespaces::USER,
        ..container
    };
    assert_eq!(kept(&mapped), None);
}

#[test]
fn an_execs_cpus_are_those_of_its_document_or_all() {
    let container = planned(&ctr()).unwrap().exec;
    let plan = |affinity: Value| {
        let process: Process = serde_json::from_value(json!({
            "user": {"uid": 0, "gid": 0}, "args": ["x"], "cwd": "/", "execCPUAffinity": affinity,
        }))
        .unwrap();
        exec(&process, &container, &ExecAsk::default(), &host())
            .unwrap()
            .plan
    };
    let both = plan(json!({"initial": "0", "final": "1"}));
    assert_eq!(both.thread_affinity, Some(vec![1]));
    assert!(both.steps.contains(&Step::Affinity { mask: vec![2] }));
    let initial = plan(json!({"initial": "0"}));
    assert!(
        !initial
            .steps
            .iter()
            .any(|s| matches!(s, Step::Affinity { .. }))
    );
    assert!(
        plan(Value::Null)
            .steps
            .contains(&Step::Affinity { mask: vec![] })
    );
}

#[test]
fn hooks_have_their_own_environment_and_working_directory() {
    let given =
        serde_json::from_value(json!({"path": "/usr/bin/hook", "args": ["hook", "x"]})).unwrap();
    let bundle = PathBuf::from("/run/bundle");
    let on_host = hook(
        &given,
        &HookPlace::Host {
            bundle: bundle.clone(),
        },
    )
    .unwrap();
    expect_plan("hook-host", &on_host.plan);
    let place = HookPlace::BeforePivot {
        bundle,
        namespaces: namespaces::MOUNT | namespaces::USER | namespaces::PID,
    };
    expect_plan("hook-before-pivot", &hook(&given, &place).unwrap().plan);
    let Some(Step::Execute { env, .. }) = on_host.plan.steps.last() else {
        panic!()
    };
    assert!(env.is_empty());
}

#[test]
fn a_hook_inside_is_as_confined_as_the_containers_process() {
    let given = serde_json::from_value(json!({"path": "/in/hook"})).unwrap();
    let value = with(&[
        ("/process/user", json!({"uid": 7, "gid": 8})),
        ("/process/terminal", json!(true)),
    ]);
    let container = planned(&value).unwrap();
    let place = HookPlace::Container(Box::new(Inside {
        process: spec(&value).process().clone().unwrap(),
        facts: container.exec,
        host: host(),
    }));
    let plan = hook(&given, &place).unwrap();
    in_order(
        &plan.plan,
        &[
            "place [1] as fd 0",
            "bound capabilities",
            "become 7:8",
            "set no_new_privs",
        ],
    );
    assert!(plan.plan.keep_capabilities.is_some());
    assert_eq!(plan.program.candidates, [c"/in/hook".to_owned()]);
}

#[test]
fn a_logger_gets_its_descriptors_by_number() {
    let fds = [
        (FdSource::Stream(1), 3),
        (FdSource::Stream(2), 4),
        (FdSource::HostPath("/p".into()), 5),
    ];
    let plan = program(
        Path::new("/bin/logger"),
        &["logger".into()],
        &["A=1".into()],
        &fds,
    )
    .unwrap();
    expect_plan("logger", &plan.plan);
}

mod any {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z/.]{0,12}", "/proc(/[a-z]{1,4}){0,2}", "\\PC{0,6}"]
    }

    fn mount() -> impl Strategy<Value = Value> {
        let kind = prop::sample::select(vec![
            "bind", "tmpfs", "proc", "sysfs", "cgroup", "none", "overlay", "",
        ]);
        let known = prop::sample::select(mount_option_words());
        let options = prop::collection::vec(prop_oneof![3 => known, 1 => text()], 0..5);
        (text(), kind, text(), options).prop_map(|(destination, kind, source, options)| {
            json!({"destination": destination, "type": kind, "source": source, "options": options})
        })
    }

    proptest! {
        #[test]
        fn mounts_make_a_whole_plan_or_an_error_with_a_place(
            mounts in prop::collection::vec(mount(), 0..5), readonly: bool, terminal: bool,
        ) {
            let value = with(&[
                ("/mounts", json!(mounts)),
                ("/root/readonly", json!(readonly)),
                ("/process/terminal", json!(terminal)),
            ]);
            match planned(&value) {
                Ok(plan) => whole(&plan.init),
                Err(error) => prop_assert!(matches!(
                    error.kind(),
                    ErrorKind::InvalidSpec { .. } | ErrorKind::Unsupported { .. }
                ), "{error:?}"),
            }
        }

        #[test]
        fn no_mount_lands_in_proc_by_its_text(mounts in prop::collection::vec(mount(), 0..5)) {
            if let Ok(plan) = planned(&with(&[("/mounts", json!(mounts))])) {
                for step in &plan.init.steps {
                    if let Step::AttachTree { target, .. } | Step::MountFilesystem { target, .. } = step {
                        let target = target.to_str().unwrap();
                        prop_assert!(target.split('/').all(|part| part != ".."), "{}", target);
                        prop_assert!(!target.starts_with("/proc/self"), "{}", target);
                    }
                }
            }
        }
    }

    /// Every name is that of a descriptor, and what must come once comes once.
    fn whole(plan: &Plan) {
        let count = |wanted: fn(&PlanStep) -> bool| plan.steps.iter().filter(|s| wanted(s)).count();
        assert_eq!(count(|s| matches!(s, Step::PivotRoot)), 1);
        assert_eq!(count(|s| matches!(s, Step::Identity { .. })), 1);
        assert_eq!(count(|s| matches!(s, Step::Capabilities(_))), 1);
        assert_eq!(count(|s| matches!(s, Step::NewSession { .. })), 1);
        assert!(matches!(plan.steps.last(), Some(Step::Execute { .. })));
        for step in &plan.steps {
            let name = match step {
                Step::AttachTree { tree, .. } | Step::AttachRoot { tree } => tree,
                Step::PlaceFd { fd, .. } | Step::KeepFd { fd } => fd,
                Step::Gate { fifo } => fifo,
                _ => continue,
            };
            assert!(name.0 < plan.fds.len());
        }
    }
}
