//! One connection of containerd: which requests are taken, how many at once, and what its end does to them.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{getegid, geteuid};
use protobuf::Message;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use ttrpc::proto::{MESSAGE_TYPE_REQUEST, MessageHeader};
use ttrpc::{Code, Request, Response};

use super::{Method, answer, frame, method};
use crate::failure::Failure;
use crate::sandbox::{Sandbox, Unanswered, next_connection};

/// Requests that one connection may have until it has read their answers, and Waits, which last as long as their
/// processes. A peer that asks and does not read spends its own.
const REQUESTS: usize = 1024;
const WAITS: usize = 16_384;

/// For how many connections the whole process works at once at most: none alone has it for itself.
const CONNECTIONS: usize = 2;

/// Bytes of requests in flight in the whole process. A connection is not read on while there are more.
const BYTES: usize = 64 << 20;

/// What all connections share.
pub struct Limits {
    requests: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

use std::sync::Arc;

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: Arc::new(Semaphore::new(CONNECTIONS * REQUESTS)),
            waits: Arc::new(Semaphore::new(CONNECTIONS * WAITS)),
            bytes: Arc::new(Semaphore::new(BYTES)),
        }
    }
}

/// Whether the peer is who we are: anybody else has no business here, whatever the mode of the socket says.
pub fn is_ours(stream: &UnixStream) -> bool {
    getsockopt(stream, PeerCredentials)
        .is_ok_and(|peer| peer.uid() == geteuid().as_raw() && peer.gid() == getegid().as_raw())
}

/// Serves one connection until it ends.
pub async fn serve(stream: UnixStream, sandbox: Rc<Sandbox>, limits: Rc<Limits>) {
    let number = next_connection();
    sandbox.connected(number);
    let (reader, writer) = stream.into_split();
    let connection = Connection {
        number,
        sandbox: Rc::clone(&sandbox),
        limits,
        writer: Rc::new(Mutex::new(writer)),
        requests_unread: Arc::new(Semaphore::new(REQUESTS)),
        waits_unread: Arc::new(Semaphore::new(WAITS)),
        // Dropped with the connection: nobody is there to be answered. What the requests do goes on.
        requests: RefCell::new(JoinSet::new()),
    };
    // Enough for most requests; larger ones are read into their own memory directly.
    let mut reader = BufReader::with_capacity(1024, reader);
    if let Err(error) = connection.read_all(&mut reader).await {
        log::debug!("connection {number}: {error}");
    }
    drop(connection);
    sandbox.disconnected(number);
}

struct Connection {
    number: u64,
    sandbox: Rc<Sandbox>,
    limits: Rc<Limits>,
    writer: Rc<Mutex<OwnedWriteHalf>>,
    requests_unread: Arc<Semaphore>,
    waits_unread: Arc<Semaphore>,
    requests: RefCell<JoinSet<()>>,
}

impl Connection {
    async fn read_all(&self, reader: &mut BufReader<OwnedReadHalf>) -> io::Result<()> {
        let mut last_id = 0;
        while let Some(header) = frame::receive_header(reader).await? {
            let id = header.stream_id;
            let unanswered = self.sandbox.requested(self.number);
            if frame::is_oversized(&header) {
                frame::discard_payload(reader, &header).await?;
                let text = format!("a message of {} bytes is larger than 4 MiB", header.length);
                self.respond(id, frame::refusal(Code::RESOURCE_EXHAUSTED, text))
                    .await?;
                continue;
            }
            let bytes = Arc::clone(&self.limits.bytes)
                .acquire_many_owned(header.length.max(1))
                .await;
            let payload = frame::receive_payload(reader, &header).await?;
            match Self::admissible(&header, last_id) {
                Ok(true) => {
                    last_id = id;
                    self.take(id, &payload, unanswered, bytes.ok()).await?;
                }
                Ok(false) => {}
                Err(text) => {
                    self.respond(id, frame::refusal(Code::INVALID_ARGUMENT, text))
                        .await?
                }
            }
        }
        Ok(())
    }

    /// Whether a frame is a request; data frames belong to streams, which none of our methods has.
    fn admissible(header: &MessageHeader, last_id: u32) -> Result<bool, &'static str> {
        if header.type_ != MESSAGE_TYPE_REQUEST {
            return Ok(false);
        }
        if header.stream_id.is_multiple_of(2) {
            return Err("stream ids of clients must be odd");
        }
        if header.stream_id <= last_id {
            return Err("stream ids must increase and can't be used again");
        }
        Ok(true)
    }

    async fn take(
        &self,
        id: u32,
        payload: &[u8],
        unanswered: Unanswered,
        bytes: Option<OwnedSemaphorePermit>,
    ) -> io::Result<()> {
        let request = match Request::parse_from_bytes(payload) {
            Ok(request) => request,
            Err(e) => {
                return self
                    .respond(
                        id,
                        frame::refusal(Code::INVALID_ARGUMENT, format!("request: {e}")),
                    )
                    .await;
            }
        };
        let method = match method(&request) {
            Ok(method) => method,
            Err(failure) => return self.respond(id, refused(failure)).await,
        };
        // What is asked when nothing else is answered must not need what the others wait for.
        let lasting = matches!(method, Method::Wait | Method::Describe | Method::Await);
        let (working, unread) = if lasting {
            (&self.limits.waits, &self.waits_unread)
        } else {
            (&self.limits.requests, &self.requests_unread)
        };
        let working = Arc::clone(working).try_acquire_owned();
        let unread = Arc::clone(unread).try_acquire_owned();
        let (Ok(working), Ok(unread)) = (working, unread) else {
            return self
                .respond(
                    id,
                    frame::refusal(Code::RESOURCE_EXHAUSTED, "too many requests in flight"),
                )
                .await;
        };
        let (unanswered, bytes) = if lasting {
            (None, None)
        } else {
            (Some(unanswered), bytes)
        };
        let (sandbox, writer) = (Rc::clone(&self.sandbox), Rc::clone(&self.writer));
        let number = self.number;
        let mut requests = self.requests.borrow_mut();
        while requests.try_join_next().is_some() {}
        requests.spawn_local(async move {
            let limit = request.timeout_nano;
            let response = in_time(limit, answer(Rc::clone(&sandbox), method, request)).await;
            // What all connections share is given back before the peer has to do anything.
            drop((working, bytes));
            let mut writer = writer.lock().await;
            if let Err(error) = frame::send_response(&mut *writer, id, &response).await {
                log::debug!("answer to {method:?}: {error}");
                // The caller would wait for ever for an answer that is lost, or take the rest of it for the next.
                let _ = writer.shutdown().await;
            }
            if method != Method::Shutdown {
                sandbox.answered(number);
            }
            drop((unanswered, unread));
            sandbox.settle();
        });
        Ok(())
    }

    async fn respond(&self, id: u32, response: Response) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        frame::send_response(&mut *writer, id, &response).await
    }
}

/// The answer, or DeadlineExceeded once the caller's time is up; the work goes on.
async fn in_time(
    nanoseconds: i64,
    answer: impl Future<Output = crate::failure::Result<Vec<u8>>>,
) -> Response {
    let outcome = match u64::try_from(nanoseconds) {
        Ok(limit) if limit > 0 => match timeout(Duration::from_nanos(limit), answer).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(
                Code::DEADLINE_EXCEEDED,
                "the time of the request is up",
            )),
        },
        _ => answer.await,
    };
    match outcome {
        Ok(payload) => Response {
            payload,
            ..frame::refusal(Code::OK, "")
        },
        Err(failure) => refused(failure),
    }
}

fn refused(failure: Failure) -> Response {
    frame::refusal(failure.code, failure.shown())
}
