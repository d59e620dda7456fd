//! What a process has from the one that cloned it, and the program must not have from the shim.

use crate::raw::{self, Outcome, PrctlNumber, SchedAttr};

/// Back to what a process of a fresh system has. What is right already is not touched: setting it may
/// need a privilege that this process lacks.
pub fn reset() -> Outcome<()> {
    if raw::getpriority()? != 0 {
        raw::setpriority(0)?;
    }
    // IOPRIO_CLASS_NONE: as the nice value says.
    raw::ioprio_set(0)?;
    raw::prctl(
        PrctlNumber::SetTimerslack,
        [DEFAULT_TIMER_SLACK_NS, 0, 0, 0],
    )?;
    raw::personality(0)?;
    raw::prctl(PrctlNumber::SetThpDisable, [0; 4])?;
    if raw::prctl(PrctlNumber::GetSecurebits, [0; 4])? != 0 {
        raw::prctl(PrctlNumber::SetSecurebits, [0; 4])?;
    }
    Ok(())
}

const DEFAULT_TIMER_SLACK_NS: u64 = 50_000;

/// `sched_setattr`; `times` are runtime, deadline and period of SCHED_DEADLINE.
pub fn schedule(policy: u32, flags: u64, nice: i32, priority: u32, times: [u64; 3]) -> Outcome<()> {
    let [runtime, deadline, period] = times;
    raw::sched_setattr(&SchedAttr {
        size: 48,
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
    })
}

/// An empty mask means every CPU that the cgroup allows: the kernel cuts the bits it does not know.
pub fn affinity(mask: &[u64]) -> Outcome<()> {
    if mask.is_empty() {
        return raw::sched_setaffinity(&[u64::MAX; 128]);
    }
    raw::sched_setaffinity(mask)
}
