//! Which points of a course are tried, and what is counted of them?

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use rsrun_tests::stepping::{Place, Stop};
use rsrun_tests::suite::{Check, fail};

use crate::calls;

/// What SPECIFICATION.md promises of a whole run.
const KILLS: usize = 1_500;
const INJECTIONS: usize = 5_000;

/// How often a point is looked for by its place, and then by its number: two threads that are begun at once come in
/// either order, and what was the one's call is the other's.
const TRIES: [By; 5] = [By::Place, By::Place, By::Number, By::Number, By::Number];

static KILLED: AtomicUsize = AtomicUsize::new(0);
static INJECTED: AtomicUsize = AtomicUsize::new(0);

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The program ends there.
    Kill,
    /// The call fails.
    Refuse(Errno),
}

/// What a call is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Its thread, and which of the thread's calls it is.
    Place,
    /// Which call of its kind it is in the step.
    Number,
}

/// One call of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The step it was seen in.
    pub step: &'static str,
    /// Which thread and call of the step.
    pub place: Place,
    /// What is called.
    pub nr: i64,
    /// How many of these calls came before it in the step.
    pub number: usize,
    /// By which of these it is looked for.
    pub by: By,
    /// What happens.
    pub fault: Fault,
}

impl Point {
    /// Whether the course has come to it with the call that is the `number`th of its kind.
    pub fn is_at(&self, stop: &Stop, number: usize) -> bool {
        let may_happen = || match self.fault {
            Fault::Kill => true,
            Fault::Refuse(errno) => calls::errnos(stop.nr, &stop.subject()).contains(&errno),
        };
        stop.nr == self.nr
            && match self.by {
                By::Place => stop.place == self.place,
                By::Number => number == self.number && may_happen(),
            }
    }

    /// Notes that it happened.
    pub fn count(&self) {
        let counter = match self.fault {
            Fault::Kill => &KILLED,
            Fault::Refuse(_) => &INJECTED,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { thread, call } = self.place;
        let name = calls::name(self.nr);
        match self.fault {
            Fault::Kill => write!(f, "killed at {} {thread} {call} ({name})", self.step),
            Fault::Refuse(errno) => {
                write!(f, "{errno:?} at {} {thread} {call} ({name})", self.step)
            }
        }
    }
}

/// A call that was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The step.
    pub step: &'static str,
    /// Thread and call.
    pub place: Place,
    /// What is called.
    pub nr: i64,
    /// How many of these calls came before it in the step.
    pub number: usize,
    /// On what descriptor.
    pub subject: String,
}

impl Seen {
    fn point(&self, fault: Fault) -> Point {
        Point {
            step: self.step,
            place: self.place,
            nr: self.nr,
            number: self.number,
            by: By::Place,
            fault,
        }
    }
}

/// A kill at each call.
pub fn kills(seen: &[Seen]) -> Vec<Point> {
    let at = |seen: &Seen| seen.point(Fault::Kill);
    seen.iter().map(at).collect()
}

/// Every errno of each call.
pub fn refusals(seen: &[Seen]) -> Vec<Point> {
    let at = |seen: &Seen| {
        let errnos = calls::errnos(seen.nr, &seen.subject).iter();
        let points = errnos.map(|errno| seen.point(Fault::Refuse(*errno)));
        points.collect::<Vec<_>>()
    };
    seen.iter().flat_map(at).collect()
}

fn is_whole() -> bool {
    std::env::var_os("RSRUN_FAULTS").is_some()
}

/// Tries one of `stride` points, or all; says which had a finding.
pub fn each(
    points: Vec<Point>,
    stride: usize,
    mut attempt: impl FnMut(&Point) -> Check<bool>,
) -> Check {
    let wanted = std::env::var("RSRUN_FAULT").ok();
    let stride = if is_whole() || wanted.is_some() {
        1
    } else {
        stride
    };
    let named = |p: &Point| {
        let Place { thread, call } = p.place;
        wanted
            .as_ref()
            .is_none_or(|w| *w == format!("{} {thread} {call}", p.step))
    };
    let (mut met, mut missed, mut findings) = (0, 0, Vec::new());
    for point in points.iter().step_by(stride).filter(|p| named(p)) {
        let mut outcome = Ok(false);
        for by in TRIES {
            outcome = attempt(&Point { by, ..*point });
            if !matches!(outcome, Ok(false)) {
                break;
            }
        }
        match outcome {
            Ok(true) => met += 1,
            Ok(false) => missed += 1,
            Err(stop) => findings.push(format!("{point}: {stop:?}")),
        }
    }
    println!(
        "{met} of {} points met, {missed} not, {} findings",
        points.len(),
        findings.len()
    );
    if findings.is_empty() && (met > missed || wanted.is_some()) {
        return Ok(());
    }
    fail(format!(
        "{met} points met, {missed} not, findings: {}\n{}",
        findings.len(),
        findings.join("\n")
    ))
}

/// After a run that tried everything: what is missing to the promise.
pub fn fewer_than_promised() -> Option<String> {
    let (kills, injections) = (
        KILLED.load(Ordering::Relaxed),
        INJECTED.load(Ordering::Relaxed),
    );
    println!("{kills} kills, {injections} injected errors");
    let is_all = is_whole() && std::env::args().len() == 1;
    (is_all && (kills < KILLS || injections < INJECTIONS))
        .then(|| format!("{KILLS} kills and {INJECTIONS} injected errors are promised"))
}
