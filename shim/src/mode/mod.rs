//! The four ways in which this binary is called.

pub mod delete;
pub mod describe;
pub mod serve;
pub mod start;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

/// Name of the binary, and of the process in lists.
pub const NAME: &str = "containerd-shim-rsrun-v2";

/// Name of the runtime, as clients ask for it.
pub const RUNTIME: &str = "io.containerd.rsrun.v2";

/// Annotations that name the group of a container, the first that is there.
const GROUP_ANNOTATIONS: [&str; 3] = [
    "io.containerd.rsrun.v2.group",
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
];

/// Largest config.json that is read.
const LARGEST_CONFIG: u64 = 16 << 20;

/// What of config.json matters before there is a container: the rest is not even parsed.
#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
}

/// The sandbox that the container of a bundle belongs to: its own id if nothing says otherwise.
fn group_of(bundle: &Path, id: &str) -> Result<String, String> {
    let path = bundle.join("config.json");
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        // Bundles of sandboxes may have none.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(id.to_owned()),
        Err(e) => return Err(format!("open {}: {e}", path.display())),
    };
    if file
        .metadata()
        .is_ok_and(|found| found.len() > LARGEST_CONFIG)
    {
        return Err(format!("{} is larger than 16 MiB", path.display()));
    }
    let reader = io::BufReader::new(io::Read::take(file, LARGEST_CONFIG));
    let config: Annotated =
        serde_json::from_reader(reader).map_err(|e| format!("{}: {e}", path.display()))?;
    let annotations = config.annotations.unwrap_or_default();
    let group = GROUP_ANNOTATIONS
        .iter()
        .find_map(|key| annotations.get(*key).filter(|group| !group.is_empty()));
    Ok(group.cloned().unwrap_or_else(|| id.to_owned()))
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
    fn a_config_that_does_not_parse_is_named() {
        assert!(group("{").unwrap_err().contains("config.json"));
    }
}
