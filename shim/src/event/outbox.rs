//! The one queue of events to containerd: in order, kept until containerd has answered, never waited for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Event;
use super::order::Order;
use crate::convert;
use crate::moment::Moment;
use crate::task::frame::{self, Reply};

/// How long one call may take; containerd answers in microseconds unless it hangs.
const CALL: Duration = Duration::from_secs(5);
/// First and longest pause after a call that failed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Unsent events that a state dump tells one by one.
const TOLD: usize = 20;

/// An event that is not acknowledged.
#[derive(Clone)]
struct Queued {
    /// When it happened.
    at: SystemTime,
    since: Moment,
    event: Event,
}

/// Events that containerd has not acknowledged, oldest first.
pub struct Outbox {
    address: String,
    ctr_ns: String,
    queue: RefCell<VecDeque<Queued>>,
    order: RefCell<Order>,
    violations: Cell<u64>,
    /// How often the oldest was tried in vain, and what came of it.
    tried: RefCell<(u32, String)>,
    added: Notify,
    emptied: Notify,
    back: Notify,
}

impl Outbox {
    /// An outbox to containerd's ttrpc socket. Without an address events go nowhere; the tasks are served all the same.
    pub fn new(address: String, ctr_ns: String) -> Rc<Self> {
        if address.is_empty() {
            log::warn!("no address for events (TTRPC_ADDRESS): none will be sent");
        }
        Rc::new(Self {
            address,
            ctr_ns,
            queue: RefCell::default(),
            order: RefCell::default(),
            violations: Cell::new(0),
            tried: RefCell::default(),
            added: Notify::new(),
            emptied: Notify::new(),
            back: Notify::new(),
        })
    }

    /// Puts an event at the end of the queue.
    pub fn publish(&self, event: Event) {
        if let Err(violation) = self.order.borrow_mut().check(&event) {
            self.violations.set(self.violations.get() + 1);
            log::error!("event out of order: {violation}");
        }
        if self.address.is_empty() {
            return;
        }
        self.queue.borrow_mut().push_back(Queued {
            at: SystemTime::now(),
            since: Moment::now(),
            event,
        });
        self.added.notify_one();
    }

    /// Somebody has connected to us: containerd, which may have been away. What waits is tried again soon, not
    /// after the pause that has grown meanwhile.
    pub fn try_again_soon(&self) {
        self.back.notify_waiters();
    }

    /// An exec was deleted, which is no event.
    pub fn forget_exec(&self, container: &str, exec: &str) {
        self.order.borrow_mut().forget_exec(container, exec);
    }

    /// Waits until everything is sent, or `limit`; says how many events were not.
    pub async fn flush(&self, limit: Duration) -> usize {
        let empty = async {
            while !self.queue.borrow().is_empty() {
                self.emptied.notified().await;
            }
        };
        let _ = timeout(limit, empty).await;
        self.queue.borrow().len()
    }

    /// Lines for a state dump: how much is unsent, and the oldest of it one by one.
    pub fn describe(&self) -> Vec<String> {
        let queue = self.queue.borrow();
        let mut lines = vec![format!(
            "outbox: {} events unsent, {} out of order",
            queue.len(),
            self.violations.get()
        )];
        lines.extend(queue.iter().take(TOLD).map(|queued| {
            let Queued { since, event, .. } = queued;
            format!(
                "  event {} of container {} waits for containerd {since}",
                event.what.name(),
                event.container
            )
        }));
        match &*self.tried.borrow() {
            (0, _) => {}
            (times, text) => lines.push(format!("  the first was tried {times} times: {text}")),
        }
        lines
    }

    /// Sends for ever. One call at a time: the next event leaves when this one is acknowledged, so retries
    /// can't reorder.
    pub async fn send_all(self: Rc<Self>) {
        let mut connection = None;
        let mut pause = PAUSE.0;
        loop {
            let Some(Queued { at, event, .. }) = self.queue.borrow().front().cloned() else {
                self.emptied.notify_waiters();
                self.added.notified().await;
                continue;
            };
            let request = convert::forward(&event, at, &self.ctr_ns);
            match self.call(&mut connection, &request).await {
                Ok(()) => {
                    self.done();
                    pause = PAUSE.0;
                }
                Err(Undelivered::Refused(text)) => {
                    log::error!("containerd refuses an event of {}: {text}", event.container);
                    self.done();
                }
                Err(Undelivered::Failed(text)) => {
                    self.tried
                        .replace_with(|(times, _)| (*times + 1, text.clone()));
                    log::warn!("event of {} is not delivered yet: {text}", event.container);
                    // A connection that broke while it was idle says nothing about containerd: try at once.
                    let was_connected = connection.take().is_some();
                    if was_connected && pause == PAUSE.0 {
                        pause *= 2;
                        continue;
                    }
                    pause = tokio::select! {
                        () = sleep(pause) => (pause * 2).min(PAUSE.1),
                        // It connects while it starts, and takes events some moments later.
                        () = self.back.notified() => PAUSE.0,
                    };
                }
            }
        }
    }

    fn done(&self) {
        self.queue.borrow_mut().pop_front();
        self.tried.take();
    }

    async fn call(
        &self,
        connection: &mut Option<Connection>,
        request: &ttrpc::Request,
    ) -> Result<(), Undelivered> {
        let failed = |e: String| Undelivered::Failed(e);
        let call = async {
            if connection.is_none() {
                let stream = UnixStream::connect(&self.address)
                    .await
                    .map_err(|e| failed(e.to_string()))?;
                *connection = Some(Connection { stream, last_id: 0 });
            }
            let Some(open) = connection.as_mut() else {
                return Err(failed("not connected".into()));
            };
            open.call(request).await
        };
        match timeout(CALL, call).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // A late answer must not be taken for that of the next call.
                *connection = None;
                Err(failed("no answer within 5 s".into()))
            }
        }
    }
}

enum Undelivered {
    /// containerd has decided: to send it again would change nothing.
    Refused(String),
    /// Nobody has decided.
    Failed(String),
}

struct Connection {
    stream: UnixStream,
    last_id: u32,
}

impl Connection {
    async fn call(&mut self, request: &ttrpc::Request) -> Result<(), Undelivered> {
        // Ids of clients are odd and increasing.
        self.last_id = self.last_id.checked_add(2).map_or(1, |id| id | 1);
        let failed = |e: std::io::Error| Undelivered::Failed(e.to_string());
        frame::send_request(&mut self.stream, self.last_id, request)
            .await
            .map_err(failed)?;
        loop {
            match frame::receive_reply(&mut self.stream, self.last_id)
                .await
                .map_err(failed)?
            {
                Reply::Other => {}
                Reply::Accepted => return Ok(()),
                Reply::Refused { code, text } if is_final(code) => {
                    return Err(Undelivered::Refused(text));
                }
                Reply::Refused { text, .. } => return Err(Undelivered::Failed(text)),
            }
        }
    }
}

/// Whether a code says that the event itself is unwanted, rather than that containerd is not ready.
fn is_final(code: ttrpc::Code) -> bool {
    use ttrpc::Code;
    matches!(
        code,
        Code::INVALID_ARGUMENT
            | Code::NOT_FOUND
            | Code::UNIMPLEMENTED
            | Code::FAILED_PRECONDITION
            | Code::PERMISSION_DENIED
    )
}
