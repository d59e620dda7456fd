//! The calls of the Task service on one container, as Rust functions.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::api;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};
use serde_json::{Value, json};

use crate::ttrpc::{Answer, Client};

/// The service of containerd 1.x and, as a fallback, 2.x.
pub const V2: &str = "containerd.task.v2.Task";
/// The service of containerd 2.x.
pub const V3: &str = "containerd.task.v3.Task";
/// The exec id that means the init.
pub const INIT: &str = "";

/// Where a process' streams go, as the strings of the requests.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of the requests")]
pub struct Streams {
    pub terminal: bool,
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exit {
    /// Exit code, or 128 + signal.
    pub status: u32,
    /// Seconds since 1970; `None` where the answer has no time.
    pub at: Option<i64>,
}

/// One container on one connection.
#[derive(Clone)]
pub struct Task {
    /// The connection; several tasks may share it.
    pub client: Arc<Client>,
    /// [`V2`] or [`V3`].
    pub service: &'static str,
    /// The container.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
}

impl Task {
    /// Any method with any message.
    pub fn call<A: Message>(&self, method: &str, message: &impl Message) -> Answer<A> {
        self.client.call(self.service, method, message)
    }

    /// Creates the container on `rootfs`; gives the init's pid.
    pub fn create(&self, rootfs: &[api::Mount], streams: &Streams) -> Answer<u32> {
        let request = self.create_request(rootfs, streams);
        Ok(self
            .call::<api::CreateTaskResponse>("Create", &request)?
            .pid)
    }

    /// The request of [`Task::create`], to be changed before it is sent.
    pub fn create_request(
        &self,
        rootfs: &[api::Mount],
        streams: &Streams,
    ) -> api::CreateTaskRequest {
        api::CreateTaskRequest {
            id: self.id.clone(),
            bundle: self.bundle.display().to_string(),
            rootfs: rootfs.to_vec(),
            terminal: streams.terminal,
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            ..Default::default()
        }
    }

    /// Starts a process; gives its pid.
    pub fn start(&self, exec: &str) -> Answer<u32> {
        let request = api::StartRequest {
            id: self.id.clone(),
            exec_id: exec.into(),
            ..Default::default()
        };
        Ok(self.call::<api::StartResponse>("Start", &request)?.pid)
    }

    /// Asks for the state of a process.
    pub fn state(&self, exec: &str) -> Answer<api::StateResponse> {
        self.call(
            "State",
            &api::StateRequest {
                id: self.id.clone(),
                exec_id: exec.into(),
                ..Default::default()
            },
        )
    }

    /// The status of a process.
    pub fn status(&self, exec: &str) -> Answer<api::Status> {
        Ok(self.state(exec)?.status.enum_value_or(api::Status::UNKNOWN))
    }

    /// Signals a process.
    pub fn kill(&self, exec: &str, signal: i32) -> Answer<()> {
        self.signal(exec, signal, false)
    }

    /// Signals every process of the container.
    pub fn kill_all(&self, signal: i32) -> Answer<()> {
        self.signal(INIT, signal, true)
    }

    fn signal(&self, exec: &str, signal: i32, all: bool) -> Answer<()> {
        let request = api::KillRequest {
            id: self.id.clone(),
            exec_id: exec.into(),
            signal: signal.try_into().unwrap_or(u32::MAX),
            all,
            ..Default::default()
        };
        self.call::<api::Empty>("Kill", &request).map(drop)
    }

    /// Waits for the end of a process.
    pub fn wait(&self, exec: &str) -> Answer<Exit> {
        self.wait_within(exec, Duration::ZERO)
    }

    /// The same with a limit that the server is told; zero means none.
    pub fn wait_within(&self, exec: &str, limit: Duration) -> Answer<Exit> {
        let request = api::WaitRequest {
            id: self.id.clone(),
            exec_id: exec.into(),
            ..Default::default()
        };
        let answer: api::WaitResponse =
            self.client
                .call_within(self.service, "Wait", &request, limit)?;
        Ok(Exit {
            status: answer.exit_status,
            at: answer.exited_at.as_ref().map(|t| t.seconds),
        })
    }

    /// Deletes a process; gives its pid and how it ended.
    pub fn delete(&self, exec: &str) -> Answer<(u32, Exit)> {
        let request = api::DeleteRequest {
            id: self.id.clone(),
            exec_id: exec.into(),
            ..Default::default()
        };
        let answer: api::DeleteResponse = self.call("Delete", &request)?;
        Ok((
            answer.pid,
            Exit {
                status: answer.exit_status,
                at: answer.exited_at.as_ref().map(|t| t.seconds),
            },
        ))
    }

    /// Adds a process that runs `args`.
    pub fn exec(&self, exec: &str, args: &[&str], streams: &Streams) -> Answer<()> {
        self.exec_process(exec, &process(args, streams.terminal), streams)
    }

    /// Adds a process as the specification describes it.
    pub fn exec_process(&self, exec: &str, process: &Value, streams: &Streams) -> Answer<()> {
        let request = api::ExecProcessRequest {
            id: self.id.clone(),
            exec_id: exec.into(),
            terminal: streams.terminal,
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            spec: MessageField::some(json_any(
                "types.containerd.io/opencontainers/runtime-spec/1/Process",
                process,
            )),
            ..Default::default()
        };
        self.call::<api::Empty>("Exec", &request).map(drop)
    }

    /// The pids of the container, each with the exec id that goes with it.
    pub fn pids(&self) -> Answer<Vec<(u32, Option<String>)>> {
        let answer: api::PidsResponse = self.call(
            "Pids",
            &api::PidsRequest {
                id: self.id.clone(),
                ..Default::default()
            },
        )?;
        Ok(answer
            .processes
            .iter()
            .map(|p| (p.pid, p.info.as_ref().and_then(exec_of)))
            .collect())
    }

    /// Freezes the container.
    pub fn pause(&self) -> Answer<()> {
        self.call::<api::Empty>(
            "Pause",
            &api::PauseRequest {
                id: self.id.clone(),
                ..Default::default()
            },
        )
        .map(drop)
    }

    /// Thaws the container.
    pub fn resume(&self) -> Answer<()> {
        self.call::<api::Empty>(
            "Resume",
            &api::ResumeRequest {
                id: self.id.clone(),
                ..Default::default()
            },
        )
        .map(drop)
    }

    /// Changes the limits, given as the specification's LinuxResources.
    pub fn update(&self, resources: &Value) -> Answer<()> {
        let kind = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
        let request = api::UpdateTaskRequest {
            id: self.id.clone(),
            resources: MessageField::some(json_any(kind, resources)),
            ..Default::default()
        };
        self.call::<api::Empty>("Update", &request).map(drop)
    }

    /// The container's numbers, still in their envelope.
    pub fn stats(&self) -> Answer<Any> {
        let answer: api::StatsResponse = self.call(
            "Stats",
            &api::StatsRequest {
                id: self.id.clone(),
                ..Default::default()
            },
        )?;
        Ok(answer.stats.unwrap_or_default())
    }

    /// Writes a checkpoint.
    pub fn checkpoint(&self, path: &str) -> Answer<()> {
        let request = api::CheckpointTaskRequest {
            id: self.id.clone(),
            path: path.into(),
            ..Default::default()
        };
        self.call::<api::Empty>("Checkpoint", &request).map(drop)
    }

    /// Sets the size of a process' terminal.
    pub fn resize(&self, exec: &str, width: u32, height: u32) -> Answer<()> {
        let request = api::ResizePtyRequest {
            id: self.id.clone(),
            exec_id: exec.into(),
            width,
            height,
            ..Default::default()
        };
        self.call::<api::Empty>("ResizePty", &request).map(drop)
    }

    /// Lets a process see the end of its input.
    pub fn close_io(&self, exec: &str) -> Answer<()> {
        let request = api::CloseIORequest {
            id: self.id.clone(),
            exec_id: exec.into(),
            stdin: true,
            ..Default::default()
        };
        self.call::<api::Empty>("CloseIO", &request).map(drop)
    }

    /// The shim's and the init's pid.
    pub fn connect(&self) -> Answer<(u32, u32)> {
        let answer: api::ConnectResponse = self.call(
            "Connect",
            &api::ConnectRequest {
                id: self.id.clone(),
                ..Default::default()
            },
        )?;
        Ok((answer.shim_pid, answer.task_pid))
    }

    /// Asks the shim to end.
    pub fn shutdown(&self) -> Answer<()> {
        self.call::<api::Empty>(
            "Shutdown",
            &api::ShutdownRequest {
                id: self.id.clone(),
                ..Default::default()
            },
        )
        .map(drop)
    }
}

/// A process for [`Task::exec_process`].
pub fn process(args: &[&str], terminal: bool) -> Value {
    json!({
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "cwd": "/"
    })
}

fn json_any(kind: &str, value: &Value) -> Any {
    Any {
        type_url: kind.into(),
        value: value.to_string().into_bytes(),
        ..Default::default()
    }
}

fn exec_of(info: &Any) -> Option<String> {
    let named = info.type_url.ends_with("containerd.runc.v1.ProcessDetails");
    named
        .then(|| {
            containerd_shim_protos::shim::oci::ProcessDetails::parse_from_bytes(&info.value).ok()
        })
        .flatten()
        .map(|d| d.exec_id)
}
