//! The clock is set while a container lives.

use std::process::Command;
use std::time::{Duration, SystemTime};

use rsrun_tests::by_hand::ByHand;
use rsrun_tests::cases;
use rsrun_tests::containment::guest;
use rsrun_tests::life::{Life, STEPS, Went};
use rsrun_tests::suite::{Case, Check, fail, skip};
use rsrun_tests::task::{INIT, Streams};

const DAY: i64 = 24 * 3600;

/// Forwards and backwards.
pub fn cases() -> Vec<Case<ByHand>> {
    cases![300 s: a_clock_that_jumps]
}

fn a_clock_that_jumps(s: &ByHand) -> Check {
    if !guest::is_here() {
        return skip("sets the machine's clock: in the guest only");
    }
    let began = SystemTime::now();
    let result = [400 * DAY, -3000 * DAY]
        .into_iter()
        .try_for_each(|by| STEPS.into_iter().try_for_each(|step| life(s, step, by)));
    set(began)?;
    result
}

/// One life in which the clock jumps before `at`.
fn life(s: &ByHand, at: &str, by: i64) -> Check {
    let life = Life::prepare(s, format!("{}-{at}{by}", s.ctr_ns()))?;
    let started = s.start(&life.id)?;
    let (task, shim) = life.connect(&started)?;
    for step in STEPS {
        if step == at {
            jump(by)?;
        }
        match life.step(step, &task)? {
            Went::Well => {}
            other => return fail(format!("{step}, the clock went {by} s: {other:?}")),
        }
        if step == "Start" {
            a_limit_is_a_span(&task)?;
        }
        if step == "Kill" {
            let now = seconds(SystemTime::now());
            let told = task.wait(INIT)?.at.unwrap_or_default();
            // It ended after the jump, unless that comes later.
            if at != "Delete" && (now - told).abs() > 60 {
                return fail(format!("it is {now}, and it ended at {told}"));
            }
        }
    }
    jump(-by)?;
    life.give_up(&started, shim)?;
    life.over()
}

/// A limit that a client sets is measured by a clock that nobody sets.
fn a_limit_is_a_span(task: &rsrun_tests::task::Task) -> Check {
    task.exec("long", &["/bin/sleep", "1000"], &Streams::default())?;
    task.start("long")?;
    let begin = std::time::Instant::now();
    if task.wait_within("long", Duration::from_secs(1)).is_ok() {
        return fail("a sleep of 1000 s has ended");
    }
    if begin.elapsed() > rsrun_tests::pace::patient(Duration::from_secs(5)) {
        return fail(format!("a limit of 1 s took {:?}", begin.elapsed()));
    }
    task.kill("long", libc::SIGKILL)?;
    task.wait("long")?;
    task.delete("long")?;
    Ok(())
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |t| t.as_secs().try_into().unwrap_or(i64::MAX))
}

fn jump(by: i64) -> Check {
    let now = SystemTime::now();
    let span = Duration::from_secs(by.unsigned_abs());
    set(if by < 0 { now - span } else { now + span })
}

fn set(time: SystemTime) -> Check {
    let mut date = Command::new("date");
    date.arg("-s").arg(format!("@{}", seconds(time)));
    match date.output()?.status.success() {
        true => Ok(()),
        false => fail(format!("{date:?}")),
    }
}
