//! `state`, and the document that `list` prints too.

use rsrun_core::{Container, Result, Status};
use serde::Serialize;

use super::{container, print, rfc3339, to_json};
use crate::args::Global;

/// The state of a container in runc's form: what the specification demands, and more.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    oci_version: String,
    /// Its name.
    pub id: String,
    /// Host pid of its init; 0 when it has stopped.
    pub pid: i32,
    /// OCI status.
    pub status: String,
    /// The bundle.
    pub bundle: String,
    rootfs: String,
    /// When it was created.
    pub created: String,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: std::collections::BTreeMap<String, String>,
    /// Who created it.
    pub owner: String,
}

impl State {
    /// Of a container, as it is now.
    pub fn of(container: &Container) -> Result<Self> {
        let (record, status) = (container.record(), container.status()?);
        Ok(Self {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            pid: if status == Status::Stopped {
                0
            } else {
                container.pid()
            },
            status: status.to_string(),
            bundle: record.bundle.display().to_string(),
            rootfs: record.rootfs.display().to_string(),
            created: rfc3339(record.created),
            annotations: record.annotations.clone(),
            owner: owner(record.owner),
        })
    }
}

/// runc prints the name; a static program does not ask the name service, so anybody else is a number.
fn owner(uid: u32) -> String {
    if uid == 0 {
        "root".into()
    } else {
        uid.to_string()
    }
}

/// `state`
pub fn run(global: &Global, id: &str) -> Result<()> {
    let state = State::of(&container(global, id)?)?;
    print(&format!("{}\n", to_json(&state)?))
}
