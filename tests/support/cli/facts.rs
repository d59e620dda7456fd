//! What the probe saw inside a container, in words of the cases.
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;

/// The names of all capabilities in order of their numbers.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// All that `probe facts` printed.
#[derive(Debug, Clone)]
pub struct Facts(pub Value);

impl Facts {
    /// From the probe's line.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        Self(
            serde_json::from_str(text)
                .unwrap_or_else(|e| panic!("the probe printed {text:?}: {e}")),
        )
    }

    /// A fact by JSON pointer; it has to be there.
    #[track_caller]
    pub fn at(&self, pointer: &str) -> &Value {
        self.0
            .pointer(pointer)
            .unwrap_or_else(|| panic!("the probe knows no {pointer}"))
    }

    /// A fact that is a text.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> &str {
        let value = self.at(pointer);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{pointer} is {value}, not a text"))
    }

    /// A fact that is a number.
    #[track_caller]
    pub fn number(&self, pointer: &str) -> i64 {
        let value = self.at(pointer);
        value
            .as_i64()
            .unwrap_or_else(|| panic!("{pointer} is {value}, not a number"))
    }

    /// A fact that is a list of texts.
    #[track_caller]
    pub fn list(&self, pointer: &str) -> BTreeSet<String> {
        let value = self
            .at(pointer)
            .as_array()
            .unwrap_or_else(|| panic!("{pointer} is no list"));
        value
            .iter()
            .map(|v| v.as_str().map_or_else(|| v.to_string(), String::from))
            .collect()
    }

    /// A line of /proc/self/status, its words.
    #[track_caller]
    pub fn status(&self, key: &str) -> Vec<&str> {
        self.text(&format!("/status/{key}"))
            .split_whitespace()
            .collect()
    }

    /// A capability set of /proc/self/status, by names.
    #[track_caller]
    pub fn capabilities(&self, set: &str) -> BTreeSet<&'static str> {
        let bits = u64::from_str_radix(self.status(set)[0], 16).expect("hexadecimal");
        let names = CAPABILITIES
            .iter()
            .enumerate()
            .filter(|(n, _)| bits & (1 << n) != 0);
        names.map(|(_, name)| *name).collect()
    }

    /// Soft and hard limit; the names have no `RLIMIT_`.
    #[track_caller]
    pub fn rlimit(&self, name: &str) -> (u64, u64) {
        let pair = self.at(&format!("/rlimits/{name}"));
        (
            pair[0].as_u64().expect("soft"),
            pair[1].as_u64().expect("hard"),
        )
    }

    /// Every mount, in the kernel's order.
    #[track_caller]
    pub fn mounts(&self) -> Vec<Mount> {
        mounts(self.text("/mountinfo"))
    }

    /// The uppermost mount at a place.
    #[track_caller]
    pub fn mount(&self, point: &str) -> Mount {
        let all = self.mounts();
        let found = all.into_iter().rfind(|m| m.point == point);
        found
            .unwrap_or_else(|| panic!("nothing is mounted at {point}: {}", self.text("/mountinfo")))
    }

    /// Whether anything is mounted there.
    pub fn is_mounted(&self, point: &str) -> bool {
        self.mounts().iter().any(|m| m.point == point)
    }

    /// The link of a namespace, such as `pid:[4026531836]`.
    #[track_caller]
    pub fn ns(&self, kind: &str) -> &str {
        self.text(&format!("/ns/{kind}"))
    }
}

/// The link of a namespace of a process of the host, in the words of [`Facts::ns`].
#[track_caller]
pub fn namespace_of(pid: impl Display, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a link");
    link.to_string_lossy().into_owned()
}

/// One line of mountinfo.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Device of its file system, `MAJOR:MINOR`.
    pub device: String,
    /// Root of the mount within its file system.
    pub root: String,
    /// Where it is mounted.
    pub point: String,
    /// Options of this mount.
    pub options: BTreeSet<String>,
    /// `shared:N`, `master:N`, `unbindable`.
    pub propagation: Vec<String>,
    /// Type of the file system.
    pub kind: String,
    /// What was mounted.
    pub source: String,
    /// Options of the file system.
    pub fs_options: BTreeSet<String>,
}

impl Mount {
    /// Whether an option of the mount itself is set.
    pub fn has(&self, option: &str) -> bool {
        self.options.contains(option)
    }

    /// Whether an option of the file system is set.
    pub fn fs_has(&self, option: &str) -> bool {
        self.fs_options.contains(option)
    }
}

/// The mounts of a mountinfo.
pub fn mounts(text: &str) -> Vec<Mount> {
    let set = |words: &str| words.split(',').map(String::from).collect();
    let parse = |line: &str| -> Option<Mount> {
        let (head, tail) = line.split_once(" - ")?;
        let head: Vec<&str> = head.split(' ').collect();
        let mut tail = tail.splitn(3, ' ');
        Some(Mount {
            device: (*head.get(2)?).to_string(),
            root: (*head.get(3)?).to_string(),
            point: (*head.get(4)?).to_string(),
            options: set(head.get(5)?),
            propagation: head
                .get(6..)
                .unwrap_or_default()
                .iter()
                .map(|w| (*w).to_string())
                .collect(),
            kind: tail.next()?.to_string(),
            source: tail.next()?.to_string(),
            fs_options: set(tail.next()?),
        })
    };
    text.lines().filter_map(parse).collect()
}
