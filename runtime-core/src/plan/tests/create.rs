//! Plans of containers.

use super::*;

#[test]
fn the_default_container_of_ctr() {
    let plan = planned(&ctr()).unwrap();
    assert!(plan.has_private_pid_namespace);
    assert_eq!(plan.cgroup.path.as_deref(), Some("/default"));
    expect_plan("ctr", &plan.init);
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
fn a_step_is_named_with_what_its_descriptors_are() {
    let mount = json!({"destination": "/x", "type": "bind", "source": "data", "options": ["bind"]});
    let plan = planned(&with(&[("/mounts/-", mount)])).unwrap().init;
    let named: Vec<String> = plan
        .steps
        .iter()
        .map(|step| words_in(&plan, step))
        .collect();
    for words in [
        "attach the root /run/bundle/rootfs",
        "mount /run/bundle/data on /x",
        "place stream 1 as fd 1",
    ] {
        assert!(named.iter().any(|n| n == words), "{words:?} in {named:#?}");
    }
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

/// Whether the container's procfs is its own too, and whether it opens another.
fn procfs(changes: &[(&str, Value)]) -> (bool, bool) {
    let plan = planned(&with(changes)).unwrap().init;
    let shares = |step: &PlanStep| {
        matches!(
            step,
            Step::MountFilesystem {
                becomes_proc: true,
                ..
            }
        )
    };
    (
        plan.steps.iter().any(shares),
        plan.steps.contains(&Step::OpenProc),
    )
}

#[test]
fn the_init_has_one_procfs_its_containers_where_that_will_do() {
    let shared = (true, false);
    let own = (false, true);
    assert_eq!(procfs(&[]), shared);
    let covered = [("/linux/maskedPaths", json!(["/proc", "/proc/self/fd"]))];
    assert_eq!(procfs(&covered), shared);
    for word in ["ro", "hidepid=2", "subset=pid", "rro"] {
        assert_eq!(
            procfs(&[("/mounts/0/options", json!([word]))]),
            own,
            "{word}"
        );
    }
    let again = json!({"destination": "/proc", "type": "proc", "source": "proc"});
    assert_eq!(procfs(&[("/mounts/-", again)]), own);
    let time = json!({"type": "time"});
    assert_eq!(procfs(&[("/linux/namespaces/-", time)]), own);
}

#[test]
fn without_a_gate_the_program_follows_on_ready_unless_something_is_to_be_done_before() {
    let gated = |changes: &[(&str, Value)]| {
        let facts = CreateFacts {
            starts_at_once: true,
            ..facts()
        };
        create(&spec(&with(changes)), &facts, &host())
            .unwrap()
            .is_gated()
    };
    assert!(planned(&ctr()).unwrap().is_gated());
    assert!(!gated(&[]));
    let hook = json!([{"path": "/bin/x"}]);
    assert!(!gated(&[("/hooks", json!({"poststart": hook}))]));
    assert!(gated(&[("/hooks", json!({"startContainer": hook}))]));
    assert!(gated(&[("/process/terminal", json!(true))]));
}
