//! containerd's Task service, versions 2 and 3: the same messages under two names.
//!
//! ```text
//! connection ── frames, limits ──► answer() ── which service, which method ──► calls ──► sandbox
//! ```
//!
//! ttrpc 0.10 gives the types of the protocol; its server is not used, because what a shim has to promise can't be
//! had from it: an unknown service is answered InvalidArgument there, requests in flight are not limited, a panic
//! leaves its caller waiting, and a closed connection drops the work.

mod calls;
pub mod connection;
pub mod frame;

use std::rc::Rc;

use ttrpc::{Code, Request};

use crate::failure::{Failure, Result};
use crate::pending;
use crate::sandbox::Sandbox;

/// Names of the service: 1.x and downgraded 2.x ask for version 2, newer ones for version 3.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// Our own service, for `rsrun debug`.
const DEBUG_SERVICE: &str = "rsrun.shim.v1.Debug";

/// The service that `start` asks whether it is served, and its only method.
pub const START_SERVICE: &str = "rsrun.shim.v1.Start";
pub const AWAIT: &str = "Await";

/// Methods of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// State of a process.
    State,
    /// Create a container.
    Create,
    /// Start a process.
    Start,
    /// Remove a container or an exec.
    Delete,
    /// Processes of a container.
    Pids,
    /// Freeze.
    Pause,
    /// Thaw.
    Resume,
    /// Write to disk.
    Checkpoint,
    /// Send a signal.
    Kill,
    /// Add an exec.
    Exec,
    /// Size of a terminal.
    ResizePty,
    /// Close stdin.
    CloseIo,
    /// Change limits.
    Update,
    /// Wait for an exit.
    Wait,
    /// Counters.
    Stats,
    /// Who serves.
    Connect,
    /// End the process.
    Shutdown,
    /// Tell what is waited for. Ours, not containerd's.
    Describe,
    /// Somebody's `start` found us serving: its container is to come. Ours, not containerd's.
    Await,
}

/// Which method a request is for; Unimplemented where Go's server says so too.
pub fn method(request: &Request) -> Result<Method> {
    if request.service == DEBUG_SERVICE && request.method == "Describe" {
        return Ok(Method::Describe);
    }
    if request.service == START_SERVICE && request.method == AWAIT {
        return Ok(Method::Await);
    }
    if !SERVICES.contains(&request.service.as_str()) {
        let text = format!("service {}: not implemented", request.service);
        return Err(Failure::new(Code::UNIMPLEMENTED, text));
    }
    Ok(match request.method.as_str() {
        "State" => Method::State,
        "Create" => Method::Create,
        "Start" => Method::Start,
        "Delete" => Method::Delete,
        "Pids" => Method::Pids,
        "Pause" => Method::Pause,
        "Resume" => Method::Resume,
        "Checkpoint" => Method::Checkpoint,
        "Kill" => Method::Kill,
        "Exec" => Method::Exec,
        "ResizePty" => Method::ResizePty,
        "CloseIO" => Method::CloseIo,
        "Update" => Method::Update,
        "Wait" => Method::Wait,
        "Stats" => Method::Stats,
        "Connect" => Method::Connect,
        "Shutdown" => Method::Shutdown,
        other => {
            let text = format!(
                "method {other} of service {}: not implemented",
                request.service
            );
            return Err(Failure::new(Code::UNIMPLEMENTED, text));
        }
    })
}

/// Does what a request asks for and returns the bytes of its answer. What has an effect goes on when the
/// returned future is dropped; only Wait ends with it.
pub async fn answer(sandbox: Rc<Sandbox>, method: Method, request: Request) -> Result<Vec<u8>> {
    let payload = request.payload;
    let unanswered = sandbox.pending.begin(method, &payload);
    if method == Method::Wait {
        return calls::wait(&sandbox, &payload).await;
    }
    // Noted as long as the work goes on, also when nobody waits for its answer any more.
    let work = async move {
        let number = Some(unanswered.number());
        pending::working_for(number, calls::call(sandbox, method, payload)).await
    };
    match tokio::task::spawn_local(work).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::new(
            Code::INTERNAL,
            format!("{method:?} panicked; see the shim's log"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(service: &str, method: &str) -> Request {
        Request {
            service: service.into(),
            method: method.into(),
            ..Request::default()
        }
    }

    #[test]
    fn both_versions_of_the_service_are_the_same() {
        for service in SERVICES {
            assert_eq!(
                method(&request(service, "CloseIO")).unwrap(),
                Method::CloseIo
            );
        }
    }

    #[test]
    fn unknown_services_and_methods_are_unimplemented() {
        for (service, name) in [
            ("containerd.task.v1.Task", "State"),
            ("containerd.runtime.sandbox.v1.Sandbox", "CreateSandbox"),
            ("containerd.task.v3.Task", "Fly"),
        ] {
            assert_eq!(
                method(&request(service, name)).unwrap_err().code,
                Code::UNIMPLEMENTED
            );
        }
    }
}
