//! `linux.resources.memory`: the controller memory.

use oci_spec::runtime::LinuxMemory;

use super::{AboveUsage, Absent, Planning, not_in_v2};
use crate::error::{Error, Result};

const MEMORY: &str = "/linux/resources/memory";

pub(super) fn memory(plan: &mut Planning<'_>, memory: &LinuxMemory) -> Result<()> {
    refuse_what_v2_lacks(memory)?;
    let limit = Bytes::read("limit", memory.limit())?;
    swap(plan, limit, Bytes::read("swap", memory.swap())?)?;
    max(plan, "limit", "memory.max", limit)?;
    max(
        plan,
        "reservation",
        "memory.low",
        Bytes::read("reservation", memory.reservation())?,
    )?;
    if memory.check_before_update() == Some(true) {
        plan.changes.above_usage = Some(AboveUsage {
            memory: limit.limited(),
            memory_and_swap: Bytes::read("swap", memory.swap())?.limited(),
        });
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Bytes {
    /// Absent or 0: as it is.
    Unset,
    /// -1
    Unlimited,
    Limited(u64),
}

impl Bytes {
    fn read(field: &str, value: Option<i64>) -> Result<Self> {
        match value {
            None | Some(0) => Ok(Self::Unset),
            Some(-1) => Ok(Self::Unlimited),
            Some(bytes) => u64::try_from(bytes).map(Self::Limited).map_err(|_| {
                Error::spec(
                    format!("{MEMORY}/{field}"),
                    format!("{bytes} is no number of bytes"),
                )
            }),
        }
    }

    fn limited(self) -> Option<u64> {
        match self {
            Self::Limited(bytes) => Some(bytes),
            Self::Unset | Self::Unlimited => None,
        }
    }
}

fn max(plan: &mut Planning<'_>, field: &str, file: &str, bytes: Bytes) -> Result<()> {
    let pointer = format!("{MEMORY}/{field}");
    match bytes {
        Bytes::Unset => Ok(()),
        Bytes::Unlimited => {
            plan.default("memory", &pointer, file, "max");
            Ok(())
        }
        Bytes::Limited(bytes) => plan.limit("memory", &pointer, file, bytes.to_string()),
    }
}

/// OCI counts memory and swap together, v2 swap alone. Unlimited memory without a word about swap
/// means both, as it did on v1. Hosts without swap accounting lack the file: "no swap" and "any swap"
/// hold there too.
fn swap(plan: &mut Planning<'_>, limit: Bytes, swap: Bytes) -> Result<()> {
    const FILE: &str = "memory.swap.max";
    let pointer = format!("{MEMORY}/swap");
    let bytes = match (limit, swap) {
        (Bytes::Unlimited, Bytes::Unset) | (_, Bytes::Unlimited) => {
            plan.default("memory", &pointer, FILE, "max");
            return Ok(());
        }
        (_, Bytes::Unset) => return Ok(()),
        (Bytes::Unset, Bytes::Limited(_)) => {
            return Err(Error::spec(
                pointer,
                "unable to set swap limit without memory limit",
            ));
        }
        (Bytes::Unlimited, Bytes::Limited(both)) => both,
        (Bytes::Limited(memory), Bytes::Limited(both)) => both
            .checked_sub(memory)
            .ok_or_else(|| Error::spec(&*pointer, "memory+swap limit should be >= memory limit"))?,
    };
    let absent = if bytes == 0 {
        Absent::Skip
    } else {
        Absent::Refuse
    };
    plan.limit_or("memory", &pointer, FILE, bytes.to_string(), absent)
}

/// Values that state what v1 did by default are no wish; any other can't be fulfilled.
fn refuse_what_v2_lacks(memory: &LinuxMemory) -> Result<()> {
    #[allow(
        deprecated,
        reason = "a spec may still have it, and gets an error for it"
    )]
    let kernel = memory.kernel();
    for (name, value) in [("kernel", kernel), ("kernelTCP", memory.kernel_tcp())] {
        if !matches!(value, None | Some(-1 | 0)) {
            return Err(not_in_v2(
                &format!("{MEMORY}/{name}"),
                "kernel memory limit",
            ));
        }
    }
    if !matches!(memory.swappiness(), None | Some(60)) {
        return Err(not_in_v2(
            &format!("{MEMORY}/swappiness"),
            "swappiness of a cgroup",
        ));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(not_in_v2(
            &format!("{MEMORY}/disableOOMKiller"),
            "way to disable the OOM killer",
        ));
    }
    // useHierarchy: v2 is always hierarchical, and without sub-cgroups of ours false differs in nothing.
    Ok(())
}
