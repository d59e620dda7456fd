//! Which containers are made while the hostile process looks on? Each has as many paths of one kind as it can.
use serde_json::{Value, json};

use crate::stage::{Entry, Stage};

/// What is called with the hostile process beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `run`: create, start, and delete at the end.
    Run,
    /// `create`, `start` and `delete`, each stopped at its calls.
    CreateStartDelete,
    /// `run` with a terminal.
    RunOnTerminal,
    /// `exec` in a container that runs already.
    Exec,
    /// `exec` with a terminal.
    ExecOnTerminal,
}

/// One kind of container, and the names that are swapped.
pub struct Scene {
    /// What it is about.
    pub name: &'static str,
    /// What is called.
    pub verb: Verb,
    /// What the bundle's directories have.
    pub entries: &'static [Entry],
    /// Names below the bundle.
    pub targets: &'static [&'static str],
    /// Makes the spec of it.
    pub spec: fn(&mut Stage<'_>),
    /// Where the container's mounts are recognized by: a source of mountinfo, or the root of a bind mount.
    pub mounts: &'static [&'static str],
}

use Entry::{Device, Directory, File, Link};

/// All of them.
pub const SCENES: [Scene; 9] = [
    Scene {
        name: "dev_of_the_image",
        verb: Verb::Run,
        entries: &[
            Directory("rootfs/dev/pts"),
            Directory("rootfs/dev/shm"),
            Link("rootfs/dev/fd", "elsewhere"),
        ],
        targets: &[
            "rootfs",
            "rootfs/dev",
            "rootfs/dev/null",
            "rootfs/dev/full",
            "rootfs/dev/tty",
            "rootfs/dev/pts",
            "rootfs/dev/shm",
            "rootfs/dev/ptmx",
            "rootfs/dev/fd",
            "rootfs/proc",
        ],
        spec: |stage| {
            mounts(
                stage,
                vec![
                    pseudo("proc", "/proc"),
                    pseudo("devpts", "/dev/pts"),
                    temporary("of-shm", "/dev/shm", &[]),
                ],
            );
        },
        mounts: &["of-shm"],
    },
    Scene {
        name: "dev_that_is_missing",
        verb: Verb::Run,
        entries: &[Link("rootfs/var/run", "/run"), Directory("rootfs/sys")],
        targets: &[
            "rootfs",
            "rootfs/dev",
            "rootfs/proc",
            "rootfs/sys",
            "rootfs/var",
            "rootfs/var/run",
            "rootfs/run",
            "rootfs/run/lock",
        ],
        spec: |stage| {
            mounts(
                stage,
                vec![
                    pseudo("proc", "/proc"),
                    pseudo("sysfs", "/sys"),
                    temporary("of-dev", "/dev", &[]),
                    pseudo("devpts", "/dev/pts"),
                    temporary("of-lock", "/var/run/lock/deep", &[]),
                ],
            );
        },
        mounts: &["of-dev", "of-lock"],
    },
    Scene {
        name: "nested_volumes",
        verb: Verb::Run,
        entries: &[
            Directory("volume/a"),
            Directory("volume/b/deep/er"),
            File("volume/c/file"),
            File("rootfs/etc/resolv.conf"),
        ],
        targets: &[
            "rootfs/volume",
            "volume/a",
            "volume/a/x",
            "volume/b",
            "volume/b/deep",
            "volume/b/deep/er",
            "volume/c",
            "volume/c/file",
            "rootfs/etc",
            "rootfs/etc/resolv.conf",
            "volume/new",
            "volume/new/file",
        ],
        spec: |stage| {
            let own = stage.at("source");
            let file = stage.at("source/file");
            let volume = stage.at("volume");
            mounts(
                stage,
                vec![
                    pseudo("proc", "/proc"),
                    bound(&volume, "/volume"),
                    bound(&own, "/volume/a/x"),
                    temporary("of-er", "/volume/b/deep/er", &[]),
                    bound(&file, "/volume/c/file"),
                    bound(&file, "/volume/new/file"),
                    bound(&file, "/etc/resolv.conf"),
                ],
            );
        },
        mounts: &[
            "of-er",
            "volume",
            "source",
            "source/file",
            "source/file",
            "source/file",
        ],
    },
    Scene {
        name: "masked_and_read_only",
        verb: Verb::Run,
        entries: &[
            File("rootfs/etc/secret"),
            File("rootfs/srv/hidden/file"),
            File("rootfs/srv/ro/file"),
            File("volume/hidden/file"),
            File("volume/secret"),
            File("volume/ro/file"),
            Device("devices/null", 1, 3),
            Directory("devices/shm"),
        ],
        targets: &[
            "rootfs/etc",
            "rootfs/etc/secret",
            "rootfs/srv/hidden",
            "rootfs/srv/ro",
            "volume/hidden",
            "volume/secret",
            "volume/ro",
            "devices/null",
            "devices/shm",
            "rootfs/dev",
        ],
        spec: |stage| {
            let (volume, devices) = (stage.at("volume"), stage.at("devices"));
            mounts(
                stage,
                vec![
                    pseudo("proc", "/proc"),
                    bound(&volume, "/volume"),
                    bound(&devices, "/dev"),
                    temporary("of-shm", "/dev/shm", &[]),
                ],
            );
            stage.bundle.set(
                "/linux/maskedPaths",
                json!([
                    "/proc/kcore",
                    "/proc/keys",
                    "/proc/acpi",
                    "/etc/secret",
                    "/srv/hidden",
                    "/volume/hidden",
                    "/volume/secret",
                ]),
            );
            stage.bundle.set(
                "/linux/readonlyPaths",
                json!([
                    "/proc/bus",
                    "/proc/sys",
                    "/srv/ro",
                    "/volume/ro",
                    "/etc/passwd"
                ]),
            );
        },
        mounts: &["of-shm", "volume", "devices"],
    },
    Scene {
        name: "copied_up",
        verb: Verb::Run,
        entries: &[
            File("rootfs/data/file"),
            File("rootfs/data/sub/file"),
            Link("rootfs/data/link", "sub/file"),
            Device("rootfs/data/null", 1, 3),
            File("volume/data/file"),
            File("volume/data/sub/deep/file"),
        ],
        targets: &[
            "rootfs/data",
            "rootfs/data/file",
            "rootfs/data/sub",
            "rootfs/data/sub/file",
            "rootfs/data/link",
            "rootfs/data/null",
            "volume/data",
            "volume/data/sub",
            "volume/data/sub/deep",
        ],
        spec: |stage| {
            let volume = stage.at("volume");
            mounts(
                stage,
                vec![
                    pseudo("proc", "/proc"),
                    bound(&volume, "/volume"),
                    temporary("of-data", "/data", &["tmpcopyup"]),
                    temporary("of-volume-data", "/volume/data", &["tmpcopyup"]),
                ],
            );
        },
        mounts: &["of-data", "of-volume-data", "volume"],
    },
    Scene {
        name: "user_and_working_directory",
        verb: Verb::CreateStartDelete,
        entries: &[Directory("rootfs/work")],
        targets: &[
            "rootfs",
            "rootfs/work",
            "rootfs/work/deep",
            "rootfs/etc",
            "rootfs/etc/passwd",
            "rootfs/bin",
            "rootfs/bin/probe",
            "rootfs/dev",
            "rootfs/dev/null",
        ],
        spec: |stage| {
            mounts(
                stage,
                vec![
                    pseudo("proc", "/proc"),
                    temporary("of-dev", "/dev/pts", &[]),
                ],
            );
            stage.bundle.set("/process/env", json!(["PATH=/bin"]));
            stage.bundle.set(
                "/process/user",
                json!({"uid": 1000, "gid": 1000, "additionalGids": [5]}),
            );
            stage.bundle.set("/process/cwd", json!("/work/deep/er"));
            stage.bundle.set("/root/readonly", json!(true));
            stage.bundle.args(&["probe", "call", "34"]);
            let hook = stage.probe_of_the_host();
            stage.bundle.set(
                "/hooks",
                json!({"createContainer": [{"path": hook, "args": ["probe", "call", "39"]}]}),
            );
        },
        mounts: &["of-dev"],
    },
    Scene {
        name: "console",
        verb: Verb::RunOnTerminal,
        entries: &[Directory("rootfs/dev/pts")],
        targets: &[
            "rootfs/dev",
            "rootfs/dev/pts",
            "rootfs/dev/console",
            "rootfs/dev/ptmx",
            "rootfs/dev/null",
            "rootfs/dev/tty",
        ],
        spec: |stage| {
            with_terminals(stage);
            stage.bundle.set("/process/terminal", json!(true));
        },
        mounts: &[],
    },
    Scene {
        name: "exec",
        verb: Verb::Exec,
        entries: &[
            Directory("rootfs/work/deep"),
            Device("rootfs/dev/null", 1, 3),
        ],
        targets: &[
            "rootfs/etc",
            "rootfs/etc/passwd",
            "rootfs/bin",
            "rootfs/bin/probe",
            "rootfs/work",
            "rootfs/work/deep",
            "rootfs/dev",
            "rootfs/dev/null",
            "rootfs",
        ],
        spec: |stage| {
            mounts(stage, vec![pseudo("proc", "/proc")]);
            stage.bundle.set("/process/env", json!(["PATH=/bin"]));
        },
        mounts: &[],
    },
    Scene {
        name: "exec_on_a_terminal",
        verb: Verb::ExecOnTerminal,
        entries: &[
            Directory("rootfs/dev/pts"),
            Device("rootfs/dev/null", 1, 3),
            Directory("rootfs/work/deep"),
        ],
        targets: &[
            "rootfs/dev",
            "rootfs/dev/pts",
            "rootfs/dev/ptmx",
            "rootfs/dev/null",
            "rootfs/dev/tty",
        ],
        spec: with_terminals,
        mounts: &[],
    },
];

fn mounts(stage: &mut Stage<'_>, list: Vec<Value>) {
    stage.bundle.set("/mounts", Value::Array(list));
    stage.bundle.args(&["/bin/probe", "call", "34"]);
}

fn with_terminals(stage: &mut Stage<'_>) {
    mounts(
        stage,
        vec![pseudo("proc", "/proc"), pseudo("devpts", "/dev/pts")],
    );
}

fn pseudo(kind: &str, at: &str) -> Value {
    let options: &[&str] = match kind {
        "devpts" => &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
        ],
        _ => &["nosuid", "noexec", "nodev"],
    };
    json!({"destination": at, "type": kind, "source": kind, "options": options})
}

fn temporary(source: &str, at: &str, more: &[&str]) -> Value {
    let options: Vec<&str> = ["nosuid", "size=1m"].iter().chain(more).copied().collect();
    json!({"destination": at, "type": "tmpfs", "source": source, "options": options})
}

fn bound(source: &std::path::Path, at: &str) -> Value {
    json!({"destination": at, "type": "bind", "source": source, "options": ["rbind"]})
}

impl Verb {
    /// Whether the container is there before the hostile process comes.
    pub const fn is_exec(self) -> bool {
        matches!(self, Self::Exec | Self::ExecOnTerminal)
    }

    /// Whether the program's streams are a terminal.
    pub const fn on_terminal(self) -> bool {
        matches!(self, Self::RunOnTerminal | Self::ExecOnTerminal)
    }
}
