//! What of config.json the shim itself has to know. The core reads the document; here all but a few members is skipped.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Annotations that name the group of a container, the first that is there.
const GROUP_ANNOTATIONS: [&str; 3] = [
    "io.containerd.rsrun.v2.group",
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
];

/// Largest config.json that is read.
const LARGEST_CONFIG: u64 = 16 << 20;

#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
}

/// The sandbox that the container of a bundle belongs to: its own id if nothing says otherwise.
pub fn group_of(bundle: &Path, id: &str) -> Result<String, String> {
    let config: Option<Annotated> = read(bundle)?;
    let annotations = config
        .and_then(|config| config.annotations)
        .unwrap_or_default();
    let group = GROUP_ANNOTATIONS
        .iter()
        .find_map(|key| annotations.get(*key).filter(|group| !group.is_empty()));
    Ok(group.cloned().unwrap_or_else(|| id.to_owned()))
}

#[derive(Deserialize)]
struct Mapped {
    #[serde(default)]
    linux: Option<Mappings>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Mappings {
    uid_mappings: Option<Vec<Mapping>>,
    gid_mappings: Option<Vec<Mapping>>,
}

#[derive(Deserialize)]
struct Mapping {
    #[serde(rename = "containerID")]
    container: u32,
    #[serde(rename = "hostID")]
    host: u32,
}

/// User and group on the host that are root in the container: pipes that belong to anybody else can't be opened
/// again inside of a user namespace. (0, 0) without one.
pub fn root_ids(bundle: &Path) -> Result<(u32, u32), String> {
    let config: Option<Mapped> = read(bundle)?;
    let maps = config.and_then(|config| config.linux).unwrap_or_default();
    let root = |maps: Option<Vec<Mapping>>| {
        let maps = maps.unwrap_or_default();
        maps.iter()
            .find(|map| map.container == 0)
            .map_or(0, |map| map.host)
    };
    Ok((root(maps.uid_mappings), root(maps.gid_mappings)))
}

/// The wanted members of the document; `None` where there is none, as in the bundles of some sandboxes.
fn read<T: DeserializeOwned>(bundle: &Path) -> Result<Option<T>, String> {
    let path = bundle.join("config.json");
    // A fifo without a writer is opened at once, and refused.
    let mut how = fs::OpenOptions::new();
    let file = match how.read(true).custom_flags(libc::O_NONBLOCK).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("open {}: {e}", path.display())),
    };
    let found = file
        .metadata()
        .map_err(|e| format!("stat {}: {e}", path.display()))?;
    if !found.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    if found.len() > LARGEST_CONFIG {
        return Err(format!("{} is larger than 16 MiB", path.display()));
    }
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, LARGEST_CONFIG), &mut text)
        .map_err(|e| format!("read {}: {e}", path.display()))?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(config: &str) -> Result<String, String> {
        let dir = std::env::temp_dir().join(format!(
            "rsrun-group-{}-{}",
            std::process::id(),
            config.len()
        ));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), config).unwrap();
        let group = group_of(&dir, "own");
        fs::remove_dir_all(&dir).unwrap();
        group
    }

    #[test]
    fn the_annotation_for_the_runtime_goes_before_that_of_kubernetes() {
        let both = r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod","io.containerd.runc.v2.group":"g"}}"#;
        assert_eq!(group(both).unwrap(), "g");
        assert_eq!(
            group(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#).unwrap(),
            "pod"
        );
    }

    #[test]
    fn a_container_without_annotations_is_its_own_sandbox() {
        assert_eq!(group("{}").unwrap(), "own");
        assert_eq!(
            group(r#"{"annotations":null,"process":{}}"#).unwrap(),
            "own"
        );
        assert_eq!(group_of(Path::new("/nonexistent"), "own").unwrap(), "own");
    }

    #[test]
    fn a_config_that_is_no_regular_file_is_refused_at_once() {
        let dir = std::env::temp_dir().join(format!("rsrun-group-fifo-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        nix::unistd::mkfifo(&dir.join("config.json"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let refused = group_of(&dir, "own").unwrap_err();
        fs::remove_dir_all(&dir).unwrap();
        assert!(refused.contains("not a regular file"), "{refused}");
    }

    #[test]
    fn a_config_that_does_not_parse_is_named() {
        assert!(group("{").unwrap_err().contains("config.json"));
    }

    #[test]
    fn root_of_a_user_namespace_is_found_among_its_ranges() {
        let dir = std::env::temp_dir().join(format!("rsrun-root-ids-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let config = r#"{"linux":{"uidMappings":[{"containerID":1,"hostID":5,"size":9},
            {"containerID":0,"hostID":70000,"size":1}],"gidMappings":[{"containerID":0,"hostID":80000,"size":1}]}}"#;
        fs::write(dir.join("config.json"), config).unwrap();
        assert_eq!(root_ids(&dir).unwrap(), (70_000, 80_000));
        fs::write(dir.join("config.json"), r#"{"linux":null}"#).unwrap();
        assert_eq!(root_ids(&dir).unwrap(), (0, 0));
        fs::remove_dir_all(&dir).unwrap();
    }
}
