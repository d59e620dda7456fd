//! Does the shim tell which call waits for what, since when? Asked by `rsrun debug` and by SIGUSR1.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command::{self, Outcome, eventually};
use rsrun_tests::suite::{Case, Check, fail, skip};
use rsrun_tests::task::{INIT, Streams, Task};
use serde_json::json;

use crate::binary::shim_of;

pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        60 s: a_create_stuck_in_a_hook_is_told_as_waiting_for_that_hook, every_pending_call_is_told_with_its_reason,
            a_signal_has_the_same_told_in_the_log, where_there_is_no_shim_debug_says_so;
    ]
}

/// `rsrun debug --namespace … ID`, which knows the root that a shim without options has.
fn debug(s: &ByHand, id: &str) -> Check<Outcome> {
    let mut rsrun = Command::new(s.places.bin.join("rsrun"));
    rsrun.args(["debug", "--namespace", s.ctr_ns(), id]);
    command::run(&mut rsrun, Duration::from_secs(10))
}

/// The lines of the dump, once one of them has all of `words`.
fn told(s: &ByHand, id: &str, words: &[&str]) -> Check<String> {
    let mut last = String::new();
    let found = eventually("a line of the dump", Duration::from_secs(10), || {
        last = match debug(s, id) {
            Ok(outcome) => outcome.stdout + &outcome.stderr,
            Err(stop) => format!("{stop:?}"),
        };
        line_with(&last, words).is_some()
    });
    match (found, line_with(&last, words)) {
        (Ok(()), Some(line)) => Ok(line.to_owned()),
        _ => fail(format!("no line with {words:?} in:\n{last}")),
    }
}

fn line_with<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    text.lines()
        .find(|line| words.iter().all(|word| line.contains(word)))
}

/// For how many seconds the last thing in a line has been so.
fn seconds(line: &str) -> Check<f64> {
    let last = line.rsplit_once(" (").map(|(_, last)| last);
    let number = last.and_then(|last| last.strip_suffix(" s)"));
    Ok(number
        .ok_or_else(|| format!("no time at the end of {line:?}"))?
        .parse()?)
}

/// A create that hangs in its second hook, beside a sibling in the same shim.
fn stuck(s: &ByHand) -> Check<(Task, Task)> {
    let sibling = s.running("sibling", &["sleep", "1000"])?;
    let mut spec = s.spec("stuck", &["sleep", "1000"]);
    spec["hooks"] = json!({"createRuntime": [
        {"path": "/bin/true"},
        {"path": "/bin/sleep", "args": ["sleep", "600"]},
    ]});
    s.prepare("stuck", &spec)?;
    // containerd's `start` for the second of a pod leaves the address there.
    std::fs::copy(
        s.bundle("sibling").join("address"),
        s.bundle("stuck").join("address"),
    )?;
    let task = s.task_on(sibling.client.clone(), "stuck");
    Ok((sibling, task))
}

fn while_stuck(s: &ByHand, look: impl FnOnce(&Task) -> Check) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: its shim has nothing of the kind");
    }
    let (sibling, task) = stuck(s)?;
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| task.create(&s.rootfs(), &Streams::default()));
        let looked = look(&sibling);
        task.kill(INIT, 9)?;
        let answer = creating.join().map_err(|_| "the create panicked")?;
        assert!(answer.is_err(), "{answer:?}");
        looked
    })
}

const IN_THE_HOOK: [&str; 3] = [
    "Create of container stuck since ",
    " waits for create since ",
    ": hook createRuntime #1 (/bin/sleep) since ",
];

fn a_create_stuck_in_a_hook_is_told_as_waiting_for_that_hook(s: &ByHand) -> Check {
    while_stuck(s, |_| {
        let first = seconds(&told(s, "stuck", &IN_THE_HOOK)?)?;
        std::thread::sleep(Duration::from_secs(2));
        let second = seconds(&told(s, "stuck", &IN_THE_HOOK)?)?;
        // Since when, and not since the last question.
        let later = second - first;
        assert!(later >= 1.9, "{first} s, then {second} s");
        Ok(())
    })
}

fn every_pending_call_is_told_with_its_reason(s: &ByHand) -> Check {
    while_stuck(s, |sibling| {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| sibling.wait(INIT));
            told(
                s,
                "sibling",
                &[
                    "Wait of container sibling since ",
                    " waits for the exit of the process",
                ],
            )?;
            told(s, "sibling", &["container sibling Running pid "])?;
            told(s, "sibling", &["outbox: 0 events unsent, 0 out of order"])?;
            sibling.kill(INIT, 9)?;
            assert_eq!(
                waiting.join().map_err(|_| "the wait panicked")??.status,
                137
            );
            Check::Ok(())
        })?;
        // The shim serves on, and what is answered is told no longer.
        let text = debug(s, "sibling")?.ok()?.stdout;
        assert!(
            line_with(&text, &["Wait of container sibling"]).is_none(),
            "{text}"
        );
        Ok(())
    })
}

fn a_signal_has_the_same_told_in_the_log(s: &ByHand) -> Check {
    while_stuck(s, |sibling| {
        told(s, "stuck", &IN_THE_HOOK)?;
        kill(shim_of(sibling)?, Signal::SIGUSR1)?;
        eventually("the dump in the log", Duration::from_secs(10), || {
            line_with(&s.log(), &IN_THE_HOOK).is_some()
        })
    })
}

fn where_there_is_no_shim_debug_says_so(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: its shim has nothing of the kind");
    }
    debug(s, "nobody")?.refused("nobody")?;
    let task = s.running("lonely", &["sleep", "1000"])?;
    debug(s, "lonely")?.ok()?;
    let shim = shim_of(&task)?;
    kill(shim, Signal::SIGKILL)?;
    eventually("the end of the shim", Duration::from_secs(5), || {
        !rsrun_tests::proc::is_alive(shim)
    })?;
    debug(s, "lonely")?.refused("no shim at")?;
    s.delete("lonely")?;
    debug(s, "lonely")?.refused("lonely")?;
    Ok(())
}
