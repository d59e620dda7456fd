//! What a plan is made from beyond the spec, and what is handed on with it.

use std::ffi::CString;
use std::path::PathBuf;

use nix::errno::Errno;
use oci_spec::runtime::{ExecCPUAffinity, Hook, LinuxIOPriority, Scheduler};
use rsrun_init::step::{FilterLine, Step};
use serde::{Deserialize, Serialize};

use super::capabilities::Sets;
use super::{CgroupRequest, IdMaps, Plan, PlanStep};
use crate::error::errno_text;

/// What create needs to know beyond config.json and the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateFacts {
    /// Name of the container.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Overrides `process.terminal`.
    pub terminal: Option<bool>,
    /// Root is an initramfs: no pivot_root.
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors 3 … 3+n-1 of the caller are inherited.
    pub preserve_fds: u32,
    /// Use the systemd cgroup driver.
    pub systemd_cgroup: bool,
    /// Its program follows at once, without a gate, unless something has to be done in between: for a terminal or for
    /// startContainer hooks.
    pub starts_at_once: bool,
    /// Home directory of the process's user in the container's /etc/passwd (`passwd::home_below`).
    pub home: Option<String>,
    /// `linux.seccomp`, compiled (`seccomp::compile`).
    pub seccomp: Option<SeccompProgram>,
    /// CLONE_NEW* bits of those listed namespace paths that lead to our own namespaces.
    pub own_namespaces: u64,
}

/// A compiled seccomp profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProgram {
    /// Classic BPF.
    #[serde(with = "super::facts::lines")]
    pub lines: Vec<FilterLine>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// What becomes of the notification descriptor; `None` without SCMP_ACT_NOTIFY.
    pub listener: Option<Listener>,
}

/// The agent of a profile with SCMP_ACT_NOTIFY.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Unix socket that takes the descriptor; without one the caller of create gets it.
    pub path: Option<PathBuf>,
    /// Opaque text sent along.
    pub metadata: Option<String>,
}

/// A container's plan and all that goes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerPlan {
    /// The init.
    pub init: Plan,
    /// Hooks of every kind, in order.
    pub hooks: ContainerHooks,
    /// Where it runs and with which limits.
    pub cgroup: CgroupRequest,
    /// The program in words, for errors.
    pub program: ProgramWords,
    /// What a later exec needs to know.
    pub exec: ExecFacts,
    /// Its pid namespace is its own: the kernel ends all of it with the init.
    pub has_private_pid_namespace: bool,
    /// What was asked for, is not known to this kernel, and is left out as the specification says.
    pub warnings: Vec<String>,
}

impl ContainerPlan {
    /// Whether the init waits for a start.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        let gate = |step: &PlanStep| matches!(step, Step::Gate { .. });
        self.init.steps.iter().any(gate)
    }
}

/// Hooks by kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerHooks {
    /// On the host, after the namespaces were made, before pivot_root; deprecated.
    pub prestart: Vec<Hook>,
    /// On the host, after the namespaces were made, before pivot_root.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before pivot_root, found on the host.
    pub create_container: Vec<Hook>,
    /// In the container, before its program.
    pub start_container: Vec<Hook>,
    /// On the host, after its program was started.
    pub poststart: Vec<Hook>,
    /// On the host, after it was deleted.
    pub poststop: Vec<Hook>,
}

/// What exec needs to know of the container; kept in its record, as config.json may change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecFacts {
    /// Name of the container.
    pub id: String,
    /// CLONE_NEW* bits of the namespaces that it does not share with the host.
    pub namespaces: u64,
    /// Maps of its user namespace.
    pub maps: IdMaps,
    /// Its seccomp profile.
    pub seccomp: Option<SeccompProgram>,
    /// No session keyring of its own.
    pub no_new_keyring: bool,
    /// `linux.personality` as the argument of personality(2).
    pub personality: Option<u64>,
    /// `linux.memoryPolicy`: mode with flags, nodes.
    pub memory_policy: Option<(u32, Vec<u64>)>,
    /// `process.oomScoreAdj`.
    pub oom_score_adj: Option<i32>,
    /// Defaults for what the exec's process leaves out.
    pub defaults: ProcessDefaults,
}

/// Settings of the container's process that hold for an exec which has none of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessDefaults {
    /// Capabilities.
    pub capabilities: Option<Sets>,
    /// Resource limits: resource, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// SELinux label.
    pub selinux: Option<String>,
    /// Scheduler.
    pub scheduler: Option<Scheduler>,
    /// I/O priority.
    pub io_priority: Option<LinuxIOPriority>,
    /// CPUs.
    pub affinity: Option<ExecCPUAffinity>,
    /// umask.
    pub umask: Option<u32>,
}

/// What exec is asked for beyond its process document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecAsk {
    /// Overrides `process.terminal`.
    pub terminal: Option<bool>,
    /// Descriptors 3 … 3+n-1 of the caller are inherited.
    pub preserve_fds: u32,
    /// Home directory of the user in the container's /etc/passwd.
    pub home: Option<String>,
}

/// The plan of one process that is no container's init.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessPlan {
    /// What it does.
    pub plan: Plan,
    /// The program in words, for errors.
    pub program: ProgramWords,
    /// See [`ContainerPlan::warnings`].
    pub warnings: Vec<String>,
}

/// A program in words: as it was asked for, and where it is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramWords {
    /// `args[0]`.
    pub name: String,
    /// Where it may be.
    pub candidates: Vec<CString>,
}

impl ProgramWords {
    /// Why it could not be found or executed, in the words that clients look for.
    #[must_use]
    pub fn failure(&self, errno: Errno) -> String {
        let Self { name, .. } = self;
        match errno {
            Errno::ENOENT if !name.contains('/') => {
                format!("exec: \"{name}\": executable file not found in $PATH")
            }
            Errno::ENOENT => format!("exec: \"{name}\": stat {name}: no such file or directory"),
            other => format!("exec: \"{name}\": {}", errno_text(other)),
        }
    }
}

/// A filter as one hexadecimal text: eight bytes a line, `code jt jf k`.
pub(super) mod lines {
    use super::FilterLine;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::plan) fn serialize<S: Serializer>(
        lines: &[FilterLine],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        // By hand: the formatting machinery takes ten times as long, in each create.
        let digit = |nibble: u64| char::from(b"0123456789abcdef"[(nibble & 15) as usize]);
        let mut text = String::with_capacity(lines.len() * 16);
        for line in lines {
            let head = u64::from(line.code) << 48 | u64::from(line.jt) << 40;
            let whole = head | u64::from(line.jf) << 32 | u64::from(line.k);
            text.extend((0..16).rev().map(|at| digit(whole >> (at * 4))));
        }
        to.serialize_str(&text)
    }

    pub(in crate::plan) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<FilterLine>, D::Error> {
        let text = String::deserialize(from)?;
        if !text.is_ascii() || text.len() % 16 != 0 {
            return Err(D::Error::custom("a filter is 16 hexadecimal digits a line"));
        }
        let number = |start: usize, digits: usize| {
            u32::from_str_radix(&text[start..start + digits], 16).map_err(D::Error::custom)
        };
        let line = |start: usize| {
            Ok(FilterLine {
                code: number(start, 4)? as u16,
                jt: number(start + 4, 2)? as u8,
                jf: number(start + 6, 2)? as u8,
                k: number(start + 8, 8)?,
            })
        };
        (0..text.len()).step_by(16).map(line).collect()
    }
}
