//! Which limits and device rules a container asks of its cgroup, and which place.
//!
//! Limits are handed on as they are; the cgroup module turns them into writes and judges rules, with the same
//! pointers. What is wrong with the path in itself is said before anything is made; where a relative one begins
//! only the host knows.

use oci_spec::runtime::{
    LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources, Mount, Spec,
};

use super::namespaces::{CGROUP, Namespaces};
use super::{CreateFacts, IdMaps};
use crate::cgroup::{self, Driver};
use crate::error::Result;

/// What the cgroup module is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CgroupRequest {
    /// Who makes it.
    pub driver: Driver,
    /// `linux.cgroupsPath` as it is; `None` where it is missing or empty.
    pub path: Option<String>,
    /// Limits as they are in the spec.
    pub resources: Option<LinuxResources>,
    /// Device rules in order: those of the spec, then the default ones.
    pub devices: Vec<LinuxDeviceCgroup>,
    /// Host id of the user that the cgroup is given to, if it is to be managed from inside.
    pub owner: Option<u32>,
}

/// Reads `linux.cgroupsPath` and `linux.resources`.
pub(super) fn request(
    spec: &Spec,
    facts: &CreateFacts,
    namespaces: &Namespaces,
    maps: &IdMaps,
) -> Result<CgroupRequest> {
    let linux = spec.linux().as_ref();
    let path = linux.and_then(|l| l.cgroups_path().as_deref());
    let path = path.map(|path| path.to_string_lossy().into_owned());
    let resources = linux.and_then(|l| l.resources().clone());
    let given = resources.as_ref().and_then(|r| r.devices().clone());
    let given = given.unwrap_or_default();
    let driver = match facts.systemd_cgroup {
        true => Driver::Systemd,
        false => Driver::Cgroupfs,
    };
    cgroup::check(driver, path.as_deref())?;
    Ok(CgroupRequest {
        driver,
        path: path.filter(|path| !path.is_empty()),
        devices: given.into_iter().chain(default_device_rules()).collect(),
        resources,
        owner: owner(spec, namespaces, maps),
    })
}

/// The process's user, where the container has a cgroup namespace of its own and may write to the
/// hierarchy in it ("cgroup ownership" in config-linux.md).
fn owner(spec: &Spec, namespaces: &Namespaces, maps: &IdMaps) -> Option<u32> {
    let mounts = spec.mounts().iter().flatten();
    if namespaces.new & CGROUP == 0 || !mounts.into_iter().any(is_writable_hierarchy) {
        return None;
    }
    let uid = spec.process().as_ref()?.user().uid();
    let outside = match maps.uid.as_slice() {
        [] => Some(uid),
        ranges => ranges.iter().find_map(|range| {
            let offset = uid.checked_sub(range.inside)?;
            (offset < range.count).then(|| range.outside.checked_add(offset))?
        }),
    };
    // Root's it is already.
    outside.filter(|uid| *uid != 0)
}

fn is_writable_hierarchy(mount: &Mount) -> bool {
    let kind = mount.typ().as_deref().unwrap_or_default();
    let there = mount
        .destination()
        .components()
        .eq(std::path::Path::new("/sys/fs/cgroup").components());
    let options = mount.options().iter().flatten().rev();
    let last = options
        .map(String::as_str)
        .find(|word| matches!(*word, "ro" | "rw"));
    there && matches!(kind, "cgroup" | "cgroup2") && last != Some("ro")
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{CGROUP, IdMaps, Namespaces, Spec, owner};
    use crate::plan::IdRange;

    fn spec(uid: u32, options: &[&str]) -> Spec {
        let document = json!({
            "ociVersion": "1.2.0",
            "process": {"cwd": "/", "args": ["x"], "user": {"uid": uid, "gid": 0}},
            "mounts": [{"destination": "/sys/fs/cgroup/", "type": "cgroup", "source": "cgroup", "options": options}],
        });
        serde_json::from_value(document).expect("a spec")
    }

    fn mapped() -> IdMaps {
        let range = |inside, outside, count| IdRange {
            inside,
            outside,
            count,
        };
        IdMaps {
            uid: vec![range(0, 100_000, 10), range(10, 500_000, 5)],
            gid: Vec::new(),
        }
    }

    fn namespaces(new: u64) -> Namespaces {
        Namespaces {
            new,
            ..Namespaces::default()
        }
    }

    #[test]
    fn a_writable_hierarchy_of_its_own_is_given_to_the_user_as_the_host_sees_it() {
        let private = namespaces(CGROUP);
        assert_eq!(owner(&spec(0, &["rw"]), &private, &mapped()), Some(100_000));
        assert_eq!(owner(&spec(12, &[]), &private, &mapped()), Some(500_002));
        assert_eq!(
            owner(&spec(1000, &["ro", "rw"]), &private, &IdMaps::default()),
            Some(1000)
        );
    }

    #[test]
    fn otherwise_it_stays_with_root() {
        let private = namespaces(CGROUP);
        assert_eq!(owner(&spec(0, &["ro"]), &private, &mapped()), None);
        assert_eq!(owner(&spec(0, &["rw", "ro"]), &private, &mapped()), None);
        assert_eq!(owner(&spec(0, &["rw"]), &namespaces(0), &mapped()), None);
        assert_eq!(owner(&spec(0, &["rw"]), &private, &IdMaps::default()), None);
        assert_eq!(owner(&spec(15, &["rw"]), &private, &mapped()), None);
    }
}
