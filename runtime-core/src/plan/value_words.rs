//! Values of a plan in words: attributes, descriptors, maps, masks, limits.

use rsrun_init::step::MountAttributes;

use super::{FdSource, IdMaps, namespaces};

pub(super) fn change_words(change: &MountAttributes) -> String {
    let mut words = Vec::new();
    if change.set != 0 {
        words.push(format!("set {}", attribute_words(change.set)));
    }
    if change.clear != 0 {
        words.push(format!("clear {}", attribute_words(change.clear)));
    }
    let propagation = [
        (17, "unbindable"),
        (18, "private"),
        (19, "slave"),
        (20, "shared"),
    ];
    for (bit, name) in propagation {
        if change.propagation >> bit & 1 == 1 {
            words.push(name.to_owned());
        }
    }
    if change.recursive {
        words.push("recursively".into());
    }
    words.join(" ")
}

pub(super) fn attribute_words(attributes: u64) -> String {
    let names = [
        (0x1, "ro"),
        (0x2, "nosuid"),
        (0x4, "nodev"),
        (0x8, "noexec"),
        (0x10, "noatime"),
        (0x20, "strictatime"),
        (0x80, "nodiratime"),
        (0x20_0000, "nosymfollow"),
    ];
    if attributes & 0x70 == 0x70 {
        let rest = attribute_words(attributes & !0x70);
        return [rest.as_str(), "atime"]
            .join(",")
            .trim_start_matches(',')
            .to_owned();
    }
    let name = |(bit, name): (u64, &'static str)| (attributes & bit != 0).then_some(name);
    names
        .into_iter()
        .filter_map(name)
        .collect::<Vec<_>>()
        .join(",")
}

pub(super) fn source_words(source: &FdSource) -> String {
    match source {
        FdSource::Stream(number) => format!("stream {number}"),
        FdSource::Inherited(number) => format!("inherited fd {number}"),
        FdSource::Namespace { path, flag } => {
            format!("{} namespace {}", namespaces::name(*flag), path.display())
        }
        FdSource::InitPidfd => "pidfd of the init".into(),
        FdSource::InitRoot => "root of the init".into(),
        FdSource::Tree {
            path,
            recursive,
            changes,
            idmap,
            ..
        } => {
            let kind = if *recursive { "tree" } else { "mount" };
            let mut words = format!("clone of {kind} {}", path.display());
            for change in changes {
                words += &format!(", {}", change_words(change));
            }
            if let Some(maps) = idmap {
                words += &format!(", ids mapped {}", maps_words(maps));
            }
            words
        }
        FdSource::Gate => "gate".into(),
        FdSource::HostPath(path) => format!("path {}", path.display()),
    }
}

pub(super) fn maps_words(maps: &IdMaps) -> String {
    let words = |ranges: &[super::IdRange]| {
        let range = |r: &super::IdRange| format!("{}:{}:{}", r.inside, r.outside, r.count);
        ranges.iter().map(range).collect::<Vec<_>>().join(",")
    };
    format!("uid {} gid {}", words(&maps.uid), words(&maps.gid))
}

pub(super) fn mask_words(mask: &[u64]) -> String {
    let has = |bit: &usize| mask[bit / 64] >> (bit % 64) & 1 == 1;
    let bits = (0..mask.len() * 64).filter(has);
    bits.map(|bit| bit.to_string())
        .collect::<Vec<_>>()
        .join(",")
}

pub(super) fn limit_words(limit: u64) -> String {
    match limit {
        u64::MAX => "unlimited".into(),
        limit => limit.to_string(),
    }
}

pub(super) fn resource_words(resource: u32) -> String {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    match NAMES.get(resource as usize) {
        Some(name) => format!("rlimit {name}"),
        None => format!("rlimit {resource}"),
    }
}
