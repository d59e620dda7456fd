//! A small config.json to be changed by a case: what every container needs and no more.

use std::path::Path;

use serde_json::{Value, json};

/// Runs `args` as root in new namespaces on `rootfs`, with a cgroup at `cgroup`.
///
/// The rootfs is shared and read-only; `/tmp` is a tmpfs. No limits, so that it
/// also runs where the controllers are not on v2.
pub fn minimal(rootfs: &Path, cgroup: &str, args: &[&str]) -> Value {
    let mount = |kind: &str, on: &str, options: &[&str]| json!({"destination": on, "type": kind, "source": kind, "options": options});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": ["CAP_KILL", "CAP_SETUID", "CAP_SETGID"],
                "effective": ["CAP_KILL", "CAP_SETUID", "CAP_SETGID"],
                "permitted": ["CAP_KILL", "CAP_SETUID", "CAP_SETGID"]
            }
        },
        "root": {"path": rootfs, "readonly": true},
        "mounts": [
            mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
            mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
            mount("tmpfs", "/tmp", &["nosuid", "nodev", "mode=1777"])
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}
            ],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"]
        }
    })
}
