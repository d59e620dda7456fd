//! ttrpc as a client speaks it, without a runtime: one thread reads, any number call.
//!
//! Written against the wire format and not over the library that the product
//! uses, so that a misunderstanding of one is not shared by the other, and so
//! that a test can send what no library would.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::Duration;

use protobuf::Message;
use ttrpc::{Code, Request, Response};

/// A request frame.
pub const REQUEST: u8 = 1;
/// A response frame.
pub const RESPONSE: u8 = 2;
/// How long any call may stay without an answer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The server answered with an error.
    Status(Code, String),
    /// The connection ended.
    Closed,
    /// No answer came in time.
    Silent(Duration),
}

impl Refusal {
    /// The status code, if the server sent one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Refusal::Status(code, _) => Some(*code),
            Refusal::Closed | Refusal::Silent(_) => None,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Status(code, text) => write!(f, "{code:?}: {text}"),
            Refusal::Closed => write!(f, "the connection was closed"),
            Refusal::Silent(time) => write!(f, "no answer within {time:?}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What a call gives.
pub type Answer<T> = Result<T, Refusal>;

type Waiting = Arc<Mutex<Option<HashMap<u32, mpsc::Sender<Response>>>>>;

/// One connection.
pub struct Client {
    writer: Mutex<UnixStream>,
    next: AtomicU32,
    /// `None` once the connection has ended.
    waiting: Waiting,
}

impl Client {
    /// Connects to a socket.
    pub fn connect(socket: &Path) -> std::io::Result<Self> {
        let writer = UnixStream::connect(socket)?;
        let reader = writer.try_clone()?;
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let shared = Arc::clone(&waiting);
        std::thread::spawn(move || dispatch(reader, &shared));
        Ok(Self {
            writer: Mutex::new(writer),
            next: AtomicU32::new(1),
            waiting,
        })
    }

    /// Calls `service/method` and waits for the answer.
    pub fn call<A: Message>(
        &self,
        service: &str,
        method: &str,
        message: &impl Message,
    ) -> Answer<A> {
        self.call_within(service, method, message, Duration::ZERO)
    }

    /// The same with a time limit that the server is told.
    pub fn call_within<A: Message>(
        &self,
        service: &str,
        method: &str,
        message: &impl Message,
        limit: Duration,
    ) -> Answer<A> {
        let payload = message
            .write_to_bytes()
            .map_err(|e| Refusal::Status(Code::INTERNAL, e.to_string()))?;
        let answer = self.call_bytes(service, method, payload, limit)?;
        A::parse_from_bytes(&answer)
            .map_err(|e| Refusal::Status(Code::DATA_LOSS, format!("{method} answers {e}")))
    }

    /// The same for bytes that need not be a message.
    pub fn call_bytes(
        &self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
        limit: Duration,
    ) -> Answer<Vec<u8>> {
        let mut request = Request::new();
        request.service = service.into();
        request.method = method.into();
        request.payload = payload;
        request.timeout_nano = limit.as_nanos().try_into().unwrap_or(i64::MAX);
        let bytes = request
            .write_to_bytes()
            .map_err(|e| Refusal::Status(Code::INTERNAL, e.to_string()))?;
        self.exchange(&bytes)
    }

    /// Sends `bytes` as a request's frame, whatever they are, and waits for the answer.
    pub fn exchange(&self, bytes: &[u8]) -> Answer<Vec<u8>> {
        // Ids of clients are odd, and in the order of sending: so under the lock.
        let (send, receive) = mpsc::channel();
        {
            let mut writer = locked(&self.writer);
            let stream = self.next.fetch_add(2, Ordering::Relaxed);
            locked(&self.waiting)
                .as_mut()
                .ok_or(Refusal::Closed)?
                .insert(stream, send);
            write_frame(&mut *writer, stream, REQUEST, bytes).map_err(|_| Refusal::Closed)?;
        }
        match receive.recv_timeout(PATIENCE) {
            Ok(response) => match response.status.code.enum_value_or(Code::UNKNOWN) {
                Code::OK => Ok(response.payload),
                code => Err(Refusal::Status(code, response.status.message.clone())),
            },
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Refusal::Closed),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Refusal::Silent(PATIENCE)),
        }
    }

    /// Calls without an answer yet.
    pub fn in_flight(&self) -> usize {
        locked(&self.waiting).as_ref().map_or(0, HashMap::len)
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        locked(&self.waiting).is_none()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = locked(&self.writer).shutdown(std::net::Shutdown::Both);
    }
}

fn dispatch(mut reader: UnixStream, waiting: &Waiting) {
    while let Ok((stream, RESPONSE, payload)) = read_frame(&mut reader) {
        let Ok(response) = Response::parse_from_bytes(&payload) else {
            break;
        };
        let asked = locked(waiting).as_mut().and_then(|w| w.remove(&stream));
        if let Some(asked) = asked {
            // The caller may have lost patience.
            let _ = asked.send(response);
        }
    }
    // All callers see their channel close.
    locked(waiting).take();
}

/// Writes one frame: length, stream, type, no flags.
pub fn write_frame(
    to: &mut impl Write,
    stream: u32,
    kind: u8,
    payload: &[u8],
) -> std::io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(std::io::Error::other)?;
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&[kind, 0]);
    frame.extend_from_slice(payload);
    to.write_all(&frame)
}

/// Reads one frame: stream, type, payload.
pub fn read_frame(from: &mut impl Read) -> std::io::Result<(u32, u8, Vec<u8>)> {
    let mut header = [0; 10];
    from.read_exact(&mut header)?;
    let number = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let mut payload = vec![0; number(0) as usize];
    from.read_exact(&mut payload)?;
    Ok((number(4), header[8], payload))
}

/// A lock that a failed assertion elsewhere does not poison.
pub fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
