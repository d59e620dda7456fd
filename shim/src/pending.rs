//! Which requests have no answer yet, and for which of them is something being done?
//!
//! The number of a request goes with the task that works for it, so that whatever is waited for there can be
//! told as waited for by that request ([`current`]).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use protobuf::CodedInputStream;

use crate::moment::Moment;
use crate::task::Method;

tokio::task_local! {
    static REQUEST: u64;
}

/// The requests that are not answered, by number.
#[derive(Debug, Default)]
pub struct Pending {
    last: Cell<u64>,
    open: RefCell<BTreeMap<u64, Asked>>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What was asked for.
    pub method: Method,
    /// Of which container.
    pub container: String,
    /// Of which exec, empty for the init.
    pub exec: String,
    /// When it came.
    pub since: Moment,
}

impl Pending {
    /// Notes a request until the guard is dropped.
    pub fn begin(self: &Rc<Self>, method: Method, payload: &[u8]) -> Unanswered {
        let number = self.last.get() + 1;
        self.last.set(number);
        let (container, exec) = named(method, payload);
        let asked = Asked {
            method,
            container,
            exec,
            since: Moment::now(),
        };
        self.open.borrow_mut().insert(number, asked);
        Unanswered {
            pending: Rc::clone(self),
            number,
        }
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<(u64, Asked)> {
        let open = self.open.borrow();
        open.iter().map(|(n, asked)| (*n, asked.clone())).collect()
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Unanswered {
    pending: Rc<Pending>,
    number: u64,
}

impl Unanswered {
    /// The request's number.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.pending.open.borrow_mut().remove(&self.number);
    }
}

/// Does `work` for request `number`.
pub async fn working_for<T>(number: Option<u64>, work: impl Future<Output = T>) -> T {
    match number {
        Some(number) => REQUEST.scope(number, work).await,
        None => work.await,
    }
}

/// The request for which this task works.
pub fn current() -> Option<u64> {
    REQUEST.try_with(|number| *number).ok()
}

/// Container and exec of a request: fields 1 and 2 of every message of the service, but that Create, Update and
/// Shutdown have something else as 2. What can't be read is left empty: the request will be refused.
fn named(method: Method, payload: &[u8]) -> (String, String) {
    let mut input = CodedInputStream::from_bytes(payload);
    let mut names = (String::new(), String::new());
    while let Ok(Some(tag)) = input.read_raw_tag_or_eof() {
        let name = match tag {
            0x0a => &mut names.0,
            0x12 if !matches!(method, Method::Create | Method::Update | Method::Shutdown) => {
                &mut names.1
            }
            _ => break,
        };
        match input.read_string() {
            Ok(text) => *name = text,
            Err(_) => break,
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;

    #[test]
    fn a_request_is_pending_until_its_guard_is_dropped() {
        let pending = Rc::new(Pending::default());
        let mut message = Writer::new();
        message.text(1, "c1");
        message.text(2, "e1");
        let payload = message.into_bytes();
        let first = pending.begin(Method::Kill, &payload);
        let second = pending.begin(Method::Create, &payload);
        let all = pending.all();
        let names = |n: usize| (all[n].1.container.as_str(), all[n].1.exec.as_str());
        assert_eq!(names(0), ("c1", "e1"));
        // Field 2 of a Create is its bundle.
        assert_eq!(names(1), ("c1", ""));
        drop(first);
        assert_eq!(pending.all()[0].0, second.number());
        drop(second);
        assert!(pending.all().is_empty());
    }

    #[test]
    fn a_request_that_can_not_be_read_has_no_names() {
        assert_eq!(named(Method::State, &[0x0a, 0xff]).0, "");
        assert_eq!(named(Method::State, &[]).0, "");
    }
}
