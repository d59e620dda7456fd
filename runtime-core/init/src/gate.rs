//! The fifo that holds the child back until somebody starts the container.

use crate::enter::Child;
use crate::procfs;
use crate::raw::{self, Outcome};

/// Opens `fifo` for writing, which lasts until it is opened for reading. The descriptor is kept and
/// closes at execve: the reader's end of file.
pub fn open(child: &mut Child<'_>, fifo: i32) -> Outcome<()> {
    child.gate = procfs::reopen(child, fifo, libc::O_WRONLY)?.keep();
    Ok(())
}

/// Writes step and errno for the reader, if the gate was passed. Nobody is left to hear a failure.
pub fn tell(gate: i32, step: u32, errno: i32) {
    if gate < 0 {
        return;
    }
    let [a, b, c, d] = step.to_ne_bytes();
    let [e, f, g, h] = errno.to_ne_bytes();
    let _ = raw::write(gate, &[a, b, c, d, e, f, g, h]);
}
