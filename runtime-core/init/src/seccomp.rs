//! How the container's seccomp profile comes into force, and how its listener leaves the child.
//!
//! Under the profile any call may be answered by death, so no message can carry the listener, and no call
//! can wait. Its number goes into the page, the parent was woken just before and takes it with
//! pidfd_getfd, and the child looks at the page until it has been taken: some microseconds in which the
//! parent is running on another CPU or gets this one when the time slice ends.

use core::hint::spin_loop;
use core::sync::atomic::Ordering;

use crate::enter::Child;
use crate::raw::{self, Failed, Outcome};
use crate::step::{FilterLine, Wake};
use crate::wake;

/// Loads `filter`.
pub fn load(
    child: &mut Child<'_>,
    filter: &[FilterLine],
    flags: u32,
    listener: bool,
) -> Outcome<()> {
    if !listener {
        raw::seccomp_filter(filter, u64::from(flags))?;
        child.filtered = true;
        return Ok(());
    }
    wake::tell(child, Wake::Listener)?;
    #[allow(
        clippy::useless_conversion,
        reason = "c_ulong has 64 bits on the machines we know"
    )]
    let new_listener = u64::from(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    let number = raw::seccomp_filter(filter, u64::from(flags) | new_listener)?;
    child.filtered = true;
    let page = child.frozen.page;
    page.listener
        .store(i32::try_from(number).unwrap_or(-1), Ordering::Release);
    wait_until_taken(|| page.listener_taken.load(Ordering::Acquire) != 0)
}

/// Looks for half a minute or more; a parent that lives has ended the launch by its deadline before, and
/// without one this process must not keep a CPU busy for ever.
fn wait_until_taken(taken: impl Fn() -> bool) -> Outcome<()> {
    for _ in 0..1u64 << 30 {
        if taken() {
            return Ok(());
        }
        spin_loop();
    }
    Err(Failed::check(libc::ETIMEDOUT))
}
