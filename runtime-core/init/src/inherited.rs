//! What a process has from the one that cloned it, and the program must not have from the shim.

use core::ffi::CStr;

use crate::raw::{self, Outcome, PrctlNumber, SchedAttr};

/// Back to what a process of a fresh system has. What is right already is not touched: setting it may
/// need a privilege that this process lacks.
pub fn reset() -> Outcome<()> {
    raw::set_name(NAME)?;
    match raw::getpriority()? {
        0 => {}
        // From a nice shim back to 0 is for CAP_SYS_NICE of the host, which this process may not have
        // (user namespace, exec): then it stays as nice as with runc, which never changes it.
        _ => match raw::setpriority(0) {
            Err(failed) if !matches!(failed.errno, libc::EACCES | libc::EPERM) => {
                return Err(failed);
            }
            _ => {}
        },
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

/// Whoever looks for the shim by its name must not find its containers.
const NAME: &CStr = c"rsrun:init";

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
