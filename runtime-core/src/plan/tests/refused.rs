//! Specs that are refused, and mounts at the border of it.

use super::*;

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
    refused(&[("/linux/mountLabel", json!("x"))], "/linux/mountLabel");
    let systemd = [("/linux/cgroupsPath", json!("system.slice:x:c1"))];
    refused(&systemd, "systemd cgroup driver");
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
    let user = json!({"uid": 0, "gid": 0, "username": "nobody"});
    refused(&[("/process/user", user)], "/process/user/username");
    refused(
        &[("/process/commandLine", json!("sh"))],
        "/process/commandLine",
    );
    let climbing = [("/linux/cgroupsPath", json!("/a/../../b"))];
    refused(&climbing, "/linux/cgroupsPath");
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    for pid in [
        json!({"type": "cgroup"}),
        json!({"type": "pid", "path": "/p"}),
    ] {
        let user_namespace = [
            ("/linux/namespaces/-", json!({"type": "user"})),
            ("/linux/uidMappings", mapping.clone()),
            ("/linux/gidMappings", mapping.clone()),
            ("/linux/namespaces/0", pid),
        ];
        refused(&user_namespace, "/mounts/0/type");
    }
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
    refused(
        &[("/process/user/additionalGids", json!([1, u32::MAX]))],
        "/process/user/additionalGids/1",
    );
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
fn a_long_list_of_layers_is_given_layer_by_layer() {
    let layers: Vec<String> = (0..40)
        .map(|n| format!("/layers/with/a/name/{n}"))
        .collect();
    let list = format!("lowerdir={}:/odd\\:name", layers.join(":"));
    let mount = json!({"destination": "/o", "type": "overlay", "source": "overlay",
        "options": ["ro", list, "userxattr"]});
    let value = with(&[("/mounts/-", mount)]);
    let newer = Host {
        kernel: KernelVersion(6, 7),
        ..host()
    };
    let plan = create(&spec(&value), &facts(), &newer).unwrap().init;
    let step = plan.steps.iter().find_map(|step| match step {
        Step::MountFilesystem { params, target, .. } if target.as_bytes() == b"/o" => Some(params),
        _ => None,
    });
    let params: Vec<String> = step.unwrap().iter().map(|p| format!("{p:?}")).collect();
    assert_eq!(params.len(), 1 + 41 + 1);
    assert_eq!(params[1], "Text(\"lowerdir+\", \"/layers/with/a/name/0\")");
    assert_eq!(params[41], "Text(\"lowerdir+\", \"/odd:name\")");
    let error = planned(&value).unwrap_err();
    assert!(error.to_string().contains("linux 6.7"), "{error}");
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
