//! How does a case run? Named, with a time limit, able to skip itself with a
//! reason, and with what its world says attached when it fails.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Once, mpsc};
use std::time::Duration;

use crate::pace::patient;
use libtest_mimic::{Arguments, ColorSetting, Completion, Trial};

/// Why a case ended early.
#[derive(Debug)]
pub enum Stop {
    /// The case does not apply here; the reason is shown.
    Skip(String),
    /// The case failed.
    Fail(String),
}

/// What a case answers; `?` turns any error into a failure.
pub type Check<T = ()> = Result<T, Stop>;

impl<E: Into<Box<dyn Error>>> From<E> for Stop {
    fn from(error: E) -> Self {
        let error: Box<dyn Error> = error.into();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(c) = cause {
            text = format!("{text}: {c}");
            cause = c.source();
        }
        Stop::Fail(text)
    }
}

/// Ends the case as failed with `text`.
pub fn fail<T>(text: impl Display) -> Check<T> {
    Err(Stop::Fail(text.to_string()))
}

/// Ends the case as skipped with `reason`.
pub fn skip<T>(reason: impl Display) -> Check<T> {
    Err(Stop::Skip(reason.to_string()))
}

/// The world of one case: made before its body, asked when the body fails.
pub trait World: Send + Sync + 'static {
    /// What helps to understand a failure: logs, dumps.
    fn testimony(&self) -> String;
    /// Ends what the case left behind; also called when it hangs.
    fn close(&self);
    /// What the product itself says went wrong, also where the case saw nothing of it.
    fn complaint(&self) -> Option<String> {
        None
    }
}

/// One test.
pub struct Case<W: ?Sized> {
    /// A sentence in snake_case.
    pub name: &'static str,
    /// After this time the case has failed.
    pub limit: Duration,
    /// What is checked.
    pub body: fn(&W) -> Check,
}

impl<W> Clone for Case<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Case<W> {}

/// Lists functions as cases: `cases![limit_in_seconds; function, …]`.
#[macro_export]
macro_rules! cases {
    ($($limit:literal s: $($name:path),+ $(,)?);+ $(;)?) => {
        vec![$($($crate::suite::Case {
            name: $crate::suite::last_word(stringify!($name)),
            limit: std::time::Duration::from_secs($limit),
            body: $name,
        }),+),+]
    };
}

/// `run::prints` → `prints`.
pub fn last_word(path: &'static str) -> &'static str {
    path.rsplit(':').next().unwrap_or(path).trim()
}

/// Makes a trial named `group::case` in a world that `make` builds.
pub fn trial<W: World>(
    group: &str,
    case: Case<W>,
    make: impl FnOnce() -> Check<W> + Send + 'static,
) -> Trial {
    let name = format!("{group}::{}", case.name);
    let shown = name.clone();
    Trial::ignorable_test(name, move || match attempt(case, make) {
        Ok(()) => Ok(Completion::Completed),
        Err(Stop::Skip(reason)) => {
            println!("skip {shown}: {reason}");
            Ok(Completion::ignored_with(reason))
        }
        Err(Stop::Fail(text)) => Err(text.into()),
    })
}

/// Stands for all cases of a group that do not apply here.
pub fn skipped(group: &str, reason: &str) -> Trial {
    let (name, reason) = (format!("{group}::every_case"), reason.to_string());
    let shown = name.clone();
    Trial::ignorable_test(name, move || {
        println!("skip {shown}: {reason}");
        Ok(Completion::ignored_with(&reason))
    })
}

/// Runs all trials and gives the exit code.
pub fn conclude(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // What runs in a virtual machine writes to a terminal there, and is read by a program here.
    arguments.color.get_or_insert(ColorSetting::Never);
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The first line in which a shim says that it broke the order of its events. It checks every event that it sends,
/// so that each case of every suite checks them too.
pub fn order_broken(log: &str) -> Option<String> {
    let line = log
        .lines()
        .find(|line| line.contains("event out of order"))?;
    Some(format!("the shim broke the order of events: {line}"))
}

fn attempt<W: World>(case: Case<W>, make: impl FnOnce() -> Check<W>) -> Check {
    remember_panics();
    let world = Arc::new(caught(make)?);
    let (send, receive) = mpsc::channel();
    let inside = Arc::clone(&world);
    std::thread::Builder::new()
        .name(case.name.into())
        .spawn(move || {
            // The receiver is gone when the case came too late; then nobody asks.
            let _ = send.send(caught(|| (case.body)(&inside)));
        })?;
    let result = receive
        .recv_timeout(patient(case.limit))
        .unwrap_or_else(|_| fail(format!("took longer than {:?}", case.limit)));
    let result = result.and_then(|()| match world.complaint() {
        Some(text) => fail(text),
        None => Ok(()),
    });
    let result = result.map_err(|stop| match stop {
        Stop::Fail(text) => Stop::Fail(format!("{text}\n{}", world.testimony())),
        Stop::Skip(reason) => Stop::Skip(reason),
    });
    world.close();
    result
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A failed assertion is an answer: it is shown with the case, not between others.
fn remember_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let said = panic.to_string();
            PANIC.with(|p| *p.borrow_mut() = Some(said));
        }));
    });
}

fn caught<T>(body: impl FnOnce() -> Check<T>) -> Check<T> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(_) => fail(
            PANIC
                .with(|p| p.borrow_mut().take())
                .unwrap_or_else(|| "panicked".into()),
        ),
    }
}
