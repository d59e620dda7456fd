//! The record: facts about one container, as they lie in `state.json`.
//!
//! Facts only: what a container *is* at the moment is derived from them (`status`). Written twice:
//! the intent before anything is made, the pid when its init stands at the gate.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::plan::{ContainerHooks, ExecFacts};

/// Raised when a reader of an older program would misunderstand what is written.
pub const FORMAT: u32 = 1;

/// What is known of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Format version of this record.
    pub format: u32,
    /// Version of the OCI runtime specification that its config.json states.
    pub oci_version: String,
    /// Its name.
    pub id: String,
    /// The bundle.
    pub bundle: PathBuf,
    /// Its root filesystem on the host.
    pub rootfs: PathBuf,
    /// Annotations of config.json.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// When it was created.
    pub created: SystemTime,
    /// `/proc/sys/kernel/random/boot_id`: facts of an earlier boot name nothing today.
    pub boot_id: String,
    /// Its cgroup, as soon as it is made.
    #[serde(default)]
    pub cgroup: Option<CgroupFacts>,
    /// Its init, once that stands at the gate, or is born where there is none: `pid` and `startTime` of the document.
    #[serde(flatten)]
    pub init: Option<InitFacts>,
    /// Name of the group of containers that its shim serves together.
    #[serde(default)]
    pub group: Option<String>,
    /// Mount points of its root filesystem that its creator made and a clean-up has to unmount.
    #[serde(default)]
    pub rootfs_mounts: Vec<PathBuf>,
    /// Hooks that are still due: startContainer, poststart, poststop.
    #[serde(default)]
    pub hooks: ContainerHooks,
    /// What exec needs to know.
    pub exec: ExecFacts,
    /// Its pid namespace is its own.
    pub has_private_pid_namespace: bool,
    /// The steps behind the gate in words, for an error of a start that did not make the plan. None without a gate.
    #[serde(default)]
    pub steps_after_gate: BTreeMap<u32, String>,
    /// `args[0]` of its process, for the same.
    #[serde(default)]
    pub program: String,
    /// config.json's `process`, which exec on the command line starts from.
    #[serde(default)]
    pub process: serde_json::Value,
    /// The real uid of who created it.
    #[serde(default)]
    pub owner: u32,
}

/// Where its cgroup is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupFacts {
    /// Path below the cgroup2 mount's root.
    pub path: String,
    /// Inode of its directory (a later cgroup of the same path is another one); `None` while it is
    /// only intended.
    pub inode: Option<u64>,
}

/// Which process its init is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitFacts {
    /// Host pid.
    pub pid: i32,
    /// Start time in clock ticks after boot: with the pid it names the process for good.
    pub start_time: u64,
}

impl Record {
    /// Whether its init waits for a start.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        !self.steps_after_gate.is_empty()
    }

    /// Reads it; an error says what is wrong.
    pub fn parse(text: &[u8]) -> std::result::Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version = serde_json::from_slice(text).map_err(|e| format!("damaged: {e}"))?;
        if version.format > FORMAT {
            return Err(format!(
                "format {} is newer than {FORMAT}, which this program knows",
                version.format
            ));
        }
        serde_json::from_slice(text).map_err(|e| format!("damaged: {e}"))
    }

    /// Its text.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("write the record: {e}")))
    }
}
