//! Each method of the Task service: decode its message, ask the sandbox, encode the answer.

use std::rc::Rc;

use super::Method;
use crate::convert::{self, bytes};
use crate::failure::{Failure, Result};
use crate::sandbox::Sandbox;
use crate::wire::Writer;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest,
    PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest, StartResponse,
    StateRequest, StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest,
};
use protobuf::{Message, MessageField};
use rsrun_core::ExecId;
use ttrpc::Code;

/// Does what has an effect, or answers at once.
pub async fn call(sandbox: Rc<Sandbox>, method: Method, payload: Vec<u8>) -> Result<Vec<u8>> {
    let payload = payload.as_slice();
    match method {
        Method::State => state(&sandbox, payload),
        Method::Create => create(&sandbox, payload).await,
        Method::Start => start(&sandbox, payload).await,
        Method::Delete => delete(&sandbox, payload).await,
        Method::Pids => pids(&sandbox, payload).await,
        Method::Pause => {
            sandbox
                .owner(&decode::<PauseRequest>(payload)?.id)?
                .pause()
                .await?;
            Ok(EMPTY)
        }
        Method::Resume => {
            sandbox
                .owner(&decode::<ResumeRequest>(payload)?.id)?
                .resume()
                .await?;
            Ok(EMPTY)
        }
        Method::Checkpoint => {
            sandbox
                .owner(&decode::<CheckpointTaskRequest>(payload)?.id)?
                .checkpoint()?;
            Ok(EMPTY)
        }
        Method::Kill => kill(&sandbox, payload).await,
        Method::Exec => {
            let request: ExecProcessRequest = decode(payload)?;
            let owner = sandbox.owner(&request.id)?;
            owner.add_exec(convert::exec_call(request)?)?;
            Ok(EMPTY)
        }
        Method::ResizePty => {
            let request: ResizePtyRequest = decode(payload)?;
            let exec = exec_of(&request.exec_id)?;
            sandbox
                .owner(&request.id)?
                .resize(exec.as_ref(), request.width, request.height)?;
            Ok(EMPTY)
        }
        Method::CloseIo => {
            let request: CloseIORequest = decode(payload)?;
            let owner = sandbox.owner(&request.id)?;
            if request.stdin {
                owner.close_stdin(exec_of(&request.exec_id)?.as_ref())?;
            }
            Ok(EMPTY)
        }
        Method::Update => {
            let request: UpdateTaskRequest = decode(payload)?;
            let resources = convert::resources(request.resources.as_ref())?;
            sandbox.owner(&request.id)?.update(resources).await?;
            Ok(EMPTY)
        }
        Method::Wait => wait(&sandbox, payload).await,
        Method::Stats => stats(&sandbox, payload).await,
        Method::Connect => connect(&sandbox, payload),
        Method::Shutdown => {
            let _: ShutdownRequest = decode(payload)?;
            sandbox.wish_end();
            Ok(EMPTY)
        }
        Method::Describe => Ok(describe(&sandbox)),
        Method::Await => {
            sandbox.probed();
            Ok(EMPTY)
        }
    }
}

/// `google.protobuf.Empty`.
const EMPTY: Vec<u8> = Vec::new();

fn decode<M: Message>(payload: &[u8]) -> Result<M> {
    M::parse_from_bytes(payload).map_err(|e| Failure::invalid(format!("request: {e}")))
}

/// The exec that a request names, `None` for the init.
fn exec_of(id: &str) -> Result<Option<ExecId>> {
    match id {
        "" => Ok(None),
        id => convert::exec_id(id).map(Some),
    }
}

fn state(sandbox: &Sandbox, payload: &[u8]) -> Result<Vec<u8>> {
    let request: StateRequest = decode(payload)?;
    let exec = exec_of(&request.exec_id)?;
    let snapshot = sandbox.owner(&request.id)?.snapshot(exec.as_ref())?;
    Ok(bytes(&convert::state(snapshot)))
}

async fn create(sandbox: &Rc<Sandbox>, payload: &[u8]) -> Result<Vec<u8>> {
    let request: CreateTaskRequest = decode(payload)?;
    let call = convert::create_call(request, &sandbox.ctr_ns).map_err(known_call)?;
    let pid = sandbox.create(call).await.map_err(known_call)?;
    Ok(bytes(&CreateTaskResponse {
        pid: convert::pid(pid),
        ..CreateTaskResponse::default()
    }))
}

/// Create may not answer Unimplemented: containerd 2 takes it for a shim of an older protocol and
/// asks once more, when its client has already closed the streams that are to be opened again.
fn known_call(failure: Failure) -> Failure {
    let code = match failure.code {
        Code::UNIMPLEMENTED => Code::FAILED_PRECONDITION,
        code => code,
    };
    Failure { code, ..failure }
}

async fn start(sandbox: &Sandbox, payload: &[u8]) -> Result<Vec<u8>> {
    let request: StartRequest = decode(payload)?;
    let owner = sandbox.owner(&request.id)?;
    let pid = match exec_of(&request.exec_id)? {
        None => owner.start().await?,
        Some(exec) => owner.start_exec(&exec).await?,
    };
    Ok(bytes(&StartResponse {
        pid: convert::pid(pid),
        ..StartResponse::default()
    }))
}

async fn delete(sandbox: &Sandbox, payload: &[u8]) -> Result<Vec<u8>> {
    let request: DeleteRequest = decode(payload)?;
    let owner = sandbox.owner(&request.id)?;
    let answer = match exec_of(&request.exec_id)? {
        None => {
            let exit = owner.delete().await?;
            convert::deleted(exit.pid, exit.code, Some(exit.at))
        }
        Some(exec) => {
            let (pid, exit) = owner.delete_exec(&exec).await?;
            convert::deleted(
                pid,
                exit.map_or(0, |exit| exit.code),
                exit.map(|exit| exit.at),
            )
        }
    };
    Ok(bytes(&answer))
}

async fn pids(sandbox: &Sandbox, payload: &[u8]) -> Result<Vec<u8>> {
    let request: PidsRequest = decode(payload)?;
    let pids = sandbox.owner(&request.id)?.pids().await?;
    let processes = pids
        .iter()
        .map(|(pid, exec)| convert::process(*pid, exec.as_deref()))
        .collect();
    Ok(bytes(&PidsResponse {
        processes,
        ..PidsResponse::default()
    }))
}

async fn kill(sandbox: &Sandbox, payload: &[u8]) -> Result<Vec<u8>> {
    let request: KillRequest = decode(payload)?;
    let signal = i32::try_from(request.signal)
        .ok()
        .filter(|signal| (0..=64).contains(signal));
    let signal =
        signal.ok_or_else(|| Failure::invalid(format!("{} is not a signal", request.signal)))?;
    let exec = exec_of(&request.exec_id)?;
    sandbox
        .owner(&request.id)?
        .kill(exec.as_ref(), signal, request.all)
        .await?;
    Ok(EMPTY)
}

async fn stats(sandbox: &Sandbox, payload: &[u8]) -> Result<Vec<u8>> {
    let request: StatsRequest = decode(payload)?;
    let stats = sandbox.owner(&request.id)?.stats().await?;
    let stats = MessageField::some(convert::metrics(&stats));
    Ok(bytes(&StatsResponse {
        stats,
        ..StatsResponse::default()
    }))
}

fn connect(sandbox: &Sandbox, payload: &[u8]) -> Result<Vec<u8>> {
    let request: ConnectRequest = decode(payload)?;
    let answer = ConnectResponse {
        shim_pid: std::process::id(),
        task_pid: sandbox
            .owner(&request.id)
            .map_or(0, |owner| convert::pid(owner.pid())),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..ConnectResponse::default()
    };
    Ok(bytes(&answer))
}

/// One field 1 for each line.
fn describe(sandbox: &Sandbox) -> Vec<u8> {
    let mut message = Writer::new();
    for line in sandbox.describe() {
        message.text(1, &line);
    }
    message.into_bytes()
}

/// Waits for an exit, without holding on to the container: one that is given up must not be kept by who waits for it.
pub async fn wait(sandbox: &Sandbox, payload: &[u8]) -> Result<Vec<u8>> {
    let request: WaitRequest = decode(payload)?;
    let mut told = {
        let exec = exec_of(&request.exec_id)?;
        sandbox.owner(&request.id)?.exit_of(exec.as_ref())?
    };
    let exit = told.wait_for(Option::is_some).await.map(|exit| *exit);
    let exit = exit.ok().flatten();
    let exit = exit.ok_or_else(|| {
        Failure::not_found(format!("container {}: gone without an exit", request.id))
    })?;
    Ok(bytes(&convert::waited(&exit)))
}
