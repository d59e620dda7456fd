//! One message of the Task service: from its bytes to what the sandbox would be asked.

use containerd_shim_protos::api::{CreateTaskRequest, ExecProcessRequest, UpdateTaskRequest};
use protobuf::Message;
use rsrun_core::plan::{ExecAsk, exec};
use rsrun_shim::fuzzing::{create_call, exec_call, resources};

use crate::ground::{exec_facts, freezes, host};
use crate::{mounts, names, options, resources as limits};

/// See the module. The first byte says which message the rest is.
pub fn check(data: &[u8]) {
    let Some((kind, payload)) = data.split_first() else {
        return;
    };
    match kind % 3 {
        0 => create(payload),
        1 => add_exec(payload),
        _ => update(payload),
    }
}

fn create(payload: &[u8]) {
    let Ok(request) = CreateTaskRequest::parse_from_bytes(payload) else {
        return;
    };
    if let Some(any) = request.options.as_ref() {
        options::decoded(any);
        if any.type_url.ends_with("runtimeoptions.v1.Options") {
            // It could name a file of this machine.
            return;
        }
    }
    let asked = request.clone();
    match create_call(request, "k8s.io") {
        Ok(call) => {
            assert_eq!(call.id.as_str(), asked.id);
            assert!(call.bundle.is_absolute());
            assert_eq!(call.rootfs.len(), asked.rootfs.len());
            names::uri(&call.streams.stdout);
            for mount in &call.rootfs {
                mounts::of_a_create(&mount.options);
            }
        }
        Err(failure) => assert!(!failure.text.is_empty()),
    }
}

fn add_exec(payload: &[u8]) {
    let Ok(request) = ExecProcessRequest::parse_from_bytes(payload) else {
        return;
    };
    match exec_call(request) {
        Ok(call) => {
            if let Ok(planned) = exec(&call.process, &exec_facts(), &ExecAsk::default(), &host()) {
                freezes(&planned.plan);
            }
        }
        Err(failure) => assert!(!failure.text.is_empty()),
    }
}

fn update(payload: &[u8]) {
    let Ok(request) = UpdateTaskRequest::parse_from_bytes(payload) else {
        return;
    };
    if let Ok(asked) = resources(request.resources.as_ref()) {
        // The document is the value of the Any.
        let text = request.resources.as_ref().map(|any| any.value.as_slice());
        let spec = [
            br#"{"linux":{"resources":"#.as_slice(),
            text.unwrap_or_default(),
            b"}}",
        ]
        .concat();
        limits::written(&asked, &spec);
    }
}
