//! `-info` and `-version`: what the runtime is and what it can do.

use std::io::{Read, Write};

use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};

use super::{NAME, RUNTIME};
use crate::convert;

/// Type of the features document; its value is JSON, not protobuf.
const FEATURES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Prints the version.
pub fn version(revision: &str) {
    println!(
        "{NAME}:\n  Version:  {}\n  Revision: {}",
        env!("CARGO_PKG_VERSION"),
        revision
    );
}

/// Reads options from stdin and prints the description; options of any kind, or none, are only echoed.
pub fn run(revision: &str) -> Result<(), String> {
    let mut message = Vec::new();
    let _ = std::io::stdin()
        .lock()
        .take(1 << 20)
        .read_to_end(&mut message);
    let options = Any::parse_from_bytes(&message)
        .ok()
        .filter(|any| !any.type_url.is_empty());
    let features = rsrun_core::features::features().map_err(|e| e.to_string())?;
    let features = serde_json::to_vec(&features).map_err(|e| format!("features: {e}"))?;
    let version = RuntimeVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: revision.to_owned(),
        ..RuntimeVersion::default()
    };
    let description = RuntimeInfo {
        name: RUNTIME.to_owned(),
        version: MessageField::some(version),
        options: options.into(),
        features: MessageField::some(Any {
            type_url: FEATURES_TYPE.to_owned(),
            value: features,
            ..Any::default()
        }),
        ..RuntimeInfo::default()
    };
    let mut stdout = std::io::stdout().lock();
    let bytes = convert::bytes(&description);
    stdout
        .write_all(&bytes)
        .and_then(|()| stdout.flush())
        .map_err(|e| format!("write the answer: {e}"))
}
