//! `linux.resources.cpu`: the controllers cpu and cpuset.

use oci_spec::runtime::LinuxCpu;

use super::{Absent, Planning, Value, lacking, not_in_v2};
use crate::error::{Error, Result};

const CPU: &str = "/linux/resources/cpu";

/// The kernel's default period, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

pub(super) fn cpu(plan: &mut Planning<'_>, cpu: &LinuxCpu) -> Result<()> {
    idle_and_shares(plan, cpu)?;
    bandwidth(plan, cpu)?;
    realtime(cpu)?;
    for (name, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        let list = list.as_deref().unwrap_or_default().trim();
        if !list.is_empty() {
            let pointer = format!("{CPU}/{name}");
            plan.limit(
                "cpuset",
                &pointer,
                &format!("cpuset.{name}"),
                list.to_owned(),
            )?;
        }
    }
    Ok(())
}

/// The kernel takes no weight for an idle cgroup (EINVAL), so it gets the weight while it is not.
fn idle_and_shares(plan: &mut Planning<'_>, cpu: &LinuxCpu) -> Result<()> {
    let pointer = format!("{CPU}/idle");
    match cpu.idle() {
        Some(0) => {
            plan.default("cpu", &pointer, "cpu.idle", "0");
            shares(plan, cpu)
        }
        Some(1) => {
            shares(plan, cpu)?;
            plan.limit("cpu", &pointer, "cpu.idle", "1".into())
        }
        Some(other) => Err(Error::spec(pointer, format!("{other} is neither 0 nor 1"))),
        None => shares(plan, cpu),
    }
}

fn shares(plan: &mut Planning<'_>, cpu: &LinuxCpu) -> Result<()> {
    let pointer = format!("{CPU}/shares");
    match cpu.shares() {
        None | Some(0) => Ok(()),
        Some(1024) => {
            plan.default("cpu", &pointer, "cpu.weight", "100");
            Ok(())
        }
        Some(shares) => plan.limit("cpu", &pointer, "cpu.weight", weight(shares).to_string()),
    }
}

/// cpu.shares [2, 262144], default 1024, to cpu.weight [1, 10000], default 100.
///
/// The quadratic of runc since 1.3.2 and of the kubelet since 1.35 (it fits minimum, default and maximum
/// of both scales), not the linear one before it, which made the default 39:
/// `weight = ceil(10 ^ ((l² + 125 l) / 612 - 7 / 34))` where `l = log2(shares)`.
pub(super) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        3..262_144 => {
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "shares are below 2^18 and the weight is between 1 and 10000"
            )]
            {
                let l = (shares as f64).log2();
                let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
                10_f64.powf(exponent).ceil() as u64
            }
        }
        262_144.. => 10_000,
    }
}

/// quota and period are one file; the kernel keeps the period when only the quota is written.
fn bandwidth(plan: &mut Planning<'_>, cpu: &LinuxCpu) -> Result<()> {
    let quota_at = format!("{CPU}/quota");
    let quota = match cpu.quota() {
        None | Some(0) => None,
        Some(-1) => Some("max".to_owned()),
        Some(quota) if quota > 0 => Some(quota.to_string()),
        Some(quota) => return Err(Error::spec(quota_at, format!("{quota} is no quota"))),
    };
    match (quota, cpu.period().filter(|period| *period != 0)) {
        (None, None) => {}
        (Some(quota), None) if quota == "max" => plan.default("cpu", &quota_at, "cpu.max", "max"),
        (Some(quota), None) => plan.limit("cpu", &quota_at, "cpu.max", quota)?,
        (Some(quota), Some(DEFAULT_PERIOD)) if quota == "max" => {
            plan.default(
                "cpu",
                &quota_at,
                "cpu.max",
                &format!("max {DEFAULT_PERIOD}"),
            );
        }
        (Some(quota), Some(period)) => {
            plan.limit("cpu", &quota_at, "cpu.max", format!("{quota} {period}"))?;
        }
        (None, Some(period)) => period_alone(plan, period)?,
    }
    burst(plan, cpu)
}

fn period_alone(plan: &mut Planning<'_>, period: u64) -> Result<()> {
    let pointer = format!("{CPU}/period");
    if plan.controllers.has("cpu") {
        let value = Value::AfterFirstWord(period.to_string());
        plan.push(&pointer, "cpu.max", value, Absent::Refuse);
        Ok(())
    } else if period == DEFAULT_PERIOD {
        Ok(())
    } else {
        Err(lacking(&pointer, "cpu", plan.controllers))
    }
}

fn burst(plan: &mut Planning<'_>, cpu: &LinuxCpu) -> Result<()> {
    let pointer = format!("{CPU}/burst");
    match cpu.burst() {
        None => Ok(()),
        Some(0) => {
            plan.default("cpu", &pointer, "cpu.max.burst", "0");
            Ok(())
        }
        Some(burst) => plan.limit("cpu", &pointer, "cpu.max.burst", burst.to_string()),
    }
}

/// Cgroup v2 can't group realtime processes; 0 and the default period only state so.
fn realtime(cpu: &LinuxCpu) -> Result<()> {
    if !matches!(cpu.realtime_runtime(), None | Some(0)) {
        return Err(not_in_v2(
            &format!("{CPU}/realtimeRuntime"),
            "realtime runtime",
        ));
    }
    if !matches!(cpu.realtime_period(), None | Some(0 | 1_000_000)) {
        return Err(not_in_v2(
            &format!("{CPU}/realtimePeriod"),
            "realtime period",
        ));
    }
    Ok(())
}
