//! Messages of containerd ↔ types of the core: the only file that names both.

mod metrics;

use std::time::SystemTime;

pub use metrics::metrics;

use containerd_shim_protos::api::{
    CreateTaskRequest, DeleteResponse, ExecProcessRequest, ForwardRequest, Mount as MountMessage,
    ProcessInfo, StateResponse, Status as TaskStatus, WaitResponse,
};
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::topics;
use oci_spec::runtime::LinuxResources;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message, MessageField};
use rsrun_core::bundle::{Loaded, parse_process, parse_resources};
use rsrun_core::{ContainerId, Context, ExecId, Exit};
use ttrpc::proto::KeyValue;

use crate::container::{CreateCall, ExecCall, Snapshot, State};
use crate::event::{Ended, Event, What};
use crate::failure::{Failure, Result};
use crate::io;
use crate::moment;
use crate::mounts::Mount;
use crate::options::Options;
use crate::wire::Writer;

/// Largest JSON document in a request; the frame's limit is 4 MiB anyway.
const LARGEST_DOCUMENT: usize = 4 << 20;

/// A Create as the sandbox takes it.
pub fn create_call(request: CreateTaskRequest, ctr_ns: &str) -> Result<CreateCall> {
    let id = container_id(&request.id)?;
    if !request.bundle.starts_with('/') {
        return Err(Failure::invalid(format!(
            "bundle {:?} is not an absolute path",
            request.bundle
        )));
    }
    if !request.checkpoint.is_empty() {
        return Err(Failure::new(
            ttrpc::Code::UNIMPLEMENTED,
            "restore from a checkpoint is not supported",
        ));
    }
    let options = request
        .options
        .as_ref()
        .map_or_else(|| Ok(Options::default()), Options::decode);
    let options = options.map_err(Failure::invalid)?;
    Ok(CreateCall {
        streams: io::Request {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
            process_id: request.id,
            ctr_ns: ctr_ns.to_owned(),
            // The owner of the container completes these.
            io_uid: 0,
            io_gid: 0,
        },
        id,
        bundle: request.bundle.into(),
        rootfs: request.rootfs.into_iter().map(mount).collect(),
        options,
    })
}

fn mount(message: MountMessage) -> Mount {
    Mount {
        kind: message.type_,
        source: message.source,
        target: message.target,
        options: message.options,
    }
}

/// An Exec as a container's owner takes it.
pub fn exec_call(request: ExecProcessRequest) -> Result<ExecCall> {
    Ok(ExecCall {
        id: exec_id(&request.exec_id)?,
        process: document(request.spec.as_ref(), "process", parse_process)?,
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
    })
}

/// The resources of an Update.
pub fn resources(any: Option<&Any>) -> Result<LinuxResources> {
    document(any, "resources", parse_resources)
}

/// A JSON document in an `Any`, read as those of a bundle are; its type url is not looked at, clients differ in
/// its prefix.
fn document<T>(
    any: Option<&Any>,
    what: &str,
    parse: impl FnOnce(&[u8]) -> rsrun_core::Result<Loaded<T>>,
) -> Result<T> {
    let any = any.ok_or_else(|| Failure::invalid(format!("the request carries no {what}")))?;
    if any.value.len() > LARGEST_DOCUMENT {
        return Err(Failure::invalid(format!(
            "{what} of {} bytes is larger than 4 MiB",
            any.value.len()
        )));
    }
    let loaded = parse(&any.value).with(|| what)?;
    for warning in loaded.warnings {
        log::warn!("{what}: {warning}");
    }
    Ok(loaded.document)
}

/// A checked container id.
pub fn container_id(text: &str) -> Result<ContainerId> {
    Ok(ContainerId::parse(text)?)
}

/// A checked exec id.
pub fn exec_id(text: &str) -> Result<ExecId> {
    Ok(ExecId::parse(text)?)
}

/// A pid in the type of the messages; 0 stands for none.
pub fn pid(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or(0)
}

/// A point in time as a message.
pub fn timestamp(at: SystemTime) -> MessageField<Timestamp> {
    let (seconds, nanos) = moment::since_epoch(at);
    MessageField::some(Timestamp {
        seconds,
        nanos: nanos.cast_signed(),
        ..Timestamp::default()
    })
}

/// The answer to State.
pub fn state(snapshot: Snapshot) -> StateResponse {
    let exit = snapshot.exit;
    StateResponse {
        id: snapshot.process_id,
        bundle: snapshot.bundle,
        pid: pid(snapshot.pid),
        status: task_status(snapshot.state).into(),
        stdin: snapshot.streams.stdin,
        stdout: snapshot.streams.stdout,
        stderr: snapshot.streams.stderr,
        terminal: snapshot.streams.terminal,
        exit_status: exit.map_or(0, |e| e.code),
        exited_at: exit.map_or_else(MessageField::none, |e| timestamp(e.at)),
        exec_id: snapshot.exec_id,
        ..StateResponse::default()
    }
}

fn task_status(state: State) -> TaskStatus {
    match state {
        State::Created => TaskStatus::CREATED,
        State::Running => TaskStatus::RUNNING,
        State::Pausing => TaskStatus::PAUSING,
        State::Paused => TaskStatus::PAUSED,
        State::Stopped => TaskStatus::STOPPED,
    }
}

/// The answer to Wait.
pub fn waited(exit: &Exit) -> WaitResponse {
    WaitResponse {
        exit_status: exit.code,
        exited_at: timestamp(exit.at),
        ..WaitResponse::default()
    }
}

/// The answer to Delete, and what the `delete` call prints.
pub fn deleted(of: i32, status: u32, at: Option<SystemTime>) -> DeleteResponse {
    DeleteResponse {
        pid: pid(of),
        exit_status: status,
        exited_at: at.map_or_else(MessageField::none, timestamp),
        ..DeleteResponse::default()
    }
}

/// One process of Pids; `exec` if it is one that was asked for.
pub fn process(of: i32, exec: Option<&str>) -> ProcessInfo {
    let details = |exec: &str| {
        let mut details = Writer::new();
        details.text(1, exec);
        Any {
            type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
            value: details.into_bytes(),
            ..Any::default()
        }
    };
    ProcessInfo {
        pid: pid(of),
        info: exec.map(details).into(),
        ..ProcessInfo::default()
    }
}

/// A process's end as events tell it.
pub fn ended(process: &str, exit: &Exit) -> Ended {
    Ended {
        process: process.to_owned(),
        pid: exit.pid,
        status: exit.code,
        at: exit.at,
    }
}

/// The call that hands an event to containerd.
pub fn forward(event: &Event, at: SystemTime, ctr_ns: &str) -> ttrpc::Request {
    let (topic, event) = event_message(event);
    let envelope = Envelope {
        timestamp: timestamp(at),
        namespace: ctr_ns.to_owned(),
        topic: topic.to_owned(),
        event: MessageField::some(event),
        ..Envelope::default()
    };
    let request = ForwardRequest {
        envelope: MessageField::some(envelope),
        ..ForwardRequest::default()
    };
    let ctr_ns = KeyValue {
        key: "containerd-namespace-ttrpc".to_owned(),
        value: ctr_ns.to_owned(),
        ..KeyValue::default()
    };
    ttrpc::Request {
        service: "containerd.services.events.ttrpc.v1.Events".to_owned(),
        method: "Forward".to_owned(),
        payload: bytes(&request),
        metadata: vec![ctr_ns],
        ..ttrpc::Request::default()
    }
}

/// A generated message as bytes: writing to memory can only fail for messages over 2 GiB.
pub fn bytes(message: &impl Message) -> Vec<u8> {
    message.write_to_bytes().unwrap_or_default()
}

fn event_message(event: &Event) -> (&'static str, Any) {
    let container_id = event.container.clone();
    match &event.what {
        What::Created {
            bundle,
            rootfs,
            stdin,
            stdout,
            stderr,
            terminal,
            pid: of,
        } => {
            let streams = TaskIO {
                stdin: stdin.clone(),
                stdout: stdout.clone(),
                stderr: stderr.clone(),
                terminal: *terminal,
                ..TaskIO::default()
            };
            let message = TaskCreate {
                container_id,
                bundle: bundle.clone(),
                rootfs: rootfs.iter().map(mount_message).collect(),
                io: MessageField::some(streams),
                pid: pid(*of),
                ..TaskCreate::default()
            };
            (
                topics::TASK_CREATE_EVENT_TOPIC,
                packed("TaskCreate", &message),
            )
        }
        What::Started { pid: of } => {
            let message = TaskStart {
                container_id,
                pid: pid(*of),
                ..TaskStart::default()
            };
            (
                topics::TASK_START_EVENT_TOPIC,
                packed("TaskStart", &message),
            )
        }
        What::ExecAdded { exec } => {
            let message = TaskExecAdded {
                container_id,
                exec_id: exec.clone(),
                ..TaskExecAdded::default()
            };
            (
                topics::TASK_EXEC_ADDED_EVENT_TOPIC,
                packed("TaskExecAdded", &message),
            )
        }
        What::ExecStarted { exec, pid: of } => {
            let message = TaskExecStarted {
                container_id,
                exec_id: exec.clone(),
                pid: pid(*of),
                ..TaskExecStarted::default()
            };
            (
                topics::TASK_EXEC_STARTED_EVENT_TOPIC,
                packed("TaskExecStarted", &message),
            )
        }
        What::Exited(ended) => {
            let message = TaskExit {
                container_id,
                id: ended.process.clone(),
                pid: pid(ended.pid),
                exit_status: ended.status,
                exited_at: timestamp(ended.at),
                ..TaskExit::default()
            };
            (topics::TASK_EXIT_EVENT_TOPIC, packed("TaskExit", &message))
        }
        What::OutOfMemory => {
            let message = TaskOOM {
                container_id,
                ..TaskOOM::default()
            };
            (topics::TASK_OOM_EVENT_TOPIC, packed("TaskOOM", &message))
        }
        What::Paused => {
            let message = TaskPaused {
                container_id,
                ..TaskPaused::default()
            };
            (
                topics::TASK_PAUSED_EVENT_TOPIC,
                packed("TaskPaused", &message),
            )
        }
        What::Resumed => {
            let message = TaskResumed {
                container_id,
                ..TaskResumed::default()
            };
            (
                topics::TASK_RESUMED_EVENT_TOPIC,
                packed("TaskResumed", &message),
            )
        }
        What::Deleted(ended) => {
            let message = TaskDelete {
                container_id,
                pid: pid(ended.pid),
                exit_status: ended.status,
                exited_at: timestamp(ended.at),
                ..TaskDelete::default()
            };
            (
                topics::TASK_DELETE_EVENT_TOPIC,
                packed("TaskDelete", &message),
            )
        }
    }
}

fn packed(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("containerd.events.{name}"),
        value: bytes(message),
        ..Any::default()
    }
}

fn mount_message(mount: &Mount) -> containerd_shim_protos::types::mount::Mount {
    containerd_shim_protos::types::mount::Mount {
        type_: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
        ..Default::default()
    }
}
