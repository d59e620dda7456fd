//! Which ids are mapped in the user namespace that a container joins?
//!
//! The namespace knows; the spec need not say it, and must not say otherwise. Paths into procfs, as containerd and
//! CRI-O give them, are answered by the process that they name; for any other file a process of ours goes and
//! looks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespaceType, Spec};

use super::{Containers, lookups};
use crate::error::{Error, ErrorKind, Result};
use crate::launch::{Setting, maps_of_process, maps_of_userns};
use crate::plan::{IdMaps, IdRange};
use crate::process::Cancel;

/// The process that looks lives for some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

impl Containers {
    /// Writes the maps of a joined user namespace into a spec that has none.
    pub(super) fn fill_in_maps(&self, spec: &mut Spec, cancel: &Cancel) -> Result<()> {
        let Some((place, path)) = joined(spec) else {
            return Ok(());
        };
        let found = self.maps_at(&path, cancel)?;
        if found.uid.is_empty() || found.gid.is_empty() {
            let text = format!("the user namespace at {} maps no ids", path.display());
            return Err(Error::spec(place, text));
        }
        let Some(linux) = spec.linux_mut().as_mut() else {
            return Ok(());
        };
        let uid = filled_in(
            linux.uid_mappings(),
            &found.uid,
            "/linux/uidMappings",
            &path,
        )?;
        let gid = filled_in(
            linux.gid_mappings(),
            &found.gid,
            "/linux/gidMappings",
            &path,
        )?;
        linux
            .set_uid_mappings(Some(uid))
            .set_gid_mappings(Some(gid));
        Ok(())
    }

    fn maps_at(&self, path: &Path, cancel: &Cancel) -> Result<IdMaps> {
        if let Some(pid) = pid_of(path)
            && let Ok(maps) = maps_of_process(pid)
        {
            return Ok(maps);
        }
        let setting = Setting {
            children: &self.children,
            cancel,
            deadline: Instant::now() + PATIENCE,
            cgroup: None,
            ahead: None,
        };
        maps_of_userns(path, setting)
    }
}

/// The place in the spec and the path of a user namespace that is not our own.
fn joined(spec: &Spec) -> Option<(String, PathBuf)> {
    let listed = spec.linux().as_ref()?.namespaces().as_ref()?;
    let (index, user) = listed
        .iter()
        .enumerate()
        .find(|(_, namespace)| namespace.typ() == LinuxNamespaceType::User)?;
    let path = user.path().as_ref().filter(|path| path.is_absolute())?;
    let is_ours = lookups::same_file(path, Path::new("/proc/self/ns/user"));
    (!is_ours).then(|| (format!("/linux/namespaces/{index}/path"), path.clone()))
}

/// The pid in `/proc/PID/ns/user`.
fn pid_of(path: &Path) -> Option<i32> {
    let text = path.to_str()?.strip_prefix("/proc/")?;
    text.strip_suffix("/ns/user")?.parse().ok()
}

fn filled_in(
    given: &Option<Vec<LinuxIdMapping>>,
    found: &[IdRange],
    place: &str,
    path: &Path,
) -> Result<Vec<LinuxIdMapping>> {
    let found: Vec<_> = found.iter().map(mapping).collect::<Result<_>>()?;
    match given.as_deref() {
        None | Some([]) => Ok(found),
        Some(given) if given == found => Ok(found),
        Some(_) => Err(Error::spec(
            place,
            format!(
                "they differ from those of the user namespace to join, {}",
                path.display()
            ),
        )),
    }
}

fn mapping(range: &IdRange) -> Result<LinuxIdMapping> {
    LinuxIdMappingBuilder::default()
        .container_id(range.inside)
        .host_id(range.outside)
        .size(range.count)
        .build()
        .map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_into_procfs_names_its_process() {
        assert_eq!(pid_of(Path::new("/proc/42/ns/user")), Some(42));
        for other in [
            "/run/userns/x",
            "/proc/self/ns/user",
            "/proc/42/ns/user/",
            "/proc/42/task/43/ns/user",
        ] {
            assert_eq!(pid_of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn maps_that_the_spec_has_must_be_those_of_the_namespace() {
        let range = |inside, outside, count| IdRange {
            inside,
            outside,
            count,
        };
        let found = [range(0, 1000, 10), range(10, 5000, 1)];
        let path = Path::new("/n");
        let filled = filled_in(&None, &found, "/linux/uidMappings", path).unwrap();
        assert_eq!((filled[1].container_id(), filled[1].host_id()), (10, 5000));
        let same = Some(filled.clone());
        assert_eq!(
            filled_in(&same, &found, "/linux/uidMappings", path).unwrap(),
            filled
        );
        let error = filled_in(&same, &found[..1], "/linux/uidMappings", path).unwrap_err();
        let place = ErrorKind::InvalidSpec {
            pointer: "/linux/uidMappings".into(),
        };
        assert_eq!(error.kind(), &place);
    }
}
