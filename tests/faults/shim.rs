//! The calls of a shim, from `start` to Shutdown.

use std::cell::Cell;
use std::fs::{self, File};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rsrun_tests::by_hand::{ByHand, Manner, read_answer};
use rsrun_tests::command::eventually;
use rsrun_tests::life::{self, Life, WITHIN, Went, has_words};
use rsrun_tests::places::Places;
use rsrun_tests::stepping::End;
use rsrun_tests::suite::{Case, Check, World, fail};
use rsrun_tests::task::Task;
use rsrun_tests::{cases, proc};

use crate::calls;
use crate::follower::Followed;
use crate::points::{self, Fault, Point, Seen};

const STEPS: &[&str] = &["shim", "Create", "Start", "Exec", "Kill", "Delete"];
/// How often a shim is looked for after a connection that did not work.
const TRIES: u32 = 3;

/// A containerd of its own for each case.
pub struct Shims {
    by_hand: ByHand,
    count: AtomicU32,
}

/// Makes one.
pub fn world(name: &'static str) -> impl FnOnce() -> Check<Shims> + Send {
    move || {
        Ok(Shims {
            by_hand: ByHand::new(&Places::find(), Manner::Legacy, name)?,
            count: AtomicU32::new(0),
        })
    }
}

impl World for Shims {
    fn testimony(&self) -> String {
        let log = self.by_hand.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
    fn close(&self) {
        self.by_hand.close();
    }
    fn complaint(&self) -> Option<String> {
        self.by_hand.complaint()
    }
}

/// Each step, killed and refused.
pub fn cases() -> Vec<Case<Shims>> {
    cases![
        3600 s: killed_in_start, killed_in_create, killed_in_start_of_the_init, killed_in_exec, killed_in_kill,
            killed_in_delete, refused_in_start, refused_in_create, refused_in_start_of_the_init, refused_in_exec,
            refused_in_kill, refused_in_delete
    ]
}

fn killed_in_start(s: &Shims) -> Check {
    killed(s, "shim")
}
fn killed_in_create(s: &Shims) -> Check {
    killed(s, "Create")
}
fn killed_in_start_of_the_init(s: &Shims) -> Check {
    killed(s, "Start")
}
fn killed_in_exec(s: &Shims) -> Check {
    killed(s, "Exec")
}
fn killed_in_kill(s: &Shims) -> Check {
    killed(s, "Kill")
}
fn killed_in_delete(s: &Shims) -> Check {
    killed(s, "Delete")
}
fn refused_in_start(s: &Shims) -> Check {
    refused(s, "shim")
}
fn refused_in_create(s: &Shims) -> Check {
    refused(s, "Create")
}
fn refused_in_start_of_the_init(s: &Shims) -> Check {
    refused(s, "Start")
}
fn refused_in_exec(s: &Shims) -> Check {
    refused(s, "Exec")
}
fn refused_in_kill(s: &Shims) -> Check {
    refused(s, "Kill")
}
fn refused_in_delete(s: &Shims) -> Check {
    refused(s, "Delete")
}

fn killed(s: &Shims, step: &'static str) -> Check {
    let seen = calls_of(s, step)?;
    points::each(points::kills(&seen), 12, |point| {
        Disturbed::run(s, Some(*point))
    })
}

fn refused(s: &Shims, step: &'static str) -> Check {
    let seen = calls_of(s, step)?;
    points::each(points::refusals(&seen), 40, |point| {
        Disturbed::run(s, Some(*point))
    })
}

/// The calls of a step of an undisturbed life.
fn calls_of(s: &Shims, step: &str) -> Check<Vec<Seen>> {
    let life = Disturbed::begin(s, None)?;
    let result = life.go(&Fault::Refuse(nix::errno::Errno::UnknownErrno), None);
    let mut seen = life.followed.seen();
    seen.retain(|s| s.step == step);
    life.over()?;
    result?;
    Ok(seen)
}

struct Disturbed<'s> {
    life: Life<'s>,
    point: Option<Point>,
    followed: Followed,
    shim: Cell<Option<Pid>>,
}

impl<'s> Disturbed<'s> {
    fn run(s: &'s Shims, point: Option<Point>) -> Check<bool> {
        let life = Self::begin(s, point)?;
        let fault = point.map_or(Fault::Kill, |p| p.fault);
        let went = life.go(&fault, point.map(|p| p.step));
        let is_met = life.followed.is_met();
        let over = life.over();
        went?;
        over?;
        Ok(is_met)
    }

    fn begin(shims: &'s Shims, point: Option<Point>) -> Check<Self> {
        let s = &shims.by_hand;
        let count = shims.count.fetch_add(1, Ordering::Relaxed);
        let life = Life::prepare(s, format!("{}-{count}", s.ctr_ns()))?;
        let mut command = s.shim_command(&life.id)?;
        command
            .arg("start")
            .stdin(Stdio::null())
            .stdout(File::create(life.out.join("answer"))?)
            .stderr(File::create(life.out.join("said"))?);
        let followed = Followed::start(command, STEPS, point);
        Ok(Self {
            life,
            point,
            followed,
            shim: Cell::new(None),
        })
    }

    /// All steps up to the one where something happens; after an errno all the others too, as far as it let them.
    fn go(&self, fault: &Fault, at: Option<&str>) -> Check {
        let life = &self.life;
        let end = self.followed.end()?;
        let is_kill = *fault == Fault::Kill;
        if end == End::Hangs {
            return fail("start hangs");
        }
        if end != End::Code(0) {
            let said = fs::read_to_string(life.out.join("said"))?;
            return match is_kill || self.has_no_memory() {
                true => Ok(()),
                false => has_words(&said),
            };
        }
        let started = match read_answer(&fs::read(life.out.join("answer"))?) {
            Ok(started) => started,
            // Who serves was killed before it was there.
            Err(_) if is_kill => return Ok(()),
            Err(e) => return Err(e),
        };
        // The connection that an errno ended is not the shim's end: it takes another.
        let mut connected = life.connect(&started);
        for _ in 0..TRIES {
            if connected.is_ok() || is_kill {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            connected = life.connect(&started);
        }
        let (task, shim) = match connected {
            Ok(connected) => connected,
            Err(_) if is_kill || self.has_no_memory() => return Ok(()),
            // `start` answers when the socket listens, before who serves has come up.
            Err(_) if at == Some("shim") => return self.has_logged_why(),
            Err(e) => return Err(e),
        };
        self.shim.set(Some(shim));
        self.followed.victim(shim);
        let went = self.steps(&task, is_kill, at);
        if is_kill {
            // The shim's own end is among the calls of the last step.
            if at == Some("Delete") {
                let _ = life.give_up(&started, shim);
            }
            // What the calls answered is not asked: who answers is gone. A point that was not met ends here too.
            let _ = kill(shim, Signal::SIGKILL);
            return Ok(());
        }
        let ended = life.give_up(&started, shim);
        if self.has_no_memory() {
            return Ok(());
        }
        went?;
        ended
    }

    fn steps(&self, task: &Task, is_kill: bool, at: Option<&str>) -> Check {
        for name in life::STEPS {
            self.followed.next();
            let went = self.life.step(name, task);
            if is_kill && at == Some(name) {
                return Ok(());
            }
            match went? {
                Went::Well => {}
                // Nothing more can be expected of this life but its end.
                Went::Refused(words) => return has_words(&words),
                // A connection that could not be read or written is closed, and nothing else ends with it.
                Went::Closed if self.is_alive() => return Ok(()),
                Went::Closed => return fail(format!("{name}: the shim is gone")),
            }
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        self.shim.get().is_some_and(proc::is_alive)
    }

    /// Who gets no memory may end, as of SIGKILL: Rust's collections and threads don't ask. Then it counts only that
    /// nothing is left.
    fn has_no_memory(&self) -> bool {
        self.point.is_some_and(|p| calls::is_for_memory(p.nr))
    }

    fn has_logged_why(&self) -> Check {
        let says = || self.life.log().contains("level=error");
        eventually("the reason in the log", WITHIN, says)?;
        has_words(&self.life.log())
    }

    fn over(self) -> Check {
        let log = self.life.log();
        let may_panic = self.has_no_memory();
        self.life.over()?;
        match log.find("panicked at") {
            Some(at) if !may_panic => fail(format!("a panic: {}", &log[at..])),
            _ => Ok(()),
        }
    }
}
