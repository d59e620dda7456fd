//! `linux.resources.blockIO`: the controller io.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

use super::{Absent, Planning, not_in_v2};
use crate::error::{Error, Result};

const BLOCK_IO: &str = "/linux/resources/blockIO";

pub(super) fn block_io(plan: &mut Planning<'_>, io: &LinuxBlockIo) -> Result<()> {
    if !matches!(io.leaf_weight(), None | Some(0)) {
        return Err(not_in_v2(&format!("{BLOCK_IO}/leafWeight"), "leaf weight"));
    }
    weight(plan, &format!("{BLOCK_IO}/weight"), "", io.weight())?;
    for (index, device) in io.weight_device().iter().flatten().enumerate() {
        let pointer = format!("{BLOCK_IO}/weightDevice/{index}");
        if !matches!(device.leaf_weight(), None | Some(0)) {
            return Err(not_in_v2(&format!("{pointer}/leafWeight"), "leaf weight"));
        }
        let number = device_number(&pointer, device.major(), device.minor())?;
        weight(
            plan,
            &format!("{pointer}/weight"),
            &format!("{number} "),
            device.weight(),
        )?;
    }
    for (name, key, devices) in [
        (
            "throttleReadBpsDevice",
            "rbps",
            io.throttle_read_bps_device(),
        ),
        (
            "throttleWriteBpsDevice",
            "wbps",
            io.throttle_write_bps_device(),
        ),
        (
            "throttleReadIOPSDevice",
            "riops",
            io.throttle_read_iops_device(),
        ),
        (
            "throttleWriteIOPSDevice",
            "wiops",
            io.throttle_write_iops_device(),
        ),
    ] {
        throttle(
            plan,
            &format!("{BLOCK_IO}/{name}"),
            key,
            devices.as_deref().unwrap_or_default(),
        )?;
    }
    Ok(())
}

/// BFQ's own weight where that scheduler is in the kernel, or else iocost's on its longer scale.
fn weight(plan: &mut Planning<'_>, pointer: &str, device: &str, weight: Option<u16>) -> Result<()> {
    match weight {
        None | Some(0) => Ok(()),
        Some(weight @ 10..=1000) => {
            let converted = format!("{device}{}", io_weight(weight));
            let absent = Absent::Instead("io.weight".into(), converted);
            plan.limit_or(
                "io",
                pointer,
                "io.bfq.weight",
                format!("{device}{weight}"),
                absent,
            )
        }
        Some(weight) => Err(Error::spec(
            pointer,
            format!("weight {weight} is not in 10..1000"),
        )),
    }
}

/// blkio.weight [10, 1000] to io.weight [1, 10000], linear as in runc.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

/// 0 takes a limit away, as it did on v1; v2 calls that "max".
fn throttle(
    plan: &mut Planning<'_>,
    list: &str,
    key: &str,
    devices: &[LinuxThrottleDevice],
) -> Result<()> {
    for (index, device) in devices.iter().enumerate() {
        let pointer = format!("{list}/{index}");
        let number = device_number(&pointer, device.major(), device.minor())?;
        match device.rate() {
            0 => plan.default("io", &pointer, "io.max", &format!("{number} {key}=max")),
            rate => plan.limit("io", &pointer, "io.max", format!("{number} {key}={rate}"))?,
        }
    }
    Ok(())
}

fn device_number(pointer: &str, major: i64, minor: i64) -> Result<String> {
    if u32::try_from(major).is_err() || u32::try_from(minor).is_err() {
        return Err(Error::spec(
            pointer,
            format!("{major}:{minor} is no device number"),
        ));
    }
    Ok(format!("{major}:{minor}"))
}
