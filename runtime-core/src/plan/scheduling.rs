//! How a process is scheduled: CPU, I/O and memory policies as steps.

use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain,
    LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process,
    Scheduler,
};
use rsrun_init::step::Step;

use super::PlanStep;
use super::facts::ProcessDefaults;
use crate::error::{Error, Result};

/// The highest CPU or node number that is taken: far above what any kernel is built for (8192 CPUs),
/// low enough that a mask stays small.
const HIGHEST: u32 = 65_535;

/// Scheduler and I/O priority of a process.
pub(super) fn of_process(
    process: &Process,
    defaults: &ProcessDefaults,
    place: &str,
) -> Result<Vec<PlanStep>> {
    let scheduler = process.scheduler().as_ref().or(defaults.scheduler.as_ref());
    let priority = process
        .io_priority()
        .as_ref()
        .or(defaults.io_priority.as_ref());
    let scheduler = scheduler.map(|s| scheduler_step(s, &format!("{place}/scheduler")));
    let priority = priority.map(|p| io_priority_step(p, &format!("{place}/ioPriority")));
    scheduler.into_iter().chain(priority).collect()
}

fn scheduler_step(given: &Scheduler, place: &str) -> Result<PlanStep> {
    let policy = match given.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => {
            return Err(Error::unsupported(
                format!("{place}/policy"),
                format!("{place}/policy: no kernel has SCHED_ISO"),
            ));
        }
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let mut flags = 0;
    for flag in given.flags().iter().flatten() {
        flags |= match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x01,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
        };
    }
    check_scheduler(given, place)?;
    let priority = given.priority().unwrap_or(0);
    Ok(Step::Scheduler {
        policy,
        nice: given.nice().unwrap_or(0),
        priority: u32::try_from(priority)
            .map_err(|_| Error::spec(format!("{place}/priority"), "a priority is not negative"))?,
        flags,
        runtime: given.runtime().unwrap_or(0),
        deadline: given.deadline().unwrap_or(0),
        period: given.period().unwrap_or(0),
    })
}

/// What sched_setattr(2) would ignore or refuse without saying which field.
fn check_scheduler(given: &Scheduler, place: &str) -> Result<()> {
    use LinuxSchedulerPolicy::{SchedBatch, SchedDeadline, SchedFifo, SchedOther, SchedRr};
    let policy = *given.policy();
    let set = |value: &Option<u64>| value.is_some_and(|v| v != 0);
    let wrong = |field: &str, why: &str| {
        Err(Error::spec(
            format!("{place}/{field}"),
            format!("{why}, not of {policy}"),
        ))
    };
    if given.nice().is_some_and(|nice| !(-20..=19).contains(&nice)) {
        return Err(Error::spec(
            format!("{place}/nice"),
            "it is not between -20 and 19",
        ));
    }
    if given.nice().is_some_and(|nice| nice != 0) && !matches!(policy, SchedOther | SchedBatch) {
        return wrong("nice", "it is of SCHED_OTHER and SCHED_BATCH");
    }
    if given.priority().is_some_and(|p| p != 0) && !matches!(policy, SchedFifo | SchedRr) {
        return wrong("priority", "it is of SCHED_FIFO and SCHED_RR");
    }
    let times = set(given.runtime()) || set(given.deadline()) || set(given.period());
    if times && policy != SchedDeadline {
        return wrong(
            "runtime",
            "runtime, deadline and period are of SCHED_DEADLINE",
        );
    }
    Ok(())
}

fn io_priority_step(given: &LinuxIOPriority, place: &str) -> Result<PlanStep> {
    let class = match given.class() {
        IOPriorityClass::IoprioClassRt => 1_u32,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(given.priority()) {
        Ok(level) if level < 8 => Ok(Step::IoPriority {
            value: class << 13 | level,
        }),
        _ => Err(Error::spec(
            format!("{place}/priority"),
            format!("{} is not between 0 and 7", given.priority()),
        )),
    }
}

/// `linux.personality` as the argument of personality(2).
pub(super) fn personality(given: &LinuxPersonality) -> Result<u64> {
    if given
        .flags()
        .as_ref()
        .is_some_and(|flags| !flags.is_empty())
    {
        return Err(Error::spec(
            "/linux/personality/flags",
            "the specification defines no personality flags",
        ));
    }
    Ok(match given.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

/// `linux.memoryPolicy`: mode with its flags, and the nodes.
pub(super) fn memory_policy(given: &LinuxMemoryPolicy) -> Result<(u32, Vec<u64>)> {
    let mode = match given.mode() {
        MemoryPolicyModeType::MpolDefault => 0_u32,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let mut flags = 0;
    for flag in given.flags().iter().flatten() {
        flags |= match flag {
            MemoryPolicyFlagType::MpolFStaticNodes => 1_u32 << 15,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
        };
    }
    let place = "/linux/memoryPolicy/nodes";
    let nodes = match given.nodes().as_deref().map(str::trim) {
        None | Some("") => Vec::new(),
        Some(list) => mask_of(list, place)?,
    };
    let no_nodes_allowed = matches!(
        given.mode(),
        MemoryPolicyModeType::MpolDefault
            | MemoryPolicyModeType::MpolLocal
            | MemoryPolicyModeType::MpolPreferred
    );
    let takes_none = matches!(
        given.mode(),
        MemoryPolicyModeType::MpolDefault | MemoryPolicyModeType::MpolLocal
    );
    if !nodes.is_empty() && takes_none {
        return Err(Error::spec(
            place,
            format!("{} takes no nodes", given.mode()),
        ));
    }
    if nodes.is_empty() && !no_nodes_allowed {
        return Err(Error::spec(place, format!("{} needs nodes", given.mode())));
    }
    Ok((mode | flags, nodes))
}

/// A list such as `0-3,7` as a mask.
pub(super) fn mask_of(list: &str, place: &str) -> Result<Vec<u64>> {
    let wrong = |part: &str| Error::spec(place, format!("{part:?} is not a number or range"));
    let mut mask: Vec<u64> = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let number = digits.then(|| text.parse::<u32>().ok()).flatten();
            number.filter(|n| *n <= HIGHEST).ok_or_else(|| wrong(part))
        };
        let (first, last) = (number(first.trim())?, number(last.trim())?);
        if first > last {
            return Err(wrong(part));
        }
        for bit in first..=last {
            let word = (bit / 64) as usize;
            if mask.len() <= word {
                mask.resize(word + 1, 0);
            }
            mask[word] |= 1 << (bit % 64);
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_beyond_1024_are_masks_of_enough_words() {
        assert_eq!(mask_of("0-3,7", "").unwrap(), [0x8f]);
        assert_eq!(mask_of("64", "").unwrap(), [0, 1]);
        assert_eq!(mask_of("2047", "").unwrap().len(), 32);
        for bad in ["a", "3-1", "-1", "1-", "99999999999", "0x3", "+1", "1-2-3"] {
            assert!(mask_of(bad, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn io_priority_has_the_class_in_its_top_bits() {
        let given = serde_json::json!({"class": "IOPRIO_CLASS_RT", "priority": 4});
        let step = io_priority_step(&serde_json::from_value(given).unwrap(), "").unwrap();
        assert_eq!(step, Step::IoPriority { value: 1 << 13 | 4 });
        let given = serde_json::json!({"class": "IOPRIO_CLASS_BE", "priority": 8});
        assert!(io_priority_step(&serde_json::from_value(given).unwrap(), "").is_err());
    }

    #[test]
    fn a_memory_policy_may_lack_nodes_where_the_kernel_needs_none() {
        let policy = |json| memory_policy(&serde_json::from_value(json).unwrap());
        assert_eq!(
            policy(serde_json::json!({"mode": "MPOL_LOCAL"})).unwrap(),
            (4, vec![])
        );
        let bound = serde_json::json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
        assert_eq!(policy(bound).unwrap(), (2 | 1 << 15, vec![1]));
        assert!(policy(serde_json::json!({"mode": "MPOL_BIND"})).is_err());
    }
}
