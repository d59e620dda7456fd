//! Which namespaces a container gets: made new, joined by path, or shared with us.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};

use super::text::{entry, key};
use super::{IdMaps, IdRange};
use crate::error::{Error, Result};

/// `CLONE_NEW*` as the 64-bit flags of clone3 and setns.
pub const TIME: u64 = 0x80;
#[allow(missing_docs, reason = "the kernel's names")]
pub const MOUNT: u64 = 0x2_0000;
#[allow(missing_docs, reason = "the kernel's names")]
pub const CGROUP: u64 = 0x200_0000;
#[allow(missing_docs, reason = "the kernel's names")]
pub const UTS: u64 = 0x400_0000;
#[allow(missing_docs, reason = "the kernel's names")]
pub const IPC: u64 = 0x800_0000;
#[allow(missing_docs, reason = "the kernel's names")]
pub const USER: u64 = 0x1000_0000;
#[allow(missing_docs, reason = "the kernel's names")]
pub const PID: u64 = 0x2000_0000;
#[allow(missing_docs, reason = "the kernel's names")]
pub const NET: u64 = 0x4000_0000;

const PLACE: &str = "/linux/namespaces";

/// The kernel's name of a namespace kind, as in `/proc/PID/ns`.
#[must_use]
pub fn name(flag: u64) -> &'static str {
    match flag {
        TIME => "time",
        MOUNT => "mnt",
        CGROUP => "cgroup",
        UTS => "uts",
        IPC => "ipc",
        USER => "user",
        PID => "pid",
        NET => "net",
        _ => "unknown",
    }
}

/// The names of several kinds, joined by commas.
#[must_use]
pub fn names(flags: u64) -> String {
    [USER, MOUNT, PID, NET, IPC, UTS, CGROUP, TIME]
        .into_iter()
        .filter(|flag| flags & flag != 0)
        .map(name)
        .collect::<Vec<_>>()
        .join(",")
}

/// The namespaces of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Namespaces {
    /// Made for it.
    pub(super) new: u64,
    /// Joined, by path.
    pub(super) joined: Vec<(u64, PathBuf)>,
}

impl Namespaces {
    /// Reads and checks `linux.namespaces`. Paths that lead to namespaces of our own (`own`) are no
    /// joins: those namespaces are shared with us, as if they were not listed.
    pub(super) fn read(spec: &Spec, own: u64) -> Result<Self> {
        let mut found = Self::default();
        let mut seen = 0;
        let listed = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
        for (index, namespace) in listed.into_iter().flatten().enumerate() {
            let place = entry(PLACE, index);
            let flag = flag_of(namespace.typ());
            if seen & flag != 0 {
                return Err(Error::spec(
                    place,
                    format!("the {} namespace is listed twice", name(flag)),
                ));
            }
            seen |= flag;
            match namespace
                .path()
                .as_deref()
                .filter(|p| !p.as_os_str().is_empty())
            {
                None => found.new |= flag,
                Some(path) => found.join(flag, path, own, &place)?,
            }
        }
        found.check(spec)?;
        Ok(found)
    }

    fn join(&mut self, flag: u64, path: &Path, own: u64, place: &str) -> Result<()> {
        if !path.is_absolute() {
            return Err(Error::spec(
                format!("{place}/path"),
                format!("{} is not an absolute path", path.display()),
            ));
        }
        if flag == MOUNT {
            return Err(Error::unsupported(
                format!("{place}/path"),
                "joining a mount namespace at create is not supported: the container's root is always built in a new one",
            ));
        }
        if own & flag == 0 {
            self.joined.push((flag, path.to_owned()));
        }
        Ok(())
    }

    /// What the rest of the spec asks of the namespaces.
    fn check(&self, spec: &Spec) -> Result<()> {
        if self.new & MOUNT == 0 {
            return Err(Error::unsupported(
                PLACE,
                "a container without a mount namespace of its own is not supported",
            ));
        }
        let needs_uts = |field: &Option<String>| {
            field.as_ref().is_some_and(|t| !t.is_empty()) && !self.has(UTS)
        };
        if needs_uts(spec.hostname()) {
            return Err(Error::spec(
                "/hostname",
                "unable to set hostname without a private UTS namespace",
            ));
        }
        if needs_uts(spec.domainname()) {
            return Err(Error::spec(
                "/domainname",
                "unable to set domainname without a private UTS namespace",
            ));
        }
        // __NEW_UTS_LEN; sethostname would only say EINVAL.
        for (place, name) in [
            ("/hostname", spec.hostname()),
            ("/domainname", spec.domainname()),
        ] {
            if name.as_ref().is_some_and(|name| name.len() > 64) {
                return Err(Error::spec(place, "it is longer than 64 bytes"));
            }
        }
        self.check_maps(spec)?;
        self.check_offsets(spec)
    }

    fn check_maps(&self, spec: &Spec) -> Result<()> {
        let maps = maps_of(spec)?;
        if self.new & USER != 0 {
            if maps.uid.is_empty() {
                return Err(Error::spec(
                    "/linux/uidMappings",
                    "a new user namespace needs them",
                ));
            }
            if maps.gid.is_empty() {
                return Err(Error::spec(
                    "/linux/gidMappings",
                    "a new user namespace needs them",
                ));
            }
        } else if !self.has(USER) && (!maps.uid.is_empty() || !maps.gid.is_empty()) {
            return Err(Error::spec(
                "/linux/uidMappings",
                "id mappings without a user namespace",
            ));
        }
        Ok(())
    }

    fn check_offsets(&self, spec: &Spec) -> Result<()> {
        let offsets = spec
            .linux()
            .as_ref()
            .and_then(|l| l.time_offsets().as_ref());
        let Some(offsets) = offsets.filter(|o| !o.is_empty()) else {
            return Ok(());
        };
        if self.new & TIME == 0 {
            return Err(Error::spec(
                "/linux/timeOffsets",
                "time offsets need a new time namespace",
            ));
        }
        match offsets
            .keys()
            .find(|k| !matches!(k.as_str(), "monotonic" | "boottime"))
        {
            Some(clock) => Err(Error::spec(
                format!("/linux/timeOffsets/{}", key(clock)),
                "only the clocks monotonic and boottime have offsets",
            )),
            None => Ok(()),
        }
    }

    /// Whether it has one of its own or joins one: it is not ours.
    pub(super) fn has(&self, flag: u64) -> bool {
        self.new & flag != 0 || self.joins(flag)
    }

    /// Whether it joins one by path.
    pub(super) fn joins(&self, flag: u64) -> bool {
        self.joined.iter().any(|(joined, _)| *joined == flag)
    }

    /// Every kind that it does not share with us.
    pub(super) fn all(&self) -> u64 {
        self.joined
            .iter()
            .fold(self.new, |all, (flag, _)| all | flag)
    }

    /// The offsets of a new time namespace in the form of `timens_offsets`; `None` if there is none.
    pub(super) fn time_offsets(&self, spec: &Spec) -> Option<String> {
        if self.new & TIME == 0 {
            return None;
        }
        let given = spec
            .linux()
            .as_ref()
            .and_then(|l| l.time_offsets().as_ref());
        let line = |clock: &str| {
            let offset = given.and_then(|o| o.get(clock))?;
            let (secs, nanosecs) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            Some(format!("{clock} {secs} {nanosecs}\n"))
        };
        Some(
            ["monotonic", "boottime"]
                .into_iter()
                .filter_map(line)
                .collect(),
        )
    }
}

/// The `CLONE_NEW*` bit of a kind of the specification.
#[must_use]
pub fn flag_of(kind: LinuxNamespaceType) -> u64 {
    match kind {
        LinuxNamespaceType::Mount => MOUNT,
        LinuxNamespaceType::Cgroup => CGROUP,
        LinuxNamespaceType::Uts => UTS,
        LinuxNamespaceType::Ipc => IPC,
        LinuxNamespaceType::User => USER,
        LinuxNamespaceType::Pid => PID,
        LinuxNamespaceType::Network => NET,
        LinuxNamespaceType::Time => TIME,
    }
}

/// The id maps of the container's user namespace.
pub(super) fn maps_of(spec: &Spec) -> Result<IdMaps> {
    let linux = spec.linux().as_ref();
    Ok(IdMaps {
        uid: ranges(
            linux.and_then(|l| l.uid_mappings().as_deref()),
            "/linux/uidMappings",
        )?,
        gid: ranges(
            linux.and_then(|l| l.gid_mappings().as_deref()),
            "/linux/gidMappings",
        )?,
    })
}

/// Id ranges, each checked to stay below 2^32. The kernel takes 340.
pub(super) fn ranges(given: Option<&[LinuxIdMapping]>, place: &str) -> Result<Vec<IdRange>> {
    let given = given.unwrap_or_default();
    if given.len() > 340 {
        return Err(Error::spec(place, "the kernel takes at most 340 ranges"));
    }
    let range = |(index, map): (usize, &LinuxIdMapping)| {
        let fits = |first: u32| u64::from(first) + u64::from(map.size()) <= 1 << 32;
        if map.size() == 0 || !fits(map.container_id()) || !fits(map.host_id()) {
            return Err(Error::spec(
                entry(place, index),
                "the range is empty or leaves 32 bits",
            ));
        }
        Ok(IdRange {
            inside: map.container_id(),
            outside: map.host_id(),
            count: map.size(),
        })
    };
    given.iter().enumerate().map(range).collect()
}
