//! What comes with `start`: stdin in its three forms, arguments, and the runtime options of every type.

use protobuf::Message;
use protobuf::well_known_types::any::Any;
use rsrun_shim::fuzzing::{Args, Protocol, RuntimeOptions, arguments, bootstrap};

/// Types of options that are understood, and one that is not.
const TYPES: [&str; 5] = [
    "containerd.runc.v1.Options",
    "runtimeoptions.v1.Options",
    "type.example/cri.runtimeoptions.v1.Options",
    "containerd.linux.runc.CreateOptions",
    "somebody.else.v9.Options",
];

/// See the module. The first byte says what the rest is.
pub fn check(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match usize::from(*kind) % (TYPES.len() + 2) {
        0 => stdin(rest),
        1 => words(rest),
        of => decoded(&Any {
            type_url: TYPES[of - 2].to_owned(),
            value: rest.to_vec(),
            ..Any::default()
        }),
    }
}

fn stdin(data: &[u8]) {
    let args = Args {
        id: "c1".into(),
        ctr_ns: "k8s.io".into(),
        address: "/run/containerd/containerd.sock".into(),
        ..Args::default()
    };
    let call = bootstrap(data, &args);
    assert!(!call.grpc_address.is_empty());
    if data.is_empty() {
        assert!(call.protocol == Protocol::Plain && call.options.is_empty());
    }
    call.options.iter().for_each(decoded);
    // Any options alone are never taken for a bootstrap message.
    for any in &call.options {
        let alone = any.write_to_bytes().expect("an Any has a text");
        if any.type_url != args.id {
            assert!(bootstrap(&alone, &args).protocol == Protocol::Plain);
        }
    }
}

fn words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(said) = arguments(text.split('\0').map(str::to_owned)) {
        assert!(!said.is_empty());
    }
}

/// The options of a request.
pub fn decoded(any: &Any) {
    // A path in them is opened: the machine's files are no part of an input.
    if mentions_a_file(any) {
        return;
    }
    match RuntimeOptions::decode(any) {
        Ok(options) => {
            let root = options.state_root("k8s.io");
            assert!(root.is_absolute() && root.ends_with("k8s.io"), "{root:?}");
            assert!(root.components().all(|part| part.as_os_str() != ".."));
        }
        Err(said) => {
            let name = any.type_url.rsplit('/').next().unwrap_or_default();
            assert!(said.contains(name), "{said}: of which options?");
        }
    }
}

fn mentions_a_file(any: &Any) -> bool {
    any.type_url.ends_with("runtimeoptions.v1.Options") && any.value.contains(&b'/')
}
