//! What is refused of a spec as a whole, before any part of it is planned.

use oci_spec::runtime::{Process, Spec};

use super::text::key;
use crate::error::{Error, Result};
use crate::host::Host;

/// Version 1 of the specification, of whatever minor: later ones only add.
pub(super) fn version(version: &str) -> Result<()> {
    let place = "/ociVersion";
    if version.is_empty() {
        return Err(Error::spec(
            place,
            "the version of the specification is missing",
        ));
    }
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<Option<u32>> = core.split('.').map(|n| n.parse().ok()).collect();
    match numbers[..] {
        [Some(1), Some(_), Some(_)] => Ok(()),
        _ => Err(Error::spec(
            place,
            format!("version {version:?} of the specification is not supported: it is not 1.x.y"),
        )),
    }
}

/// What is not supported is named, never dropped.
pub(super) fn nothing_unsupported(spec: &Spec, host: &Host) -> Result<()> {
    let linux = spec.linux().as_ref();
    let net_devices = linux.and_then(|l| l.net_devices().as_ref());
    let label = linux.and_then(|l| l.mount_label().as_ref());
    let labelled = label.is_some_and(|label| !label.is_empty());
    let places = [
        (
            "/linux/intelRdt",
            linux.is_some_and(|l| l.intel_rdt().is_some()),
        ),
        ("/linux/mountLabel", labelled && !host.selinux),
        ("/solaris", spec.solaris().is_some()),
        ("/windows", spec.windows().is_some()),
        ("/vm", spec.vm().is_some()),
        ("/zos", spec.zos().is_some()),
    ];
    if let Some(name) = net_devices.and_then(|devices| devices.keys().min()) {
        let place = format!("/linux/netDevices/{}", key(name));
        let text = format!("{place}: moving network devices is not supported");
        return Err(Error::unsupported("/linux/netDevices", text));
    }
    for (place, given) in places {
        if given {
            return Err(Error::unsupported(
                place,
                format!("{place} is not supported"),
            ));
        }
    }
    Ok(())
}

/// `process.oomScoreAdj`, within what the kernel takes.
pub(super) fn oom_score_adj(process: &Process, place: &str) -> Result<Option<i32>> {
    match process.oom_score_adj() {
        Some(score) if !(-1000..=1000).contains(&score) => Err(Error::spec(
            place,
            format!("{score} is not between -1000 and 1000"),
        )),
        score => Ok(score),
    }
}
