//! The container's mounts: which steps attach them, and what is cloned by the parent before.

use std::path::Path;

use oci_spec::runtime::Spec;
use rsrun_init::step::{MountAttributes, Param, Step};

use super::draft::Draft;
use super::mount::OneMount;
use super::namespaces::{CGROUP, Namespaces, PID, USER, maps_of, ranges};
use super::options::{self, Depth};
use super::text::{literal, text};
use super::{CreateFacts, FdSource, IdMaps, PlanStep};
use crate::error::{Error, Result};
use crate::host::Host;

/// The mounts of a container, read and checked.
pub(super) struct Mounts<'a> {
    spec: &'a Spec,
    facts: &'a CreateFacts,
    namespaces: &'a Namespaces,
    host: &'a Host,
    all: Vec<OneMount<'a>>,
}

/// Steps for later: attributes that would be in the way while the root is being built, and mounts
/// of a pid namespace that is joined only then.
#[derive(Default)]
pub(super) struct Later {
    /// After everything below the mount was made.
    pub(super) read_only: Vec<PlanStep>,
    /// After the pid namespace was joined.
    pub(super) proc: Vec<PlanStep>,
}

impl<'a> Mounts<'a> {
    pub(super) fn read(
        spec: &'a Spec,
        facts: &'a CreateFacts,
        namespaces: &'a Namespaces,
        host: &'a Host,
    ) -> Result<Self> {
        let given = spec.mounts().as_deref().unwrap_or_default();
        let all = given
            .iter()
            .enumerate()
            .map(|(index, mount)| OneMount::read(index, mount));
        let mounts = Self {
            spec,
            facts,
            namespaces,
            host,
            all: all.collect::<Result<_>>()?,
        };
        Ok(mounts)
    }

    /// Whether devices are ours to make: not where /dev is somebody else's directory.
    pub(super) fn dev_is_bound(&self) -> bool {
        self.all
            .iter()
            .any(|m| m.is_bind() && m.target == Path::new("/dev"))
    }

    /// Whether a terminal can be had: a devpts, or a tree of the host that may hold one.
    pub(super) fn has_devpts(&self) -> bool {
        let bound = |m: &OneMount<'_>| m.is_bind() && Path::new("/dev/pts").starts_with(&m.target);
        let own = |m: &OneMount<'_>| m.fstype == "devpts" && m.target == Path::new("/dev/pts");
        self.all.iter().any(|m| own(m) || bound(m))
    }

    /// A procfs that the child can use as its own: writable, with nothing left out of it, and no other mount at its place.
    pub(super) fn usable_procfs(&self) -> Option<usize> {
        let plain = |mount: &OneMount<'_>| {
            let options = &mount.options;
            let is_plain = options.of_filesystem.is_empty()
                && !options.own.read_only()
                && options.below.change(Depth::Tree).is_none();
            let at_its_place = self.all.iter().filter(|m| m.target == mount.target);
            mount.fstype == "proc" && !mount.is_bind() && is_plain && at_its_place.count() == 1
        };
        self.all.iter().position(plain)
    }

    /// The steps that attach everything, in the order of the spec. With `proc_later` a procfs waits
    /// for the pid namespace. The mount with the index `becomes_proc` is the child's own procfs too.
    pub(super) fn attach(
        &self,
        draft: &mut Draft,
        proc_later: bool,
        becomes_proc: Option<usize>,
    ) -> Result<Later> {
        let mut later = Later::default();
        for (index, mount) in self.all.iter().enumerate() {
            if mount.options.remount {
                draft.steps(mount.remount()?);
            } else if mount.is_bind() {
                self.bind(draft, mount)?;
            } else if matches!(mount.fstype.as_str(), "cgroup" | "cgroup2") {
                self.cgroup(draft, mount)?;
            } else {
                let mut steps = self.filesystem(index, mount, &mut later)?;
                if becomes_proc == Some(index) {
                    steps.iter_mut().for_each(use_it);
                }
                match mount.fstype.as_str() {
                    "proc" if proc_later => later.proc.extend(steps),
                    _ => draft.steps(steps),
                }
            }
        }
        Ok(later)
    }

    /// A clone of a tree of the host. Made by the parent in its own mount namespace, it would stay
    /// in the host's peer group, so that what the container mounts would appear on the host: it is a
    /// slave first, unless sharing with the host is just what was asked for.
    fn bind(&self, draft: &mut Draft, mount: &OneMount<'_>) -> Result<()> {
        let place = format!("{}/source", mount.place);
        mount
            .options
            .check_bind(&format!("{}/options", mount.place))?;
        if mount.options.copy_up {
            return Err(Error::spec(&mount.place, "tmpcopyup is an option of tmpfs"));
        }
        let source = mount
            .given
            .source()
            .as_deref()
            .filter(|s| !s.as_os_str().is_empty());
        let source = source.ok_or_else(|| Error::spec(&place, "a bind mount needs a source"))?;
        text(&place, source)?;
        let idmap = self.idmap(mount)?;
        let shared = |(kind, _): &(u64, Depth)| *kind == options::SHARED;
        let with_host =
            self.root_is_shared() && mount.options.propagation.last().is_some_and(shared);
        let apart = (!with_host).then_some(SLAVE_TREE);
        let tree = draft.fd(FdSource::Tree {
            path: self.facts.bundle.join(source),
            recursive: mount.options.bind == Some(Depth::Tree),
            changes: apart.into_iter().chain(mount.options.changes()).collect(),
            idmap,
            idmap_recursive: mount.options.idmap == Some(Depth::Tree),
        });
        draft.step(Step::AttachTree {
            tree,
            target: mount.target_text()?,
        });
        Ok(())
    }

    fn root_is_shared(&self) -> bool {
        let linux = self.spec.linux().as_ref();
        let propagation = linux.and_then(|l| l.rootfs_propagation().as_deref());
        matches!(propagation, Some("shared" | "rshared"))
    }

    /// The id map of a mount: its own, or the container's.
    fn idmap(&self, mount: &OneMount<'_>) -> Result<Option<IdMaps>> {
        let own = |ids: &Option<Vec<_>>| ids.as_ref().is_some_and(|ids| !ids.is_empty());
        let (uid, gid) = (mount.given.uid_mappings(), mount.given.gid_mappings());
        match (own(uid), own(gid), mount.options.idmap) {
            (true, true, _) => Ok(Some(IdMaps {
                uid: ranges(uid.as_deref(), &format!("{}/uidMappings", mount.place))?,
                gid: ranges(gid.as_deref(), &format!("{}/gidMappings", mount.place))?,
            })),
            (false, false, None) => Ok(None),
            (false, false, Some(_)) => {
                let maps = maps_of(self.spec)?;
                if maps.uid.is_empty() || maps.gid.is_empty() {
                    return Err(Error::spec(
                        &mount.place,
                        "an id-mapped mount without mappings, and the container has none either",
                    ));
                }
                Ok(Some(maps))
            }
            _ => Err(Error::spec(
                &mount.place,
                "uidMappings and gidMappings go together",
            )),
        }
    }

    /// The cgroup filesystem: version 2, whichever was asked for. A user namespace may mount it
    /// only with a cgroup namespace of its own; else the host's tree is cloned.
    fn cgroup(&self, draft: &mut Draft, mount: &OneMount<'_>) -> Result<()> {
        self.refuse_idmap(mount)?;
        let mountable = self.namespaces.new & CGROUP != 0
            || !(self.namespaces.has(USER) || self.host.in_user_namespace);
        if mountable {
            draft.step(self.new_filesystem("cgroup2", mount, mount.options.own.of_new())?);
            return Ok(());
        }
        mount
            .options
            .check_bind(&format!("{}/options", mount.place))?;
        let tree = draft.fd(FdSource::Tree {
            path: self.host.cgroup_mount.clone(),
            recursive: false,
            changes: [SLAVE_TREE]
                .into_iter()
                .chain(mount.options.changes())
                .collect(),
            idmap: None,
            idmap_recursive: false,
        });
        draft.step(Step::AttachTree {
            tree,
            target: mount.target_text()?,
        });
        Ok(())
    }

    fn filesystem(
        &self,
        index: usize,
        mount: &OneMount<'_>,
        later: &mut Later,
    ) -> Result<Vec<PlanStep>> {
        self.refuse_idmap(mount)?;
        self.check_proc(mount)?;
        let read_only = mount.options.own.read_only();
        let is_tmpfs = mount.fstype == "tmpfs";
        if mount.options.copy_up && !is_tmpfs {
            return Err(Error::spec(&mount.place, "tmpcopyup is an option of tmpfs"));
        }
        let own = mount.options.own;
        let mut steps = Vec::new();
        if read_only && self.is_filled_later(index, mount) {
            steps.push(self.new_filesystem(&mount.fstype, mount, own.writable().of_new())?);
            later.read_only.push(read_only_step(mount)?);
        } else {
            steps.push(self.new_filesystem(&mount.fstype, mount, own.of_new())?);
        }
        // `after` holds one change; what is more follows on the attached mount.
        let more = mount.options.below.change(Depth::Tree);
        let more = more.into_iter().chain(mount.options.propagations().skip(1));
        let target = mount.target_text()?;
        steps.extend(more.map(|change| Step::SetMountAttributes {
            target: target.clone(),
            change,
        }));
        Ok(steps)
    }

    /// Whether something is made in this mount after it: devices in /dev, or the target of another
    /// mount in an empty filesystem. (Not in sysfs: a user namespace may only have it as the host's is.)
    fn is_filled_later(&self, index: usize, mount: &OneMount<'_>) -> bool {
        let below = |other: &OneMount<'_>| {
            other.target != mount.target && other.target.starts_with(&mount.target)
        };
        let is_empty = mount.fstype == "tmpfs";
        mount.target == Path::new("/dev") || is_empty && self.all.iter().skip(index + 1).any(below)
    }

    fn new_filesystem(&self, fstype: &str, mount: &OneMount<'_>, flags: u64) -> Result<PlanStep> {
        let mut params = mount.params(fstype, self.host)?;
        params.extend(self.label(fstype)?);
        self.check_owner(fstype, mount)?;
        let source = mount.given.source().as_deref();
        let source = source.filter(|s| !s.as_os_str().is_empty());
        Ok(Step::MountFilesystem {
            source: match source {
                Some(source) => text(&format!("{}/source", mount.place), source)?,
                None => literal(fstype),
            },
            fstype: text(&format!("{}/type", mount.place), fstype)?,
            params,
            flags,
            target: mount.target_text()?,
            copy_up: mount.options.copy_up,
            after: mount.options.propagations().next().unwrap_or_default(),
            becomes_proc: false,
        })
    }

    /// The SELinux label of the container's files. proc and sysfs label themselves; the one
    /// superblock of a mqueue was labelled when its namespace was made.
    fn label(&self, fstype: &str) -> Result<Option<Param<super::Planned>>> {
        let linux = self.spec.linux().as_ref();
        let label = linux
            .and_then(|l| l.mount_label().as_ref())
            .filter(|l| !l.is_empty());
        match label {
            Some(label) if matches!(fstype, "tmpfs" | "devpts" | "ramfs" | "overlay") => {
                let value = text("/linux/mountLabel", label)?;
                Ok(Some(Param::Text(literal("context"), value)))
            }
            _ => Ok(None),
        }
    }

    /// The kernel gives a procfs to those alone who have privileges over its pid namespace: EPERM would not say
    /// what to do instead.
    fn check_proc(&self, mount: &OneMount<'_>) -> Result<()> {
        let without = match (self.namespaces.new & USER != 0, self.namespaces.joins(USER)) {
            // One that is joined is older than the user namespace, and so belongs to another.
            (true, _) => self.namespaces.new & PID == 0,
            (false, true) => !self.namespaces.has(PID),
            (false, false) => false,
        };
        if mount.fstype != "proc" || !without {
            return Ok(());
        }
        Err(Error::spec(
            format!("{}/type", mount.place),
            "a procfs in a user namespace needs a new pid namespace beside it; bind /proc of the host instead",
        ))
    }

    /// `gid=5` of devpts is refused by the kernel where it is not mapped; say so in words.
    fn check_owner(&self, fstype: &str, mount: &OneMount<'_>) -> Result<()> {
        if fstype != "devpts" || self.namespaces.new & USER == 0 {
            return Ok(());
        }
        let maps = maps_of(self.spec)?;
        for (index, word) in &mount.options.of_filesystem {
            let gid = word
                .strip_prefix("gid=")
                .and_then(|g| g.parse::<u32>().ok());
            let mapped = |gid: u32| {
                let holds = |r: &super::IdRange| gid >= r.inside && gid - r.inside < r.count;
                maps.gid.iter().any(holds)
            };
            if gid.is_some_and(|gid| !mapped(gid)) {
                return Err(Error::spec(
                    format!("{}/options/{index}", mount.place),
                    format!("{word}: the group is not mapped in the container's user namespace"),
                ));
            }
        }
        Ok(())
    }

    fn refuse_idmap(&self, mount: &OneMount<'_>) -> Result<()> {
        if self.idmap(mount)?.is_none() {
            return Ok(());
        }
        Err(Error::unsupported(
            &mount.place,
            format!("{}: only bind mounts can be id-mapped", mount.place),
        ))
    }
}

/// Apart from the host, but hearing of its unmounts.
pub(super) const SLAVE_TREE: MountAttributes = MountAttributes {
    set: 0,
    clear: 0,
    propagation: options::SLAVE,
    recursive: true,
};

fn use_it(step: &mut PlanStep) {
    if let Step::MountFilesystem { becomes_proc, .. } = step {
        *becomes_proc = true;
    }
}

fn read_only_step(mount: &OneMount<'_>) -> Result<PlanStep> {
    Ok(Step::SetMountAttributes {
        target: mount.target_text()?,
        change: MountAttributes {
            set: options::RDONLY,
            ..MountAttributes::default()
        },
    })
}
