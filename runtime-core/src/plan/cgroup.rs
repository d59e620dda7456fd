//! Which limits and device rules a container asks of its cgroup.
//!
//! Limits are handed on as they are; the cgroup module turns them into writes and judges rules and
//! path, with the same pointers.

use oci_spec::runtime::{
    LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources, Spec,
};

/// What the cgroup module is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CgroupRequest {
    /// `linux.cgroupsPath` as it is; `None` where it is missing or empty.
    pub path: Option<String>,
    /// Limits as they are in the spec.
    pub resources: Option<LinuxResources>,
    /// Device rules in order: those of the spec, then the default ones.
    pub devices: Vec<LinuxDeviceCgroup>,
}

/// Reads `linux.cgroupsPath` and `linux.resources`.
pub(super) fn request(spec: &Spec) -> CgroupRequest {
    let linux = spec.linux().as_ref();
    let path = linux.and_then(|l| l.cgroups_path().as_deref());
    let path = path.map(|path| path.to_string_lossy().into_owned());
    let resources = linux.and_then(|l| l.resources().clone());
    let given = resources.as_ref().and_then(|r| r.devices().clone());
    let given = given.unwrap_or_default();
    CgroupRequest {
        path: path.filter(|path| !path.is_empty()),
        devices: given.into_iter().chain(default_device_rules()).collect(),
        resources,
    }
}

/// What every container may do with devices, after the rules of its spec: make any node, and use
/// the default ones and terminals.
#[must_use]
pub fn default_device_rules() -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{B, C};
    let rules: [(LinuxDeviceType, Option<i64>, Option<i64>, &str); 10] = [
        (C, None, None, "m"),
        (B, None, None, "m"),
        (C, Some(1), Some(3), "rwm"),
        (C, Some(1), Some(5), "rwm"),
        (C, Some(1), Some(7), "rwm"),
        (C, Some(1), Some(8), "rwm"),
        (C, Some(1), Some(9), "rwm"),
        (C, Some(5), Some(0), "rwm"),
        (C, Some(5), Some(2), "rwm"),
        (C, Some(136), None, "rwm"),
    ];
    let rule = |(kind, major, minor, access): (LinuxDeviceType, Option<i64>, Option<i64>, &str)| {
        let mut rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(kind)
            .access(access)
            .build()
            .unwrap_or_default();
        rule.set_major(major).set_minor(minor);
        rule
    };
    rules.into_iter().map(rule).collect()
}
