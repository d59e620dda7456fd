//! Where the container's cgroup is, and which limits and device rules hold there.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{
    LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources, Spec,
};

use super::CreateFacts;
use crate::error::{Error, Result};

const PLACE: &str = "/linux/cgroupsPath";
const DEVICES: &str = "/linux/resources/devices";

/// The place of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupPlace {
    /// Below the mount point of cgroup2; has neither `..` nor a leading slash.
    Absolute(PathBuf),
    /// Beside the cgroup that we run in.
    Relative(PathBuf),
    /// A scope (or slice) that systemd makes.
    Systemd {
        /// Its parent, such as `system.slice`; empty for systemd's own choice.
        slice: String,
        /// Before the name, joined by `-`.
        prefix: String,
        /// The name.
        name: String,
    },
}

/// What the cgroup module is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupRequest {
    /// Where.
    pub place: CgroupPlace,
    /// Limits as they are in the spec.
    pub resources: Option<LinuxResources>,
    /// Device rules in order: those of the spec, then the default ones.
    pub devices: Vec<LinuxDeviceCgroup>,
    /// `org.systemd.property.*` annotations: property and value in GVariant text form.
    pub systemd_properties: BTreeMap<String, String>,
}

/// Reads `linux.cgroupsPath` and `linux.resources`.
pub(super) fn request(spec: &Spec, facts: &CreateFacts) -> Result<CgroupRequest> {
    let linux = spec.linux().as_ref();
    let path = linux.and_then(|l| l.cgroups_path().as_deref());
    let resources = linux.and_then(|l| l.resources().clone());
    let given = resources.as_ref().and_then(|r| r.devices().clone());
    let given = given.unwrap_or_default();
    for (index, rule) in given.iter().enumerate() {
        check(rule, &format!("{DEVICES}/{index}"))?;
    }
    let place = place(path, facts)?;
    let systemd_properties = match &place {
        CgroupPlace::Systemd { .. } => properties(spec),
        CgroupPlace::Absolute(_) | CgroupPlace::Relative(_) => BTreeMap::new(),
    };
    Ok(CgroupRequest {
        place,
        resources,
        devices: given.into_iter().chain(default_device_rules()).collect(),
        systemd_properties,
    })
}

fn place(path: Option<&Path>, facts: &CreateFacts) -> Result<CgroupPlace> {
    let path = path.filter(|p| !p.as_os_str().is_empty());
    if let Some(place) = path.and_then(systemd_place) {
        return checked_unit(place);
    }
    if facts.systemd_cgroup {
        return match path {
            None => Ok(CgroupPlace::Systemd {
                slice: String::new(),
                prefix: "rsrun".into(),
                name: facts.id.clone(),
            }),
            Some(path) => Err(Error::spec(
                PLACE,
                format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {:?} instead",
                    path.display()
                ),
            )),
        };
    }
    let Some(path) = path else {
        return Ok(CgroupPlace::Relative(PathBuf::from(&facts.id)));
    };
    // Refused, not cleaned: a path that climbs is an attempt to leave, or a mistake.
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(Error::spec(
            PLACE,
            format!("{} contains \"..\"", path.display()),
        ));
    }
    super::text::text(PLACE, path)?;
    let below: PathBuf = path
        .components()
        .filter(|c| matches!(c, Component::Normal(_)))
        .collect();
    if below.as_os_str().is_empty() {
        return Err(Error::spec(PLACE, "the root cgroup can't be a container's"));
    }
    Ok(if path.is_absolute() {
        CgroupPlace::Absolute(below)
    } else {
        CgroupPlace::Relative(below)
    })
}

/// `slice:prefix:name`: nothing else has two colons and no slash, so it is understood without an
/// option that says so (clients of other runtimes than runc can't send one).
fn systemd_place(path: &Path) -> Option<CgroupPlace> {
    let text = path.to_str()?;
    let mut parts = text.split(':');
    let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
    let is_form = parts.next().is_none() && !text.contains('/') && !name.is_empty();
    is_form.then(|| CgroupPlace::Systemd {
        slice: slice.to_owned(),
        prefix: prefix.to_owned(),
        name: name.to_owned(),
    })
}

fn checked_unit(place: CgroupPlace) -> Result<CgroupPlace> {
    let fits = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.\\@:".contains(c);
        part.chars().all(known) && !part.split('.').any(|p| p.is_empty() && part.contains(".."))
    };
    match &place {
        CgroupPlace::Systemd {
            slice,
            prefix,
            name,
        } if fits(slice) && fits(prefix) && fits(name) => Ok(place),
        CgroupPlace::Systemd { .. } | CgroupPlace::Absolute(_) | CgroupPlace::Relative(_) => Err(
            Error::spec(PLACE, "a part of it is no name of a systemd unit"),
        ),
    }
}

fn properties(spec: &Spec) -> BTreeMap<String, String> {
    let annotations = spec.annotations().iter().flatten();
    annotations
        .filter_map(|(name, value)| {
            let property = name.strip_prefix("org.systemd.property.")?;
            Some((property.to_owned(), value.clone()))
        })
        .collect()
}

fn check(rule: &LinuxDeviceCgroup, place: &str) -> Result<()> {
    let access = rule.access().as_deref().unwrap_or_default();
    if let Some(odd) = access.chars().find(|c| !"rwm".contains(*c)) {
        return Err(Error::spec(
            format!("{place}/access"),
            format!("{odd:?} is none of r, w and m"),
        ));
    }
    match rule.typ() {
        Some(LinuxDeviceType::P) => Err(Error::spec(
            format!("{place}/type"),
            "a fifo is no device: it has no rules",
        )),
        _ => Ok(()),
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
