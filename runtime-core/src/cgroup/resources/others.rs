//! The rest of `linux.resources`: pids, hugepages, rdma, network, and `unified` by name.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxNetwork, LinuxPids, LinuxRdma};

use super::{Absent, Planning, Value, escape, lacking, not_in_v2};
use crate::error::{Error, Result};

const RESOURCES: &str = "/linux/resources";

/// Files of the core that a spec may set; the rest (procs, kill, freeze, type, …) act, they don't limit.
const CORE_LIMITS: [&str; 3] = [
    "cgroup.max.depth",
    "cgroup.max.descendants",
    "cgroup.pressure",
];

/// -1 is no limit. 0 is one that lets the container's process run and make no other; written as 1,
/// because that process counts itself (and systemd, were it to manage the cgroup, knows no 0).
pub(super) fn pids(plan: &mut Planning<'_>, pids: &LinuxPids) -> Result<()> {
    let pointer = format!("{RESOURCES}/pids/limit");
    match pids.limit() {
        ..=-1 => {
            plan.default("pids", &pointer, "pids.max", "max");
            Ok(())
        }
        limit => plan.limit("pids", &pointer, "pids.max", limit.max(1).to_string()),
    }
}

/// Where the kernel (5.7) can limit reservations too, both are.
pub(super) fn hugepages(plan: &mut Planning<'_>, limits: &[LinuxHugepageLimit]) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        let pointer = format!("{RESOURCES}/hugepageLimits/{index}");
        let size = limit.page_size();
        let digits = ["KB", "MB", "GB"]
            .iter()
            .find_map(|unit| size.strip_suffix(unit))
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
        if digits.is_none() {
            return Err(Error::spec(
                format!("{pointer}/pageSize"),
                format!("{size:?} is no page size such as 2MB"),
            ));
        }
        let value = match limit.limit() {
            -1 => {
                plan.default("hugetlb", &pointer, &format!("hugetlb.{size}.max"), "max");
                plan.default(
                    "hugetlb",
                    &pointer,
                    &format!("hugetlb.{size}.rsvd.max"),
                    "max",
                );
                continue;
            }
            bytes if bytes >= 0 => bytes.to_string(),
            bytes => {
                return Err(Error::spec(
                    format!("{pointer}/limit"),
                    format!("{bytes} is no number of bytes"),
                ));
            }
        };
        plan.limit(
            "hugetlb",
            &pointer,
            &format!("hugetlb.{size}.max"),
            value.clone(),
        )?;
        let reserved = format!("hugetlb.{size}.rsvd.max");
        plan.limit_or("hugetlb", &pointer, &reserved, value, Absent::Skip)?;
    }
    Ok(())
}

pub(super) fn rdma(plan: &mut Planning<'_>, devices: &HashMap<String, LinuxRdma>) -> Result<()> {
    let mut names: Vec<_> = devices.keys().collect();
    names.sort();
    for name in names {
        let pointer = format!("{RESOURCES}/rdma/{}", escape(name));
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Error::spec(pointer, format!("{name:?} is no device name")));
        }
        let limits = &devices[name];
        let mut value = name.clone();
        for (key, limit) in [
            ("hca_handle", limits.hca_handles()),
            ("hca_object", limits.hca_objects()),
        ] {
            if let Some(limit) = limit {
                value.push_str(&format!(" {key}={limit}"));
            }
        }
        if value.len() > name.len() {
            plan.limit("rdma", &pointer, "rdma.max", value)?;
        }
    }
    Ok(())
}

pub(super) fn network(network: &LinuxNetwork) -> Result<()> {
    if !matches!(network.class_id(), None | Some(0)) {
        return Err(not_in_v2(
            &format!("{RESOURCES}/network/classID"),
            "network class id",
        ));
    }
    if network.priorities().iter().flatten().next().is_some() {
        return Err(not_in_v2(
            &format!("{RESOURCES}/network/priorities"),
            "network priorities",
        ));
    }
    Ok(())
}

/// `CONTROLLER.FILE` → value. A value of several lines (io.max of several devices) is written line by line.
pub(super) fn unified(plan: &mut Planning<'_>, unified: &HashMap<String, String>) -> Result<()> {
    let mut files: Vec<_> = unified.iter().collect();
    files.sort();
    for (file, value) in files {
        let pointer = format!("{RESOURCES}/unified/{}", escape(file));
        if file.contains(['/', '\0']) {
            return Err(Error::spec(
                pointer,
                format!("unified resource {file:?} must be a file name (no slashes)"),
            ));
        }
        let controller = match file.split_once('.') {
            Some((controller, rest)) if !controller.is_empty() && !rest.is_empty() => controller,
            _ => {
                return Err(Error::spec(
                    pointer,
                    format!("unified resource {file:?} must be in the form CONTROLLER.PARAMETER"),
                ));
            }
        };
        if controller == "cgroup" && !CORE_LIMITS.contains(&file.as_str()) {
            return Err(Error::spec(
                pointer,
                format!("{file} is not for a container to set"),
            ));
        }
        for line in value.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if controller != "cgroup" && !plan.controllers.has(controller) {
                return Err(lacking(&pointer, controller, plan.controllers));
            }
            let value = Value::Text(line.to_owned());
            plan.push(&pointer, file, value, Absent::Refuse);
        }
    }
    Ok(())
}
