//! Does a shim sleep while its container does nothing?

use std::time::Duration;

use rsrun_tests::by_hand::ByHand;
use rsrun_tests::command::eventually;
use rsrun_tests::proc;
use rsrun_tests::suite::{Case, Check, skip};

/// These wait: run in one manner only.
pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![60 s: an_idle_container_wakes_no_thread_of_its_shim]
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
