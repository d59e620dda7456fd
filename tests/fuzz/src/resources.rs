//! A resources document, as `update` and Update get it: which values reach which files of a cgroup.

use oci_spec::runtime::LinuxResources;
use rsrun_core::bundle::parse_resources;
use rsrun_core::cgroup::devices::Program;
use rsrun_core::cgroup::resources::{Absent, Value};
use rsrun_core::cgroup::{Controllers, writes};

use crate::ground::{CONTROLLERS, names_its_place};

/// See the module.
pub fn check(data: &[u8]) {
    let resources = match parse_resources(data) {
        Ok(loaded) => loaded.document,
        Err(error) => return names_its_place(&error, data),
    };
    let printed = serde_json::to_vec(&resources).expect("resources have a text");
    let again =
        parse_resources(&printed).unwrap_or_else(|e| panic!("what was printed is refused: {e}"));
    assert!(again.document == resources, "they read back as others");
    // Pointers of both start at the container's document.
    let spec = format!(
        r#"{{"linux":{{"resources":{}}}}}"#,
        String::from_utf8_lossy(data)
    );
    if let Err(error) = Program::compile(resources.devices().as_deref().unwrap_or_default()) {
        names_its_place(&error, spec.as_bytes());
    }
    written(&resources, spec.as_bytes());
}

/// A write goes to one file of the cgroup and is one line, whatever stands in the document.
pub fn written(resources: &LinuxResources, spec: &[u8]) {
    let changes = match writes(resources, &Controllers::parse(CONTROLLERS)) {
        Ok(changes) => changes,
        Err(error) => return names_its_place(&error, spec),
    };
    for write in changes.writes {
        plain(&write.file);
        assert!(write.pointer.starts_with('/'), "{write:?}");
        match &write.value {
            Value::Text(text) | Value::AfterFirstWord(text) => one_line(text),
        }
        if let Absent::Instead(file, text) = &write.absent {
            plain(file);
            one_line(text);
        }
    }
}

fn plain(file: &str) {
    let proper =
        !file.is_empty() && !file.contains(['/', '\0', '\n']) && file != "." && file != "..";
    assert!(proper, "{file:?} is no file of a cgroup");
}

fn one_line(text: &str) {
    assert!(!text.contains('\0'), "{text:?} holds a NUL");
}
