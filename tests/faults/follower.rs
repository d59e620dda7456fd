//! Who stands beside a course, sees every call, and does at one of them what is asked?

use std::collections::HashMap;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering},
};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rsrun_tests::pace::patient;
use rsrun_tests::stepping::{Calls, Course, End, Stop, Verdict, WaitFor};
use rsrun_tests::suite::Check;

use crate::points::{Fault, Point, Seen};

/// A command takes some milliseconds where nobody looks.
const COMMAND: Duration = Duration::from_secs(20);
/// Programs of containers are here, and nothing that is started before them.
const PROGRAMS: &str = "/bin/";

/// What the follower and the case share.
#[derive(Default)]
struct Shared {
    step: AtomicUsize,
    is_over: AtomicBool,
    is_met: AtomicBool,
    /// The program is there: what comes before its execve are calls of ours.
    has_begun: AtomicBool,
    /// Who is killed; 0 for who made the call.
    victim: AtomicI32,
    seen: Mutex<Vec<Seen>>,
}

/// A course that goes on beside the case.
pub struct Followed {
    shared: Arc<Shared>,
    ends: Receiver<std::io::Result<End>>,
    thread: Option<JoinHandle<()>>,
}

impl Followed {
    /// Starts `command`. `steps` names what is counted by itself; the first is the command.
    pub fn start(command: Command, steps: &'static [&'static str], point: Option<Point>) -> Self {
        let shared = Arc::new(Shared::default());
        let (tell, ends) = channel();
        let inside = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut course = Course::of(Calls::All);
            let mut known = Known::default();
            let mut last = 0;
            let mut at_stop =
                |stop: &Stop| at_stop(&inside, steps, point.as_ref(), &mut known, stop);
            let end = course.run(command, patient(COMMAND), WaitFor::Command, &mut at_stop);
            let _ = tell.send(end);
            let is_over = || inside.is_over.load(Ordering::Acquire);
            let mut before = |course: &mut Course| {
                let step = inside.step.load(Ordering::Acquire);
                if step != last {
                    last = step;
                    course.count_anew();
                }
            };
            let _ = course.attend_until(&is_over, &mut before, &mut at_stop);
        });
        Self {
            shared,
            ends,
            thread: Some(thread),
        }
    }

    /// How the command ended; what it left running goes on being attended to.
    pub fn end(&self) -> Check<End> {
        Ok(self.ends.recv()??)
    }

    /// Goes to the next step.
    pub fn next(&self) {
        self.shared.step.fetch_add(1, Ordering::Release);
    }

    /// From here on `pid` is the one who is killed.
    pub fn victim(&self, pid: Pid) {
        self.shared.victim.store(pid.as_raw(), Ordering::Release);
    }

    /// Whether the course has come to the point.
    pub fn is_met(&self) -> bool {
        self.shared.is_met.load(Ordering::Acquire)
    }

    /// The calls that were made.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared
            .seen
            .lock()
            .map(|s| s.clone())
            .unwrap_or_default()
    }
}

impl Drop for Followed {
    /// What still runs gets ENOSYS for every call from here on: it is to be gone before.
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the follower has seen.
#[derive(Default)]
struct Known {
    /// Threads that are programs of containers.
    programs: Vec<u32>,
    /// How often each call has come in `step`.
    counts: HashMap<i64, usize>,
    step: usize,
}

impl Known {
    /// How many of these calls came before in the step.
    fn number(&mut self, step: usize, nr: i64) -> usize {
        if step != self.step {
            self.step = step;
            self.counts.clear();
        }
        let count = self.counts.entry(nr).or_default();
        *count += 1;
        *count - 1
    }
}

fn at_stop(
    shared: &Shared,
    steps: &'static [&'static str],
    point: Option<&Point>,
    known: &mut Known,
    stop: &Stop,
) -> Verdict {
    if known.programs.contains(&stop.tid) {
        return Verdict::LetGo;
    }
    let index = shared.step.load(Ordering::Acquire);
    let Some(step) = steps.get(index) else {
        return Verdict::LetGo;
    };
    let executes = [libc::SYS_execve, libc::SYS_execveat].contains(&stop.nr);
    if !shared.has_begun.load(Ordering::Acquire) {
        shared.has_begun.store(executes, Ordering::Release);
        return Verdict::LetGo;
    }
    let number = known.number(index, stop.nr);
    let verdict = match point {
        Some(point)
            if point.step == *step
                && point.is_at(stop, number)
                && !shared.is_met.swap(true, Ordering::AcqRel) =>
        {
            happen(shared, point, stop)
        }
        Some(_) => Verdict::LetGo,
        None => {
            if let Ok(mut seen) = shared.seen.lock() {
                seen.push(Seen {
                    step,
                    place: stop.place,
                    nr: stop.nr,
                    number,
                    subject: stop.subject(),
                });
            }
            Verdict::LetGo
        }
    };
    if verdict == Verdict::LetGo && executes && stop.path().starts_with(PROGRAMS) {
        known.programs.push(stop.tid);
    }
    verdict
}

fn happen(shared: &Shared, point: &Point, stop: &Stop) -> Verdict {
    point.count();
    match point.fault {
        Fault::Refuse(errno) => Verdict::Fail(errno as i32),
        Fault::Kill => {
            let victim = match shared.victim.load(Ordering::Acquire) {
                0 => stop.process(),
                pid => Some(Pid::from_raw(pid)),
            };
            if let Some(pid) = victim {
                let _ = kill(pid, Signal::SIGKILL);
            }
            Verdict::LetGo
        }
    }
}
