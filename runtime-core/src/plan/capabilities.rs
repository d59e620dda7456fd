//! Which capabilities a process keeps, as 64-bit masks.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use rsrun_init::step::CapabilitySets;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Names by number, as in `<linux/capability.h>` (41 of them since Linux 5.9).
pub const CAPABILITY_NAMES: [&str; 41] = [
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

pub(super) const CHOWN: u64 = 1 << 0;
pub(super) const SETGID: u64 = 1 << 6;
pub(super) const SETUID: u64 = 1 << 7;
pub(super) const SETPCAP: u64 = 1 << 8;
pub(super) const SYS_ADMIN: u64 = 1 << 21;
pub(super) const SYS_NICE: u64 = 1 << 23;

/// The five sets of a process. All empty is what a process without `capabilities` gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sets {
    /// CapBnd
    pub bounding: u64,
    /// CapEff
    pub effective: u64,
    /// CapPrm
    pub permitted: u64,
    /// CapInh
    pub inheritable: u64,
    /// CapAmb
    pub ambient: u64,
}

impl Sets {
    /// Reads the sets. Capabilities that this kernel does not know are left out with a warning, as
    /// the specification wants; sets that capset(2) would refuse are an error.
    pub(super) fn read(
        given: &LinuxCapabilities,
        last: u32,
        place: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let mut mask = |set: &Option<Capabilities>, name: &str| {
            let asked = set.iter().flatten().fold(0, |mask, c| mask | bit(*c));
            let known = (1_u64 << (last.min(62) + 1)) - 1;
            if asked & !known != 0 {
                warnings.push(format!(
                    "{place}/{name}: left out, unknown to this kernel: {}",
                    words(asked & !known)
                ));
            }
            asked & known
        };
        let mut sets = Self {
            bounding: mask(given.bounding(), "bounding"),
            effective: mask(given.effective(), "effective"),
            permitted: mask(given.permitted(), "permitted"),
            inheritable: mask(given.inheritable(), "inheritable"),
            ambient: mask(given.ambient(), "ambient"),
        };
        sets.check(place)?;
        // An ambient capability has to be permitted and inheritable; others are warned about by the
        // peers too, for specs made before that was known.
        let possible = sets.permitted & sets.inheritable;
        if sets.ambient & !possible != 0 {
            warnings.push(format!(
                "{place}/ambient: left out, neither permitted nor inheritable: {}",
                words(sets.ambient & !possible)
            ));
            sets.ambient &= possible;
        }
        Ok(sets)
    }

    fn check(&self, place: &str) -> Result<()> {
        let excess = self.effective & !self.permitted;
        if excess != 0 {
            return Err(Error::spec(
                format!("{place}/effective"),
                format!("effective but not permitted: {}", words(excess)),
            ));
        }
        let excess = self.inheritable & !self.bounding;
        if excess != 0 {
            return Err(Error::spec(
                format!("{place}/inheritable"),
                format!("inheritable but not in the bounding set: {}", words(excess)),
            ));
        }
        Ok(())
    }

    /// The sets that capset and the ambient prctl take.
    pub(super) fn last(&self) -> CapabilitySets {
        CapabilitySets {
            effective: self.effective,
            permitted: self.permitted,
            inheritable: self.inheritable,
            ambient: self.ambient,
        }
    }

    /// Every capability that some set names.
    pub(super) fn union(&self) -> u64 {
        self.bounding | self.effective | self.permitted | self.inheritable | self.ambient
    }
}

/// A mask in words: `CAP_CHOWN,CAP_KILL`, or `none`.
pub(super) fn words(mask: u64) -> String {
    if mask == 0 {
        return "none".into();
    }
    let name = |number: usize| match CAPABILITY_NAMES.get(number) {
        Some(name) => (*name).to_owned(),
        None => format!("CAP_{number}"),
    };
    (0..64)
        .filter(|number| mask >> number & 1 == 1)
        .map(name)
        .collect::<Vec<_>>()
        .join(",")
}

fn bit(capability: Capability) -> u64 {
    let name = format!("CAP_{capability}");
    let number = CAPABILITY_NAMES.iter().position(|known| *known == name);
    // The crate knows no name that the table lacks (a test goes through all of them).
    number.map_or(0, |number| 1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> (Result<Sets>, Vec<String>) {
        let given: LinuxCapabilities = serde_json::from_value(json).unwrap();
        let mut warnings = Vec::new();
        let sets = Sets::read(&given, 40, "/process/capabilities", &mut warnings);
        (sets, warnings)
    }

    #[test]
    fn every_capability_has_its_number() {
        for (number, name) in CAPABILITY_NAMES.iter().enumerate() {
            let parsed: Capability = serde_json::from_value((*name).into()).unwrap();
            assert_eq!(bit(parsed), 1 << number, "{name}");
        }
    }

    #[test]
    fn capabilities_beyond_the_kernels_last_are_left_out_with_a_warning() {
        let given = serde_json::json!({"bounding": ["CAP_KILL", "CAP_BPF"]});
        let given: LinuxCapabilities = serde_json::from_value(given).unwrap();
        let mut warnings = Vec::new();
        let sets = Sets::read(&given, 37, "/process/capabilities", &mut warnings).unwrap();
        assert_eq!(sets.bounding, 1 << 5);
        assert!(warnings[0].contains("CAP_BPF"), "{warnings:?}");
    }

    #[test]
    fn an_ambient_capability_that_is_not_inheritable_is_left_out_with_a_warning() {
        let all = ["CAP_KILL"];
        let (sets, warnings) = read(serde_json::json!({
            "bounding": all, "effective": all, "permitted": all, "ambient": all,
        }));
        assert_eq!(sets.unwrap().ambient, 0);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn effective_beyond_permitted_is_refused() {
        let (sets, _) = read(serde_json::json!({"effective": ["CAP_KILL"]}));
        assert!(
            sets.unwrap_err()
                .to_string()
                .starts_with("/process/capabilities/effective")
        );
    }
}
