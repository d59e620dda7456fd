//! Thousands of lives, and the events that tell of them.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command;
use rsrun_tests::events::What;
use rsrun_tests::pace;
use rsrun_tests::suite::{Case, Check, fail, skip};
use rsrun_tests::task::{INIT, Streams, Task};
use rsrun_tests::ttrpc::{Client, Refusal, locked};

use ttrpc::Code;

use crate::order::{Did, violations};

/// These take the machine's time: run in one manner only.
pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        400 s: the_order_of_events_holds_over_thousands_of_lives;
    ]
}

/// How one container lives.
#[derive(Clone, Copy, Debug)]
enum Life {
    /// Ends by itself at once.
    Early,
    /// Runs until it is killed.
    Killed,
    /// Is killed before it was started.
    Unborn,
    /// Is deleted before it was started, and not killed.
    Unwanted,
    /// Ends by itself while execs run.
    Abandoned,
    /// Is frozen and thawed, then killed.
    Frozen,
}

const LIVES: [Life; 6] = [
    Life::Early,
    Life::Killed,
    Life::Unborn,
    Life::Unwanted,
    Life::Abandoned,
    Life::Frozen,
];

fn the_order_of_events_holds_over_thousands_of_lives(s: &ByHand) -> Check {
    // The reference takes five processes a life; what is checked is the same.
    let count = pace::fewer(if s.places.is_runc() { 120 } else { 2_400 });
    let next = AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (next, wrong) = (&next, &wrong);
            scope.spawn(move || {
                if let Err(stop) = live_many(s, worker, count, next, wrong) {
                    locked(wrong).push(format!("worker {worker}: {stop:?}"));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap_or_else(|e| e.into_inner());
    if wrong.is_empty() {
        return Ok(());
    }
    if s.places.is_runc() {
        // Seen on 2.4.2: deletions told before the exit, and exits after the deletion.
        return skip(format!(
            "differs from runc: its shim broke the order {} times in {count} lives",
            wrong.len()
        ));
    }
    fail(format!(
        "{} violations in {count} lives:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    ))
}

/// Lives in a shim of its own until `count` lives have begun anywhere.
fn live_many(
    s: &ByHand,
    worker: usize,
    count: usize,
    next: &AtomicUsize,
    wrong: &std::sync::Mutex<Vec<String>>,
) -> Check {
    let keeper = s.running(&format!("keeper-{worker}"), &["sleep", "100000"])?;
    let other = Arc::new(Client::connect(&socket_of(s, &keeper.id))?);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count || locked(wrong).len() > 20 {
            return counts_no_violation(s, &keeper.id);
        }
        let id = format!("life-{number}");
        // Every second one calls over a second connection.
        let client = if number.is_multiple_of(2) {
            &keeper.client
        } else {
            &other
        };
        let did = live(s, &s.task_on(Arc::clone(client), &id), number)?;
        let gone = |w: &What| matches!(w, What::Delete { .. });
        s.events.expect(&id, "delete", gone)?;
        // A second exit would come late.
        let events = s.events.of(&id);
        locked(wrong).extend(violations(&id, &events, &did));
        let _ = std::fs::remove_dir_all(s.bundle(&id));
    }
}

/// The shim checks the order itself, and counts.
fn counts_no_violation(s: &ByHand, keeper: &str) -> Check {
    if s.places.is_runc() {
        return Ok(());
    }
    let mut rsrun = Command::new(s.places.bin.join("rsrun"));
    rsrun.args(["debug", "--namespace", s.ctr_ns(), keeper]);
    let told = command::run(&mut rsrun, Duration::from_secs(10))?
        .ok()?
        .stdout;
    match told.contains(" 0 out of order") {
        true => Ok(()),
        false => fail(told),
    }
}

fn socket_of(s: &ByHand, id: &str) -> std::path::PathBuf {
    let name = rsrun_tests::containerd::socket_name(&s.address(), s.ctr_ns(), id);
    std::path::Path::new(rsrun_tests::containerd::SOCKETS).join(name)
}

fn live(s: &ByHand, task: &Task, number: usize) -> Check<Did> {
    let life = LIVES[number % LIVES.len()];
    let args: &[&str] = match life {
        Life::Early => &["sh", "-c", "exit 5"],
        Life::Abandoned => &["sh", "-c", "sleep 0.05; exit 6"],
        Life::Killed | Life::Unborn | Life::Unwanted | Life::Frozen => &["sleep", "1000"],
    };
    s.prepare(&task.id, &s.spec(&task.id, args))?;
    let mut did = Did {
        pid: task.create(&s.rootfs(), &Streams::default())?,
        ..Did::default()
    };
    let waiting = task.clone();
    let waiter = std::thread::spawn(move || waiting.wait(INIT));

    match life {
        Life::Unborn => task.kill(INIT, 9)?,
        Life::Unwanted => {
            task.delete(INIT)?;
            // Whoever waited is let go; what it is told is the kill, if anything.
            did.status = waiter
                .join()
                .map_err(|_| "the waiter panicked")?
                .map_or(137, |e| e.status);
            return Ok(did);
        }
        Life::Early | Life::Killed | Life::Abandoned | Life::Frozen => {
            did.started = true;
            assert_eq!(task.start(INIT)?, did.pid);
        }
    }
    if matches!(life, Life::Killed | Life::Abandoned | Life::Frozen) {
        add_execs(task, life, number, &mut did)?;
    }
    if matches!(life, Life::Frozen) {
        task.pause()?;
        task.resume()?;
    }
    if matches!(life, Life::Killed | Life::Frozen) {
        task.kill(INIT, 9)?;
    }
    did.status = waiter.join().map_err(|_| "the waiter panicked")??.status;
    task.delete(INIT)?;
    Ok(did)
}

/// Up to three execs: one that ends, one that is killed or left running, one never started.
fn add_execs(task: &Task, life: Life, number: usize, did: &mut Did) -> Check {
    for n in 0..number % 4 {
        let exec = format!("e{n}");
        let args: &[&str] = if n == 0 {
            &["sh", "-c", "exit 7"]
        } else {
            &["sleep", "1000"]
        };
        match task.exec(&exec, args, &Streams::default()) {
            Ok(()) => did.execs.insert(exec.clone(), None),
            Err(refusal) if came_too_late(life, &refusal) => return Ok(()),
            Err(refusal) => return fail(format!("exec {exec} of {}: {refusal}", task.id)),
        };
        if n == 2 {
            continue;
        }
        match task.start(&exec) {
            Ok(pid) => {
                let status = if n == 0 || number % 8 < 4 {
                    if n != 0 {
                        // It may be over with the init.
                        let _ = task.kill(&exec, 9);
                    }
                    match task.wait(&exec) {
                        Ok(exit) => exit.status,
                        Err(refusal) => {
                            return fail(format!("wait for {exec} of {}: {refusal}", task.id));
                        }
                    }
                } else {
                    // Left running: it ends with the init.
                    137
                };
                did.execs.insert(exec, Some((pid, status)));
            }
            Err(refusal) if came_too_late(life, &refusal) => return Ok(()),
            Err(refusal) => return fail(format!("start {exec} of {}: {refusal}", task.id)),
        }
    }
    Ok(())
}

/// Whether a refusal says no more than that the container ended by itself meanwhile.
fn came_too_late(life: Life, refusal: &Refusal) -> bool {
    // Unknown is what the reference says. NotFound would mean that the exec is gone.
    let says_so = matches!(
        refusal.code(),
        Some(Code::FAILED_PRECONDITION | Code::UNKNOWN)
    );
    matches!(life, Life::Abandoned) && says_so
}
