//! Specs in which one value is missing, of another type, unknown or out of range.
use crate::names;
use rsrun_tests::cli::suite::Suite;
use serde_json::{Value, json};

/// A place, what is put there (JSON text, or nothing to take the member out), and the place that has to be named
/// where it is another.
type Broken = (&'static str, &'static str, Option<&'static str>);

const PROCESS: [Broken; 37] = [
    ("/process", "", None),
    ("/process", "[]", None),
    ("/process/args", "", None),
    ("/process/args", "[]", None),
    ("/process/args", r#""/bin/true""#, None),
    ("/process/args/0", "7", None),
    ("/process/args/0", r#""""#, None),
    ("/process/args/0", r#""/bin/tr\u0000ue""#, None),
    ("/process/cwd", "", None),
    ("/process/cwd", r#""""#, None),
    ("/process/cwd", r#""tmp""#, None),
    ("/process/cwd", "{}", None),
    ("/process/cwd", r#""/t\u0000mp""#, None),
    ("/process/env", r#""PATH=/bin""#, None),
    ("/process/env/0", "null", None),
    ("/process/env/0", r#""NO_EQUALS_SIGN""#, None),
    ("/process/env/0", r#""=nameless""#, None),
    ("/process/env/0", r#""A=\u0000""#, None),
    ("/process/user/uid", "-1", None),
    ("/process/user/uid", "4294967296", None),
    ("/process/user/uid", "4294967295", None),
    ("/process/user/gid", "4294967295", None),
    (
        "/process/user/additionalGids",
        "[4294967295]",
        Some("/process/user/additionalGids/0"),
    ),
    ("/process/user/uid", r#""root""#, None),
    ("/process/user/uid", "1.5", None),
    ("/process/user/umask", "5000", None),
    (
        "/process/user/additionalGids",
        "[1, -2]",
        Some("/process/user/additionalGids/1"),
    ),
    ("/process/capabilities/bounding", r#""CAP_KILL""#, None),
    (
        "/process/capabilities/ambient",
        "[7]",
        Some("/process/capabilities/ambient/0"),
    ),
    (
        "/process/rlimits",
        r#"[{"type": "RLIMIT_WISHES", "soft": 1, "hard": 1}]"#,
        Some("/process/rlimits/0/type"),
    ),
    (
        "/process/rlimits",
        r#"[{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]"#,
        Some("/process/rlimits/0"),
    ),
    (
        "/process/rlimits",
        r#"[{"type": "RLIMIT_NOFILE", "soft": -1, "hard": 1}]"#,
        Some("/process/rlimits/0/soft"),
    ),
    (
        "/process/rlimits",
        r#"[{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}, {"type": "RLIMIT_NOFILE", "soft": 2, "hard": 2}]"#,
        Some("/process/rlimits/1"),
    ),
    ("/process/oomScoreAdj", "1001", None),
    ("/process/oomScoreAdj", r#""low""#, None),
    ("/process/noNewPrivileges", r#""yes""#, None),
    (
        "/process/ioPriority",
        r#"{"class": "IOPRIO_CLASS_WISH", "priority": 1}"#,
        Some("/process/ioPriority/class"),
    ),
];

const REST: [Broken; 34] = [
    ("/ociVersion", "", None),
    ("/ociVersion", "1", None),
    ("/ociVersion", r#""""#, None),
    ("/ociVersion", r#""two""#, None),
    ("/ociVersion", r#""2.0.0""#, None),
    ("/root", "", None),
    ("/root", r#""rootfs""#, None),
    ("/root/readonly", r#""yes""#, None),
    ("/hostname", "7", None),
    (
        "/hostname",
        r#""0123456789012345678901234567890123456789012345678901234567890123456789""#,
        None,
    ),
    ("/domainname", "[]", None),
    ("/annotations", r#"["a=b"]"#, None),
    ("/annotations", r#"{"a": 1}"#, Some("/annotations/a")),
    ("/hooks", "[]", None),
    ("/hooks/prestart", r#"{"path": "/bin/true"}"#, None),
    (
        "/hooks/prestart",
        r#"[{"args": ["x"]}]"#,
        Some("/hooks/prestart/0"),
    ),
    (
        "/hooks/poststop",
        r#"[{"path": "/bin/true", "timeout": "long"}]"#,
        Some("/hooks/poststop/0/timeout"),
    ),
    (
        "/hooks/poststop",
        r#"[{"path": "/bin/true", "env": ["NO_EQUALS_SIGN"]}]"#,
        Some("/hooks/poststop/0/env/0"),
    ),
    ("/mounts", "{}", None),
    ("/mounts/0", "7", None),
    ("/mounts/0/destination", "", Some("/mounts/0")),
    ("/mounts/0/destination", r#""""#, None),
    ("/mounts/0/destination", "{}", None),
    ("/mounts/0/options", r#""ro""#, None),
    ("/mounts/0/type", "1", None),
    (
        "/mounts/1/options",
        r#"["mode=755", "idmapp"]"#,
        Some("/dev"),
    ),
    ("/mounts/1/options", r#"["size=lots"]"#, Some("/dev")),
    (
        "/mounts/1/uidMappings",
        r#"[{"containerID": 0, "hostID": 0, "size": 0}]"#,
        Some("/mounts/1"),
    ),
    ("/linux/namespaces", r#"{"type": "pid"}"#, None),
    ("/linux/namespaces/0", r#"{}"#, None),
    ("/linux/namespaces/0/type", r#""wish""#, None),
    ("/linux/namespaces/0/path", r#""relative/path""#, None),
    (
        "/linux/namespaces/0/path",
        r#""/no/such/path""#,
        Some("/no/such/path"),
    ),
    (
        "/linux/timeOffsets",
        r#"{"realtime": {"secs": 1}}"#,
        Some("/linux/timeOffsets"),
    ),
];

const LINUX: [Broken; 36] = [
    ("/linux", "[]", None),
    (
        "/linux/uidMappings",
        r#"[{"containerID": 0, "hostID": 4294967295, "size": 2}]"#,
        Some("/linux/uidMappings"),
    ),
    (
        "/linux/uidMappings",
        r#"[{"containerID": 0, "hostID": 1000}]"#,
        Some("/linux/uidMappings/0"),
    ),
    (
        "/linux/gidMappings",
        r#"[{"containerID": -1, "hostID": 1000, "size": 1}]"#,
        Some("/linux/gidMappings/0/containerID"),
    ),
    ("/linux/cgroupsPath", "7", None),
    ("/linux/cgroupsPath", r#""/a/../../../b""#, None),
    ("/linux/cgroupsPath", r#""/a\u0000b""#, None),
    (
        "/linux/devices",
        r#"[{"path": "/dev/x", "type": "wish", "major": 1, "minor": 3}]"#,
        Some("/linux/devices/0/type"),
    ),
    (
        "/linux/devices",
        r#"[{"type": "c", "major": 1, "minor": 3}]"#,
        Some("/linux/devices/0"),
    ),
    (
        "/linux/devices",
        r#"[{"path": "", "type": "c", "major": 1, "minor": 3}]"#,
        Some("/linux/devices/0/path"),
    ),
    (
        "/linux/devices",
        r#"[{"path": "/dev/x", "type": "c"}]"#,
        Some("/linux/devices/0"),
    ),
    (
        "/linux/devices",
        r#"[{"path": "/dev/x", "type": "c", "major": -5, "minor": 3}]"#,
        Some("/linux/devices/0/major"),
    ),
    (
        "/linux/devices",
        r#"[{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 70000}]"#,
        Some("/linux/devices/0/fileMode"),
    ),
    ("/linux/resources", "[]", None),
    (
        "/linux/resources/devices",
        r#"[{"allow": true, "type": "wish", "access": "rwm"}]"#,
        Some("/linux/resources/devices/0/type"),
    ),
    (
        "/linux/resources/devices",
        r#"[{"allow": true, "type": "c", "access": "rwq"}]"#,
        Some("/linux/resources/devices/0/access"),
    ),
    (
        "/linux/resources/devices",
        r#"[{"allow": "yes"}]"#,
        Some("/linux/resources/devices/0/allow"),
    ),
    ("/linux/resources/memory/limit", r#""1g""#, None),
    (
        "/linux/resources/memory",
        r#"{"limit": 1048576000, "swap": 1048576}"#,
        Some("/linux/resources/memory/swap"),
    ),
    ("/linux/resources/cpu/shares", "-1", None),
    ("/linux/resources/cpu/period", "5", None),
    ("/linux/resources/cpu/cpus", r#""0-""#, None),
    ("/linux/resources/cpu/cpus", r#""zero""#, None),
    ("/linux/resources/pids/limit", r#""ten""#, None),
    ("/linux/resources/blockIO/weight", "5", None),
    (
        "/linux/resources/hugepageLimits",
        r#"[{"pageSize": "3MB", "limit": 1}]"#,
        Some("/linux/resources/hugepageLimits/0"),
    ),
    (
        "/linux/resources/unified",
        r#"{"../cgroup.procs": "1"}"#,
        Some("/linux/resources/unified"),
    ),
    (
        "/linux/resources/unified",
        r#"{"memory.max": 5}"#,
        Some("/linux/resources/unified/memory.max"),
    ),
    (
        "/linux/sysctl",
        r#"{"net.ipv4.ip_forward": 1}"#,
        Some("/linux/sysctl/net.ipv4.ip_forward"),
    ),
    (
        "/linux/sysctl",
        r#"{"kernel.panic": "1"}"#,
        Some("kernel.panic"),
    ),
    ("/linux/maskedPaths", r#""/proc/kcore""#, None),
    (
        "/linux/maskedPaths",
        r#"["relative"]"#,
        Some("/linux/maskedPaths/0"),
    ),
    (
        "/linux/readonlyPaths",
        "[7]",
        Some("/linux/readonlyPaths/0"),
    ),
    ("/linux/rootfsPropagation", r#""viral""#, None),
    (
        "/linux/seccomp",
        r#"{"defaultAction": "SCMP_ACT_WISH"}"#,
        Some("/linux/seccomp/defaultAction"),
    ),
    (
        "/linux/seccomp",
        r#"{"syscalls": []}"#,
        Some("/linux/seccomp"),
    ),
];

const MORE: [Broken; 8] = [
    (
        "/linux/seccomp",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO"}]}"#,
        Some("/linux/seccomp/syscalls/0"),
    ),
    (
        "/linux/seccomp",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]}"#,
        Some("/linux/seccomp/syscalls/0/names"),
    ),
    (
        "/linux/seccomp",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}]}"#,
        Some("/linux/seccomp/syscalls/0/errnoRet"),
    ),
    (
        "/linux/personality",
        r#"{"domain": "PLAN9"}"#,
        Some("/linux/personality/domain"),
    ),
    (
        "/linux/intelRdt",
        r#"{"closID": "../../x"}"#,
        Some("/linux/intelRdt"),
    ),
    ("/linux/mountLabel", r#""system_u:object_r:x:s0""#, None),
    (
        "/linux/memoryPolicy",
        r#"{"mode": "MPOL_WISH", "nodes": "0"}"#,
        Some("/linux/memoryPolicy"),
    ),
    (
        "/linux/netDevices",
        r#"{"no-such-device": {}}"#,
        Some("no-such-device"),
    ),
];

pub(crate) fn cases(suite: &mut Suite) {
    for (index, (pointer, text, place)) in PROCESS
        .iter()
        .chain(&REST)
        .chain(&LINUX)
        .chain(&MORE)
        .copied()
        .enumerate()
    {
        suite.case(
            format!(
                "value_{index:03}_of{}_that_is_{}_is_refused",
                pointer.replace('/', "_"),
                words(text)
            ),
            move |g| {
                let mut b = g.bundle();
                match text {
                    "" => b.remove(pointer),
                    text => b.set(
                        pointer,
                        serde_json::from_str(text).expect("JSON of this suite"),
                    ),
                };
                names(g, b.run(), place.unwrap_or(pointer))
            },
        );
    }
    suite.case("members_that_nobody_knows_are_passed_over", |g| {
        let mut b = g.bundle();
        b.set("/future", json!({"a": [1, 2]}))
            .set("/process/future", json!(true))
            .set("/linux/future", Value::Null);
        b.run().ok();
        Ok(())
    });
    for (system, part) in [
        ("windows", json!({"layerFolders": []})),
        ("solaris", json!({"milestone": "x"})),
        ("vm", json!({"kernel": {"path": "/x"}})),
    ] {
        suite.case(
            format!("a_part_for_{system}_is_passed_over_or_refused_by_name"),
            move |g| {
                let mut b = g.bundle();
                let pointer = format!("/{system}");
                b.set(&pointer, part);
                match b.run() {
                    out if out.code == 0 => Ok(()),
                    out => names(g, out, &pointer),
                }
            },
        );
    }
    suite.case("ten_thousand_annotations_are_taken", |g| {
        let mut b = g.bundle();
        let many: serde_json::Map<String, Value> = (0..10_000)
            .map(|n| (format!("key.{n}"), json!("value")))
            .collect();
        b.set("/annotations", Value::Object(many)).run().ok();
        Ok(())
    });
    suite.case("a_thousand_mounts_are_taken", |g| {
        let mut b = g.bundle();
        for n in 0..1_000 {
            b.mount(&format!("/srv/{n}"), "tmpfs", "tmpfs", &["size=4k"]);
        }
        b.run().ok();
        Ok(())
    });
}

/// A JSON text as a part of a case's name.
fn words(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(24)
        .collect();
    match plain.trim_matches('_') {
        "" if text.is_empty() => "missing".into(),
        "" => "empty".into(),
        plain => plain.to_lowercase(),
    }
}
