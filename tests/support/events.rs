//! containerd's end of the event channel: answers Forward and remembers what came.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use containerd_shim_protos::events::task as message;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use protobuf::Message;
use ttrpc::{Request, Response};

use crate::command::eventually;
use crate::suite::{Check, fail};
use crate::ttrpc::{RESPONSE, locked, read_frame, write_frame};

/// One event as it came.
#[derive(Clone, Debug)]
pub struct Event {
    /// The envelope, and with it topic and containerd namespace.
    pub envelope: Envelope,
    /// Whether the request's metadata named the same namespace.
    pub has_metadata: bool,
    /// What it says.
    pub what: What,
}

/// The events of a task.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "the fields are those of the messages of the same name"
)]
pub enum What {
    Create {
        id: String,
        pid: u32,
        bundle: String,
        stdout: String,
    },
    Start {
        id: String,
        pid: u32,
    },
    ExecAdded {
        id: String,
        exec: String,
    },
    ExecStarted {
        id: String,
        exec: String,
        pid: u32,
    },
    /// `process` is the exec's id, or the container's for the init.
    Exit {
        id: String,
        process: String,
        pid: u32,
        status: u32,
        at: Option<i64>,
    },
    Oom {
        id: String,
    },
    Paused {
        id: String,
    },
    Resumed {
        id: String,
    },
    Delete {
        id: String,
        exec: String,
        pid: u32,
        status: u32,
    },
    Other(String),
}

impl What {
    /// The container that the event is about.
    pub fn container(&self) -> &str {
        match self {
            What::Create { id, .. }
            | What::Start { id, .. }
            | What::ExecAdded { id, .. }
            | What::ExecStarted { id, .. }
            | What::Exit { id, .. }
            | What::Oom { id }
            | What::Paused { id }
            | What::Resumed { id }
            | What::Delete { id, .. } => id,
            What::Other(_) => "",
        }
    }
}

/// The listening end. Closed when dropped.
pub struct Endpoint {
    path: PathBuf,
    heard: Arc<Mutex<Vec<Event>>>,
    open: Mutex<Option<Arc<Session>>>,
}

/// One time of being open.
struct Session {
    closed: AtomicBool,
    streams: Mutex<Vec<UnixStream>>,
}

impl Endpoint {
    /// Listens at `path`.
    pub fn open(path: &Path) -> Check<Self> {
        let endpoint = Self {
            path: path.into(),
            heard: Arc::default(),
            open: Mutex::new(None),
        };
        endpoint.reopen()?;
        Ok(endpoint)
    }

    /// Listens again after [`Endpoint::close`]; what was heard stays.
    pub fn reopen(&self) -> Check {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path)?;
        let session = Arc::new(Session {
            closed: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let (inside, heard) = (Arc::clone(&session), Arc::clone(&self.heard));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if inside.closed.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(copy) = stream.try_clone() {
                    locked(&inside.streams).push(copy);
                }
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || listen(stream, &heard));
            }
        });
        *locked(&self.open) = Some(session);
        Ok(())
    }

    /// Goes away as containerd does when it is killed.
    pub fn close(&self) {
        let Some(session) = locked(&self.open).take() else {
            return;
        };
        session.closed.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
        for stream in locked(&session.streams).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// All events so far.
    pub fn all(&self) -> Vec<Event> {
        locked(&self.heard).clone()
    }

    /// The events of one container so far, in the order in which they came.
    pub fn of(&self, id: &str) -> Vec<What> {
        locked(&self.heard)
            .iter()
            .map(|e| &e.what)
            .filter(|w| w.container() == id)
            .cloned()
            .collect()
    }

    /// All events since the last call, which are forgotten here: for what would hear too many to keep.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *locked(&self.heard))
    }

    /// Waits until an event of `id` fits.
    pub fn expect(&self, id: &str, name: &str, fits: impl Fn(&What) -> bool) -> Check<What> {
        let find = || self.of(id).into_iter().find(&fits);
        let _ = eventually(name, Duration::from_secs(15), || find().is_some());
        match find() {
            Some(what) => Ok(what),
            None => fail(format!("no event {name} of {id} in {:?}", self.of(id))),
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.close();
    }
}

fn listen(mut stream: UnixStream, heard: &Mutex<Vec<Event>>) {
    while let Ok((id, _, payload)) = read_frame(&mut stream) {
        let Some(event) = understand(&payload) else {
            return;
        };
        locked(heard).push(event);
        let answer = Response::new().write_to_bytes().unwrap_or_default();
        if write_frame(&mut stream, id, RESPONSE, &answer).is_err() {
            return;
        }
    }
}

fn understand(payload: &[u8]) -> Option<Event> {
    let request = Request::parse_from_bytes(payload).ok()?;
    if request.service != "containerd.services.events.ttrpc.v1.Events"
        || request.method != "Forward"
    {
        return None;
    }
    let envelope = ForwardRequest::parse_from_bytes(&request.payload)
        .ok()?
        .envelope
        .into_option()?;
    let named = |m: &ttrpc::proto::KeyValue| {
        m.key == "containerd-namespace-ttrpc" && m.value == envelope.namespace
    };
    let has_metadata = request.metadata.iter().any(named);
    let what = read(&envelope).unwrap_or_else(|| What::Other(envelope.event.type_url.clone()));
    Some(Event {
        envelope,
        has_metadata,
        what,
    })
}

fn read(envelope: &Envelope) -> Option<What> {
    let value = &envelope.event.value;
    let kind = envelope
        .event
        .type_url
        .rsplit('/')
        .next()?
        .strip_prefix("containerd.events.")?;
    Some(match (kind, envelope.topic.as_str()) {
        ("TaskCreate", "/tasks/create") => {
            let m = message::TaskCreate::parse_from_bytes(value).ok()?;
            What::Create {
                id: m.container_id.clone(),
                pid: m.pid,
                bundle: m.bundle.clone(),
                stdout: m.io.stdout.clone(),
            }
        }
        ("TaskStart", "/tasks/start") => {
            let m = message::TaskStart::parse_from_bytes(value).ok()?;
            What::Start {
                id: m.container_id,
                pid: m.pid,
            }
        }
        ("TaskExecAdded", "/tasks/exec-added") => {
            let m = message::TaskExecAdded::parse_from_bytes(value).ok()?;
            What::ExecAdded {
                id: m.container_id,
                exec: m.exec_id,
            }
        }
        ("TaskExecStarted", "/tasks/exec-started") => {
            let m = message::TaskExecStarted::parse_from_bytes(value).ok()?;
            What::ExecStarted {
                id: m.container_id,
                exec: m.exec_id,
                pid: m.pid,
            }
        }
        ("TaskExit", "/tasks/exit") => {
            let m = message::TaskExit::parse_from_bytes(value).ok()?;
            let at = m.exited_at.as_ref().map(|t| t.seconds);
            What::Exit {
                id: m.container_id,
                process: m.id,
                pid: m.pid,
                status: m.exit_status,
                at,
            }
        }
        ("TaskOOM", "/tasks/oom") => What::Oom {
            id: message::TaskOOM::parse_from_bytes(value).ok()?.container_id,
        },
        ("TaskPaused", "/tasks/paused") => What::Paused {
            id: message::TaskPaused::parse_from_bytes(value)
                .ok()?
                .container_id,
        },
        ("TaskResumed", "/tasks/resumed") => What::Resumed {
            id: message::TaskResumed::parse_from_bytes(value)
                .ok()?
                .container_id,
        },
        ("TaskDelete", "/tasks/delete") => {
            let m = message::TaskDelete::parse_from_bytes(value).ok()?;
            What::Delete {
                id: m.container_id,
                exec: m.id,
                pid: m.pid,
                status: m.exit_status,
            }
        }
        _ => return None,
    })
}
