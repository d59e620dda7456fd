//! The child's end of the wake socket: one byte says "look", the facts are in the page.

use crate::enter::Child;
use crate::raw::{self, Failed, Outcome};
use crate::step::Wake;

/// Sends `wake`.
pub fn tell(child: &Child<'_>, wake: Wake) -> Outcome<()> {
    raw::send(child.frozen.wake, &[wake as u8])
}

/// Sends `wake` with the descriptor `passenger`.
pub fn tell_with(child: &Child<'_>, wake: Wake, passenger: i32) -> Outcome<()> {
    raw::send_with_fd(child.frozen.wake, wake as u8, passenger)
}

/// Says that it is ready and waits for the parent, unless that has given it leave to go on before.
pub fn ready(child: &Child<'_>) -> Outcome<()> {
    if child.frozen.page.has_leave() {
        return Ok(());
    }
    exchange(child, Wake::Ready)
}

/// Sends `wake` and waits until the parent answers with the same byte. A parent that is gone can't
/// adopt, limit or start this process: it ends with a failed step.
pub fn exchange(child: &Child<'_>, wake: Wake) -> Outcome<()> {
    tell(child, wake)?;
    let mut answer = [0u8; 1];
    match (raw::read(child.frozen.wake, &mut answer)?, answer) {
        (1, [byte]) if byte == wake as u8 => Ok(()),
        (0, _) => Err(Failed::check(libc::EPIPE)),
        _ => Err(Failed::check(libc::EPROTO)),
    }
}
