//! Does a shim sleep while its container does nothing?

use std::time::Duration;

use nix::unistd::Pid;
use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command::eventually;
use rsrun_tests::footprint::Footprint;
use rsrun_tests::proc;
use rsrun_tests::suite::{Case, Check, skip};
use rsrun_tests::task::INIT;

/// These wait: run in one manner only.
pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![60 s: an_idle_container_wakes_no_thread_of_its_shim, memory_is_given_back_after_any_request]
}

/// What SPECIFICATION.md promises of a shim that serves and is not asked, in kB.
const AT_REST: u64 = 2048;

fn memory_is_given_back_after_any_request(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: a Go shim has sixteen MB");
    }
    let task = s.running("rest", &["sleep", "1000"])?;
    let shim = Pid::from_raw(task.connect()?.0.try_into()?);
    let at_rest = |after: &str| {
        eventually(
            &format!("at rest after {after}"),
            Duration::from_secs(10),
            || Footprint::of(shim).is_ok_and(|f| f.pss <= AT_REST),
        )
    };
    at_rest("Create and Start")?;
    for _ in 0..2 {
        task.stats()?;
        at_rest("Stats")?;
        task.pids()?;
        at_rest("Pids")?;
        task.pause()?;
        at_rest("Pause")?;
        task.state(INIT)?;
        task.resume()?;
        at_rest("Resume")?;
    }
    Ok(())
}

fn an_idle_container_wakes_no_thread_of_its_shim(s: &ByHand) -> Check {
    if s.places.is_runc() {
        return skip("differs from runc: timers of Go wake its shim");
    }
    let task = s.running("idle", &["sleep", "1000"])?;
    let shim = task.connect()?.0;
    // What follows a start, such as events on their way, ends by itself.
    let mut before = proc::voluntary_switches(shim);
    eventually("the shim is at rest", Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_secs(1));
        let now = proc::voluntary_switches(shim);
        std::mem::replace(&mut before, now) == now
    })?;
    assert!(before > 0, "no thread was seen");
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(proc::voluntary_switches(shim), before);
    Ok(())
}
